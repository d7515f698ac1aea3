"""Checks of what comes in, all in one grammar: ``expected X to be ..., got ...``.

A value may be of a class that fights whoever looks (``__eq__``, ``__class__``, comparisons that raise). So its type is
asked, never its ``__class__``, and what is returned is of the built-in type itself: nothing of the value's own class is
called here, nor later.
"""

import math
from collections.abc import Iterable
from typing import Any

__all__ = [
    "flag", "instance", "integer", "is_a", "member", "no_such", "number", "positive_int", "real", "seconds", "shown",
    "size_bytes", "string", "text", "unawaited", "wrong",
]  # fmt: skip


def is_a(value: object, kind: type | tuple[type, ...]) -> bool:
    """Say whether ``value`` is of ``kind``, whatever it says of itself."""
    return issubclass(type(value), kind)


def integer(value: Any) -> int | None:
    """Return ``value`` as an exact int; None if it is none, or a bool."""
    return int.__add__(value, 0) if is_a(value, int) and type(value) is not bool else None


def real(value: Any) -> float | None:
    """Return ``value`` as an exact int or float; None if it is neither, or a bool."""
    return float.__add__(value, 0.0) if is_a(value, float) else integer(value)


def string(value: Any) -> str | None:
    """Return ``value`` as an exact str; None if it is none."""
    return str.__str__(value) if is_a(value, str) else None


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
    exact = integer(value)
    if exact is None or exact < least:
        raise wrong(name, expected, value, remedy)
    if exact > 10**9:
        raise wrong(name, expected + ", at most 1e9", value, remedy)
    return exact


def size_bytes(name: str, value: Any, *, least: int = 1) -> int:
    """Return ``value`` if it is an int of at least ``least`` bytes (a bool is not), at most 2**60."""
    exact = integer(value)
    if exact is None or not least <= exact <= 1 << 60:
        expected = f"a number of bytes (an integer) of at least {least}"
        raise wrong(name, expected, value, "for two gibibytes say 2 * 1024**3")
    return exact


def seconds(name: str, value: Any, *, zero: bool = False, remedy: str = "") -> float:
    """Return ``value`` as float seconds if it is a finite number above zero (or zero where ``zero``), at most 1e9."""
    expected = "a finite number of seconds, " + ("zero or more" if zero else "more than zero")
    exact = real(value)
    if exact is None:
        raise wrong(name, expected, value, remedy)
    number = float(exact) if abs(exact) <= 10**9 else math.inf
    if not math.isfinite(number) or number < 0 or (number == 0 and not zero):
        raise wrong(name, expected + ", at most 1e9", value, remedy)
    return number


def number(name: str, value: Any) -> float:
    """Return ``value`` as an int or float, also one of NumPy's, a Fraction or a Decimal.

    Raises:
        ValueError: it is no number.
    """
    exact, kind = real(value), type(value)
    if exact is not None:
        return exact
    try:
        if hasattr(kind, "__index__"):
            exact = real(kind.__index__(value))
        elif hasattr(kind, "__float__"):
            exact = float(value)
    except Exception:  # an array, say, or code of its own
        pass
    if exact is None:
        raise wrong(name, "a number", value)
    return exact


def flag(name: str, value: Any) -> bool:
    """Return ``value`` if it is True or False."""
    if type(value) is not bool:
        raise wrong(name, "True or False", value)
    return value


def member(name: str, value: Any, allowed: tuple[str, ...]) -> str:
    """Return ``value`` if it is one of the ``allowed`` strings."""
    exact = string(value)
    if exact is None or exact not in allowed:
        raise wrong(name, "one of " + ", ".join(repr(a) for a in allowed), value)
    return exact


def instance(name: str, value: Any, kind: type | tuple[type, ...], expected: str) -> Any:
    """Return ``value`` if it is an instance of ``kind``."""
    if not is_a(value, kind):
        raise wrong(name, expected, value)
    return value


def text(name: str, value: Any, *, most: int) -> str:
    """Return ``value`` if it is a string of 1 to ``most`` characters."""
    exact = string(value)
    if exact is None or not 0 < len(exact) <= most:
        raise wrong(name, f"a string of 1 to {most} characters", value)
    return exact


def no_such(options: str, known: Iterable[str], name: str, remedy: str = "") -> TypeError:
    """Build the error for the keyword ``name``, which is not among ``known``."""
    said = f"expected {options} to be among {', '.join(sorted(known))}, got {name!r}"
    return TypeError(said + (f"; {remedy}" if remedy else ""))


def unawaited(coroutine: Any) -> TypeError:
    """Close a coroutine that a plain function returned, and build the error for its task."""
    error = TypeError(
        f"expected a plain function to return a value, got {shown(coroutine)}, which nobody awaits; submit the "
        "coroutine function itself, and in a thread use engine.submit(...).result() in place of engine.run(...)"
    )
    coroutine.close()
    return error
