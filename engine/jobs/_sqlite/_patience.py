"""How a connection waits while another process holds the file."""

import random
import time
from collections.abc import Callable

__all__ = ["Patience", "for_seconds", "in_pieces"]

Patience = Callable[[], bool]  #: asked before each wait: may one wait on?

_PIECE_SECONDS = 0.002  #: transactions of others are short; SQLite's own handler sleeps up to 100 ms


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


def in_pieces(patience: Patience) -> Callable[[int], bool]:
    """Return a busy handler that waits for as long as ``patience`` says so."""

    def handler(waits: int) -> bool:
        if not patience():
            return False
        _sleep()
        return True

    return handler


def _sleep() -> None:
    time.sleep(_PIECE_SECONDS * (0.5 + random.random()))  # not all that wait at the same instant
