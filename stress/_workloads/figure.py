"""One figure: what is measured, of whom, and what is promised."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from stress._peers.contract import Peer

__all__ = ["FUTURES", "PROCESSES", "Figure", "Goal", "Measure", "Size", "percentile"]

FUTURES = ("cf-fork", "cf-spawn")  #: ProcessPoolExecutor, both ways to start
PROCESSES = (*FUTURES, "loky", "joblib", "pebble", "mpire", "anyio", "dask")


@dataclass(frozen=True, slots=True)
class Size:
    """How much work."""

    tasks: int = 20_000  #: in a flood
    megabytes: float = 100.0  #: of a large array
    workers: int = 2

    @property
    def few(self) -> int:
        """Give the tasks of a small crowd."""
        return 5 * self.tasks

    @property
    def many(self) -> int:
        """Give the tasks of a large crowd, and the items of a map."""
        return 50 * self.tasks


Measure = Callable[[Peer, Size], Awaitable[float]]


@dataclass(frozen=True, slots=True)
class Goal:
    """A promise: ``times`` as good as the best of ``against``, or a value of the engine's own."""

    times: float | None = None
    against: tuple[str, ...] = ()
    most: float | None = None
    least: float | None = None

    def words(self, unit: str) -> str:
        """Give the promise in words."""
        if self.most is not None:
            return f"at most {self.most:g} {unit}"
        if self.least is not None:
            return f"at least {self.least:g} {unit}"
        assert self.times is not None
        whom = self.against[0] if len(self.against) == 1 else f"the best of {', '.join(self.against)}"
        return f"{self.times:g} x {whom}" if self.times >= 1 else f"at most {1 / self.times:g} x the time of {whom}"

    def is_kept(self, ours: float, ratios: Mapping[str, float]) -> bool | None:
        """Say whether ``ours`` keeps it, given how many times as good as each peer that is; None if none was there."""
        if self.most is not None:
            return ours <= self.most
        if self.least is not None:
            return ours >= self.least
        assert self.times is not None
        met = [ratios[name] for name in self.against if name in ratios]
        return min(met) >= self.times if met else None


@dataclass(frozen=True, slots=True)
class Figure:
    """A measure, who takes part, and the promises."""

    name: str
    title: str  #: with {tasks}, {few}, {many} and {megabytes} for the size
    unit: str
    measure: Measure  #: gives the value of one turn; the peer is not started yet
    peers: tuple[str, ...] = ()
    goals: tuple[Goal, ...] = ()
    ours: str = "engine"
    is_rate: bool = False  #: more is better

    def words(self, size: Size) -> str:
        """Give the title at that size."""
        return self.title.format(tasks=size.tasks, few=size.few, many=size.many, megabytes=f"{size.megabytes:g} MB")

    def ratio(self, ours: float, theirs: float) -> float | None:
        """Give how many times as good as ``theirs`` ``ours`` is; None where one of them is nothing."""
        over, under = (ours, theirs) if self.is_rate else (theirs, ours)
        return over / under if over > 0 and under > 0 else None


def percentile(values: list[float], percent: int) -> float:
    """Return the value below which ``percent`` percent of ``values`` lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]
