"""Which process this is, told without a system call: how many forks lie between it and the start of its program, and
whether it is a worker; what must not be done there while a module is imported.

Guarantees
    ``forks`` is written in a forked child alone, before any other code runs there.  Callers: any thread.
    A child that is forked behind Python's back, by C code that never calls its hooks, is not noticed.
"""

import os
import sys

__all__ = ["check_no_import", "forks", "is_worker"]

forks = 0
is_worker = False  #: this process runs the tasks of an engine in another one; set when it starts


def _count() -> None:
    global forks
    forks += 1


def check_no_import(what: str) -> None:
    """Refuse to do ``what`` in a worker while a module is imported on this thread, most often the program's own.

    A worker imports the module of a function; a module that then starts engines, whose workers import it too, would go
    on for ever.

    Raises:
        RuntimeError: that is so.
    """
    frame = sys._getframe(1) if is_worker else None
    module = ""
    while frame is not None:
        if frame.f_code.co_name == "<module>":
            module = module or str(frame.f_globals.get("__name__"))
        elif frame.f_code.co_filename.startswith("<frozen importlib") and module:
            raise RuntimeError(
                f"expected {what} in a program or a task, got it while a worker process imports {module!r};"
                f' put it under: if __name__ == "__main__":'
            )
        frame = frame.f_back


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_count)
