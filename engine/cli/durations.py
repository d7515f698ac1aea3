"""Durations as people type them: ``90s``, ``15m``, ``6h``, ``7d``."""

import re

__all__ = ["parse_duration"]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_FORM = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhd])")  # bounded, so that no text is long to look at


def parse_duration(text: str) -> float:
    """Return the seconds that ``text`` says: one number and its unit, at most 1e9 seconds.

    Raises:
        ValueError: it says something else.
    """
    match = _FORM.fullmatch(text)
    seconds = float(match[1]) * _UNITS[match[2]] if match else -1.0
    if not 0 <= seconds <= 1e9:
        shown = text if len(text) <= 40 else text[:40] + "..."
        raise ValueError(f"expected a duration such as 90s, 15m, 6h or 7d, got {shown!r}")
    return seconds
