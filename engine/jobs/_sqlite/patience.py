"""How a connection waits while another process holds the file."""

import logging
import random
import time
from collections.abc import Callable

from .lockers import who_writes

__all__ = ["Patience", "checked", "for_seconds", "in_pieces"]

Patience = Callable[[], bool]  #: asked before each wait: may one wait on?

_PIECE_SECONDS = 0.002  #: transactions of others are short; SQLite's own handler sleeps up to 100 ms
LONG_SECONDS = 5.0  #: after which the log tells of a wait

_logger = logging.getLogger("engine.jobs")


def for_seconds(seconds: float) -> Callable[[int], bool]:
    """Return a busy handler that waits at most ``seconds`` for one lock."""
    end = 0.0

    def handler(waits: int) -> bool:
        nonlocal end
        now = time.monotonic()
        if waits == 0:
            end = now + seconds
        if now >= end:
            return False
        _sleep()
        return True

    return handler


def checked(check: Callable[[], object], handler: Callable[[int], bool]) -> Callable[[int], bool]:
    """Return a busy handler that waits as ``handler`` does, unless ``check`` raises, which whoever waits is told."""

    def ask(waits: int) -> bool:
        check()
        return handler(waits)

    return ask


def in_pieces(patience: Patience, path: str) -> Callable[[int], bool]:
    """Return a busy handler that waits for as long as ``patience`` says so; the log tells of a long wait once."""
    begun = 0.0
    is_told = False

    def handler(waits: int) -> bool:
        nonlocal begun, is_told
        if not patience():
            return False
        now = time.monotonic()
        if waits == 0:
            begun, is_told = now, False
        elif now - begun >= LONG_SECONDS and not is_told:
            is_told = True
            _warn(path, now - begun)
        _sleep()
        return True

    return handler


def _warn(path: str, seconds: float) -> None:
    who = who_writes(path)
    _logger.warning(
        "%s has been locked for %.0f s%s, and what is to be written waits: somebody keeps a transaction open (a "
        "connection of jobs.connect(), another program, a debugger); end it", path, seconds, f" by {who}" * bool(who),
    )  # fmt: skip


def _sleep() -> None:
    time.sleep(_PIECE_SECONDS * (0.5 + random.random()))  # not all that wait at the same instant
