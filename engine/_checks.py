"""Checks of what comes in, all in one grammar: ``expected X to be ..., got ...``."""

import math
from typing import Any

__all__ = [
    "flag", "instance", "member", "positive_int", "seconds", "shown", "size_bytes", "text", "unawaited", "wrong",
]  # fmt: skip


def shown(value: object) -> str:
    """Return a short, single-line, printable form of ``value`` that cannot itself fail."""
    try:
        text = ascii(value)
    except BaseException as error:  # a repr of user code may raise anything; the message must still be made
        text = f"<{type(value).__name__} whose repr raised {type(error).__name__}>"
    return text if len(text) <= 80 else text[:77] + "..."


def wrong(name: str, expected: str, value: object, remedy: str = "") -> ValueError:
    """Build the error for a bad ``value`` of parameter ``name``."""
    return ValueError(f"expected {name} to be {expected}, got {shown(value)}" + (f"; {remedy}" if remedy else ""))


def positive_int(name: str, value: Any, *, least: int = 1, remedy: str = "") -> int:
    """Return ``value`` if it is an int of at least ``least`` (a bool is not), at most 1e9."""
    expected = "a positive integer" if least == 1 else f"an integer of at least {least}"
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise wrong(name, expected, value, remedy)
    if value > 10**9:
        raise wrong(name, expected + ", at most 1e9", value, remedy)
    return value


def size_bytes(name: str, value: Any, *, least: int = 1) -> int:
    """Return ``value`` if it is an int of at least ``least`` bytes (a bool is not), at most 2**60."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= 1 << 60:
        expected = f"a number of bytes (an integer) of at least {least}"
        raise wrong(name, expected, value, "for two gibibytes say 2 * 1024**3")
    return value


def seconds(name: str, value: Any, *, zero: bool = False, remedy: str = "") -> float:
    """Return ``value`` as float seconds if it is a finite number above zero (or zero where ``zero``), at most 1e9."""
    expected = "a finite number of seconds, " + ("zero or more" if zero else "more than zero")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise wrong(name, expected, value, remedy)
    number = float(value) if abs(value) <= 10**9 else math.inf
    if not math.isfinite(number) or number < 0 or (number == 0 and not zero):
        raise wrong(name, expected + ", at most 1e9", value, remedy)
    return number


def flag(name: str, value: Any) -> bool:
    """Return ``value`` if it is True or False."""
    if not isinstance(value, bool):
        raise wrong(name, "True or False", value)
    return value


def member(name: str, value: Any, allowed: tuple[str, ...]) -> str:
    """Return ``value`` if it is one of the ``allowed`` strings."""
    if not isinstance(value, str) or value not in allowed:
        raise wrong(name, "one of " + ", ".join(repr(a) for a in allowed), value)
    return value


def instance(name: str, value: Any, kind: type | tuple[type, ...], expected: str) -> Any:
    """Return ``value`` if it is an instance of ``kind``."""
    if not isinstance(value, kind):
        raise wrong(name, expected, value)
    return value


def text(name: str, value: Any, *, most: int) -> str:
    """Return ``value`` if it is a string of 1 to ``most`` characters."""
    if not isinstance(value, str) or not 0 < len(value) <= most:
        raise wrong(name, f"a string of 1 to {most} characters", value)
    return value


def unawaited(coroutine: Any) -> TypeError:
    """Close a coroutine that a plain function returned, and build the error for its task."""
    error = TypeError(
        f"expected a plain function to return a value, got {shown(coroutine)}, which nobody awaits; submit the "
        "coroutine function itself, and in a thread use engine.submit(...).result() in place of engine.run(...)"
    )
    coroutine.close()
    return error
