"""Exceptions that fight whoever looks at them, tasks that raise them, and data that forks."""

import os
import signal
import time
from typing import Any, NoReturn

__all__ = [
    "FIGHTERS", "ForkingArgument", "ForkingOnArrival", "araise_fighter", "fork_and_keep", "fork_here", "is_finally_run",
    "keep", "kept", "make", "raise_fighter",
]  # fmt: skip


def _refuse(self: object) -> NoReturn:
    raise RuntimeError("not today")


#: Asks who asks for its class to leave.
NoClass = type("NoClass", (Exception,), {"__class__": property(_refuse)})
#: Has no traceback to show.
NoTraceback = type("NoTraceback", (Exception,), {"__traceback__": property(_refuse)})


class NoAttributes(Exception):
    """Has nothing to show at all."""

    def __getattribute__(self, name: str) -> NoReturn:
        raise RuntimeError("no attribute today")


class NoFrames(Exception):
    """Cannot be given a traceback."""

    def with_traceback(self, tb: object) -> NoReturn:
        raise SystemExit(9)


FIGHTERS: dict[str, Any] = {kind.__name__: kind for kind in (NoClass, NoTraceback, NoAttributes, NoFrames)}


def raise_fighter(name: str) -> NoReturn:
    raise FIGHTERS[name]("fights")


async def araise_fighter(name: str) -> NoReturn:
    raise FIGHTERS[name]("fights")


def is_finally_run(path: str) -> None:
    """Leave a file behind when interrupted."""
    assert signal.SIGURG in signal.valid_signals()
    try:
        time.sleep(60)
    finally:
        open(path, "w").close()


# -- forks that return in both processes ------------------------------------------------------------------------------


def fork_here() -> str:
    """Fork; say in the parent how the child has left, and in the child that it is there."""
    child = os.fork()
    if not child:
        signal.alarm(20)
        return "child"
    return f"left with {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}"


class ForkingArgument:
    """Forks when it is pickled; arrives as what ``fork_here`` says."""

    def __reduce__(self) -> Any:
        return str, (fork_here(),)


class ForkingOnArrival:
    """Forks when it is rebuilt."""

    def __reduce__(self) -> Any:
        return fork_here, ()


def make(name: str) -> Any:
    return {"pickled": ForkingArgument, "rebuilt": ForkingOnArrival}[name]()


_kept: list[Any] = []


def keep(value: Any) -> None:
    """Be an initializer."""
    _kept.append(value)


def fork_and_keep() -> None:
    """Be an initializer that forks."""
    _kept.append(fork_here())


def kept() -> Any:
    return _kept
