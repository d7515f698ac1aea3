"""Durations that people say: seconds, or a timedelta."""

from __future__ import annotations

import datetime
from typing import Any

from .. import _checks

__all__ = ["duration"]


def duration(name: str, value: Any, *, zero: bool = False, remedy: str = "") -> float:
    """Return ``value`` as seconds, as ``_checks.seconds`` does; it may be a timedelta, too."""
    exact = datetime.timedelta.total_seconds(value) if _checks.is_a(value, datetime.timedelta) else value
    return _checks.seconds(name, exact, zero=zero, remedy=remedy)
