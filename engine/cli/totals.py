"""What the demo has found so far.

Touched on the engine's event loop only: by the merging coroutine and by whoever shows progress.
"""

import heapq
from collections import Counter
from collections.abc import Callable

from .metrics import Failure, Metrics

__all__ = ["ORDERS", "Totals"]

#: What ``--by`` may say, and what it sorts the files by.
ORDERS: dict[str, Callable[[Metrics], float]] = {
    "branches": lambda file: file["branches"],
    "compression": lambda file: file["compression"],
    "functions": lambda file: file["functions"],
    "lines": lambda file: file["lines"],
    "longest": lambda file: file["longest"]["lines"] if file["longest"] else 0,
}


class Totals:
    """Sums over files, each file's measures, and what could not be measured. About 1 kB for each file."""

    def __init__(self) -> None:
        self.files: list[Metrics] = []
        self.failures: list[Failure] = []
        self.size_bytes = 0
        self.lines = 0
        self.functions = 0
        self.branches = 0

    @property
    def done(self) -> int:
        """Give how many files are dealt with, measured or not."""
        return len(self.files) + len(self.failures)

    def add(self, outcome: Metrics | Failure) -> None:
        """Count one file."""
        if "kind" in outcome:
            self.failures.append(outcome)
            return
        self.files.append(outcome)
        self.size_bytes += outcome["size_bytes"]
        self.lines += outcome["lines"]
        self.functions += outcome["functions"]
        self.branches += outcome["branches"]

    def top(self, most: int, by: str) -> list[Metrics]:
        """Return the ``most`` first files in the order ``by``; of equals, in the order of their paths."""
        key = ORDERS[by]
        return heapq.nsmallest(most, self.files, key=lambda file: (-key(file), file["path"]))

    def kinds(self) -> dict[str, int]:
        """Return how many failures there are of each kind, the most frequent first."""
        counted = Counter(failure["kind"] for failure in self.failures)
        return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))
