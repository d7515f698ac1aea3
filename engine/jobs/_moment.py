"""Two readings of one instant: UTC for people, and a clock that nobody can set for durations (design/0014)."""

from dataclasses import dataclass

__all__ = ["Moment"]


@dataclass(frozen=True, slots=True)
class Moment:
    """An instant on both clocks, and the boot to which the second belongs."""

    wall: float  #: seconds since the epoch, UTC; jumps when somebody sets the clock
    steady: float  #: about the same number; runs evenly while the machine is up, and is shared by all its processes
    boot: str = ""  #: of which boot ``steady`` is
