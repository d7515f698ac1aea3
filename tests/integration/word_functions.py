"""What ``test_words.py`` runs in worker processes."""

from typing import Any

from engine import current_task


class Silent(Exception):
    """Says nothing."""


class FailsWhenLoaded:
    """Can be pickled; raises where it is rebuilt, with or without a word."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def __reduce__(self) -> Any:
        return fail, self.words


def fail(*words: str) -> None:
    raise Silent(*words)


def make(*words: str) -> FailsWhenLoaded:
    return FailsWhenLoaded(*words)


def report(done: Any, total: Any = None, message: Any = "") -> None:
    current_task().progress(done, total, message)


def report_numpy(kind: str) -> None:
    """Report with numbers of NumPy's, as a loop over an array does."""
    import numpy as np

    number = getattr(np, kind)
    current_task().progress(number(3), number(8), "third")


async def report_on_the_loop(done: Any, total: Any = None) -> None:
    report(done, total)


def receive(*args: object) -> int:
    return len(args)
