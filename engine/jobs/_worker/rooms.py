"""How many more jobs a worker can start: in all, per queue and per lane. Decisions of the feeder; no clock, no I/O."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from engine import Lane

from .._book import Book
from .._moment import Moment
from .._records import Claim, Claimed, Claims

__all__ = ["BATCH_MOST", "Rooms", "Step", "claim_in_steps", "plan_steps"]

BATCH_MOST = 256  #: jobs of one claim: the writer has others to serve


@dataclass(frozen=True, slots=True)
class Step:
    """One claim of several in one transaction: up to ``most`` jobs together with those before it."""

    most: int
    passed_over: frozenset[str]


class Rooms:
    """Counts what runs against what may."""

    def __init__(
        self, concurrency: int, queues: Callable[[], Mapping[str, int | None]], lanes: Mapping[Lane, int]
    ) -> None:  # fmt: skip
        self.concurrency = concurrency
        self._queues = queues  #: gives bounds by name, None for none
        self._lanes = lanes
        self.running = 0
        self.running_of_queues: defaultdict[str, int] = defaultdict(int)  # a Counter counts at a third of the speed
        self._running_of_lanes: defaultdict[Lane | None, int] = defaultdict(int)

    def take(self, queue: str, lane: Lane | None) -> None:
        """Note that a job of ``queue`` runs, in ``lane`` (None: in none)."""
        self.running += 1
        self.running_of_queues[queue] += 1
        self._running_of_lanes[lane] += 1

    def free(self, queue: str, lane: Lane | None) -> None:
        """Note that it is over."""
        self.running -= 1
        self.running_of_queues[queue] -= 1
        self._running_of_lanes[lane] -= 1

    @property
    def left(self) -> int:
        """Give how many more jobs may run in all."""
        return self.concurrency - self.running

    def left_of_lane(self, lane: Lane) -> int:
        """Return how many more jobs may run in ``lane``."""
        return self._lanes[lane] - self._running_of_lanes[lane]

    def left_of_queues(self) -> dict[str, int]:
        """Return how many more jobs of each queue may run."""
        running, left = self.running_of_queues, max(0, self.left)
        return {
            queue: left if bound is None else max(0, min(left, bound - running[queue]))
            for queue, bound in self._queues().items()
        }


def plan_steps(left: int, left_of_lanes: Mapping[Lane, int], lane_of: Mapping[str, Lane]) -> tuple[Step, ...]:
    """Return the claims that together take at most ``left`` jobs, and of no lane more than it has room for.

    The first goes as far as the narrowest lane that has room, the next passes it over and goes as far as the second,
    and so on: nobody knows before which names the most urgent jobs have. ``lane_of`` names every task that may be met.
    """
    lanes = set(lane_of.values())
    rooms = {lane: min(max(0, left_of_lanes[lane]), left, BATCH_MOST) for lane in lanes}
    widths = sorted(set(rooms.values())) if lanes else [min(left, BATCH_MOST)]
    return tuple(
        Step(most, frozenset(name for name, lane in lane_of.items() if rooms[lane] < most))
        for most in widths
        if most > 0
    )


def claim_in_steps(
    book: Book, now: Moment, holder: int, left_of_queues: Mapping[str, int], steps: Iterable[Step]
) -> tuple[Claims, bool]:
    """Claim by ``steps``, in one transaction; ``is_cut`` says that one of them took all it could."""
    rooms = dict(left_of_queues)
    jobs: list[Claimed] = []
    claims = Claims((), suspects=False, next_due=None)
    is_cut = False
    for step in steps:
        if (limit := step.most - len(jobs)) <= 0:
            continue
        claims = book.claim(Claim(holder=holder, queues=dict(rooms), limit=limit, passed_over=step.passed_over), now)
        for job in claims.jobs:
            rooms[job.queue] -= 1
        jobs += claims.jobs
        is_cut |= len(claims.jobs) == limit
    return replace(claims, jobs=tuple(jobs)), is_cut
