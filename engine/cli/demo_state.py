"""How far a run of the demo is: what its tables are made of, whenever it ends."""

from collections.abc import Iterator
from typing import Any

from engine import Lane

from .comparison import Comparison
from .demo_work import Work
from .lane_times import LaneTimes
from .totals import Totals

__all__ = ["DemoState"]


class DemoState:
    """What a run of ``work`` has found so far. A run is one, and knows how to ``run``."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.totals = Totals()
        self.times = LaneTimes()
        self.slots = {Lane.THREAD: 0, Lane.PROCESS: 0, Lane.LOOP: 1}
        self.found = 0  #: .py files
        self.expected = 0  #: these, and the directories that could not be searched
        self.earlier = 0  #: of these, what earlier runs had done
        self.elapsed = 0.0  #: seconds by the clock on the wall, without the comparison
        self.comparison: Comparison | None = None

    def run(self) -> None:
        """Do it all. Ctrl-C raises KeyboardInterrupt once the engine has stopped; what was done is kept."""
        raise NotImplementedError

    def last_lines(self) -> Iterator[str]:
        """Yield what is to be said after the tables."""
        return iter(())

    def jobs_as_dict(self) -> dict[str, Any] | None:
        """Return what ``--json`` says of jobs; None where there were none."""
        return None
