"""When to try again, and after how long: pure decisions."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import _checks
from .errors import RemoteError

__all__ = ["Retry"]


def evenly() -> float:
    """Return a number in [0, 1), each as likely: ``random.random``, without the millisecond that its import takes."""
    return int.from_bytes(os.urandom(6)) / 2**48


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """A retry policy. ``max_attempts`` counts every run, the first included.

    The delay before attempt n+1 is ``min(max_delay, base_delay * factor ** (n - 1))`` seconds, times a random factor
    between ``1 - jitter`` and ``1 + jitter``. Errors of the function, ``TaskTimeout`` and ``WorkerCrashed`` are retried
    where ``on`` names them and ``give_up_on`` does not, also where they arrive as a RemoteError that stands for them;
    pickling, start-up and stop errors and cancellation never are.

    Raises:
        ValueError: a number is out of range, or ``on`` or ``give_up_on`` is not a tuple of exception classes.
    """

    max_attempts: int = 3
    base_delay: float = 1.0
    factor: float = 2.0
    max_delay: float = 60.0
    jitter: float = 0.1
    on: tuple[type[BaseException], ...] = (Exception,)
    give_up_on: tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        checked: dict[str, object] = {
            "max_attempts": _checks.positive_int(
                "max_attempts", self.max_attempts, remedy="use max_attempts=1 for no retry"
            ),
            "base_delay": _checks.seconds("base_delay", self.base_delay, zero=True),
            "max_delay": _checks.seconds("max_delay", self.max_delay, zero=True),
            "factor": _number_between(
                "factor", self.factor, 1, sys.float_info.max, "a finite number of at least 1",
                "use factor=1 for a fixed delay",
            ),
            "jitter": _number_between("jitter", self.jitter, 0, 1, "a number from 0 to 1"),
            "on": _classes("on", self.on),
            "give_up_on": _classes("give_up_on", self.give_up_on),
        }  # fmt: skip
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def delay_after(self, attempt: int, rng: Callable[[], float] = evenly) -> float:
        """Return the seconds to wait after attempt number ``attempt`` failed; ``rng`` gives numbers in [0, 1)."""
        try:
            delay = min(self.max_delay, self.base_delay * self.factor ** (attempt - 1))
        except OverflowError:  # 2.0 ** 10000 does not fit a float; the bound is the answer
            delay = self.max_delay if self.base_delay else 0.0
        return delay * (1 + self.jitter * (2 * rng() - 1))

    def wants(self, error: BaseException, attempt: int) -> bool:
        """Say whether ``error`` of attempt number ``attempt`` calls for another one."""
        return attempt < self.max_attempts and _is_any_of(error, self.on) and not _is_any_of(error, self.give_up_on)


def _is_any_of(error: BaseException, kinds: tuple[type[BaseException], ...]) -> bool:
    """Say whether ``error`` is one of ``kinds``, or stands for one that could not be raised here."""
    if isinstance(error, kinds):
        return True
    return isinstance(error, RemoteError) and any(error.stands_for(kind) for kind in kinds)


def _number_between(name: str, value: object, least: float, most: float, expected: str, remedy: str = "") -> float:
    exact = _checks.real(value)
    if exact is None or not least <= exact <= most:  # false for NaN
        raise _checks.wrong(name, expected, value, remedy)
    return exact


def _classes(name: str, value: object) -> tuple[type[BaseException], ...]:
    classes: tuple[Any, ...] | None = tuple(tuple.__iter__(value)) if _checks.is_a(value, tuple) else None  # type: ignore[arg-type]  # is_a asked
    if classes is None or not all(_checks.is_a(each, type) and issubclass(each, BaseException) for each in classes):
        raise _checks.wrong(name, "a tuple of exception classes", value, f"use {name}=(OSError,)")
    return classes
