"""Names that people see: of tasks, queues, locks."""

from typing import Any

from ... import _checks

__all__ = ["MOST", "check_name", "check_pattern"]

MOST = 200  #: characters


def check_name(what: str, value: Any, *, remedy: str = "") -> str:
    """Return ``value`` if it can be shown on one line as what it is: 1 to 200 printable characters.

    So there is no control character in it, no line end, nothing that turns the direction of writing, no surrogate.
    """
    exact = _checks.string(value)
    if exact is None or not 0 < len(exact) <= MOST or not exact.isprintable():
        raise _checks.wrong(what, f"a string of 1 to {MOST} printable characters", value, remedy)
    return exact


def check_pattern(what: str, value: Any) -> str:
    """Return ``value`` if it is a pattern of names such as ``reports.*`` that can be matched quickly."""
    pattern = check_name(what, value)
    if pattern.count("*") > 3:
        raise _checks.wrong(what, "a pattern with at most three *", value)
    return pattern
