"""Exceptions that fight whoever looks at them, and tasks that raise them."""

import signal
import time
from typing import Any, NoReturn

__all__ = ["FIGHTERS", "araise_fighter", "is_finally_run", "raise_fighter"]


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
