"""What every command's parser shares: how it says what is wrong, and the kinds of values."""

import argparse
import math
import re
from typing import Any, NoReturn

from .durations import parse_duration

__all__ = ["Parser", "duration", "not_negative", "positive", "seconds"]


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line.

    ``late`` names a positional argument that may be empty, and that may come after options all the same: argparse takes
    it for empty as soon as it meets an option.
    """

    late: str | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse what is known; return it and the rest."""
        known, rest = super().parse_known_args(args, namespace)
        if self.late is None or any(text.startswith("-") for text in rest):
            return known, rest
        try:
            setattr(known, self.late, [*getattr(known, self.late), *map(positive, rest)])
        except argparse.ArgumentTypeError as error:
            self.error(str(error))
        return known, []

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see: {self.prog} --help\n")


def positive(text: str) -> int:
    """Read a positive integer."""
    return _at_least(1, text, "a positive integer")


def not_negative(text: str) -> int:
    """Read an integer of at least 0."""
    return _at_least(0, text, "an integer of at least 0")


def seconds(text: str) -> float:
    """Read a number of seconds as ``30`` or ``2.5``."""
    number = float(text) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) else math.nan
    if math.isnan(number):
        raise argparse.ArgumentTypeError(f"expected a number of seconds such as 30 or 2.5, got {text[:40]!r}")
    return number


def duration(text: str) -> float:
    """Read a duration such as ``7d``."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _at_least(least: int, text: str, expected: str) -> int:
    number = int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else least - 1
    if number < least:
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text[:40]!r}")
    return number
