"""The measured speed-up: the same files one after another, and through the engine.

Both runs do the same three steps on the same sample, by the clock on the wall, with the files in the page cache and
the workers started: what is compared is the work, not the start of it.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from .metrics import Metrics, measure
from .sources import read_source
from .totals import Totals

__all__ = ["Comparison", "run_in_sequence", "take_sample"]

SAMPLE_SECONDS = 3.0  #: how much work, by what the files took in the workers, a sample should hold at most


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs over the same files."""

    files: int
    size_bytes: int
    sequential_seconds: float
    engine_seconds: float
    processes: int  #: workers that the engine had
    load: float  #: of the machine before the demo began (1-minute average): others' work takes from the speed-up
    processors: int

    @property
    def speed_up(self) -> float:
        """Give how many times as fast as one after another the engine was."""
        return self.sequential_seconds / self.engine_seconds

    @property
    def is_disturbed(self) -> bool:
        """Say whether others used the machine so much that the speed-up says little."""
        return self.load > self.processors / 4


def take_sample(files: Sequence[Metrics], most: int, bytes_per_second: float) -> list[str]:
    """Return the paths of at most ``most`` files, evenly spaced over all and at most ``SAMPLE_SECONDS`` of work.

    Evenly spaced, not the first or a random choice: directories differ, and the same tree gives the same sample.
    """
    ordered = sorted(files, key=lambda file: file["path"])
    total_bytes = sum(file["size_bytes"] for file in ordered)
    affordable = len(ordered) * SAMPLE_SECONDS * bytes_per_second / max(total_bytes, 1)
    number = min(len(ordered), most, max(1, int(affordable)))
    return [ordered[index * len(ordered) // number]["path"] for index in range(number)]


def run_in_sequence(root: str, paths: Sequence[str]) -> tuple[Totals, float]:
    """Read, measure and merge ``paths`` one after another on this thread; return the totals and the seconds."""
    totals = Totals()
    began = time.perf_counter()
    for path in paths:
        source = read_source(root, path)
        totals.add(measure(source) if isinstance(source, tuple) else source)
    return totals, time.perf_counter() - began
