"""Which process backend the engine takes on this machine."""

from .findings import Finding, checks, good, weak

__all__ = ["BACKEND_CHECKS"]

_REMEDY = 'it is slower and untested outside Linux: see "Where it runs" in the README'


@checks("process backend", "use Linux")
def _backend() -> Finding:
    from engine import Engine  # here, so that a library that is missing is a lack of the machine and no traceback

    name = Engine().process_backend
    if name == "native":
        return good("process backend", "auto takes native: our own worker protocol")
    return weak("process backend", f"auto takes {name}: parts of the native one are missing here", _REMEDY)


BACKEND_CHECKS = (_backend,)
