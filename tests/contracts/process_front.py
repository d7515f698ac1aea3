"""What the tests of the process lane share: a front that is a queue and a dictionary, and lanes behind it."""

import asyncio
import collections
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

from engine import Engine
from engine._lanes._process.native import NativeWorker
from engine._lanes.base import Attempt, Outcome, Taker, new_attempt
from engine._lanes.portable import PortableLane
from engine._lanes.processes import ProcessLane, ProcessSettings
from engine._mailbox import Mailbox
from engine._records import Call
from engine._states import Lane
from tests.support import eventually_async

__all__ = ["LANES", "Backend", "FakeFront", "lane_of", "native_workers", "new_lane", "started", "status"]

LANES: dict[str, type[ProcessLane]] = {"native": ProcessLane, "loky": PortableLane}


class Backend:
    """Which of them ``lane_of`` makes; a fixture says so."""

    name = "native"


class FakeFront:
    """The least that a lane can stand behind: one queue, and what became of each attempt."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.ready: collections.deque[Attempt] = collections.deque()
        self.is_parked = True
        self.lane: Any = None
        self.outcomes: dict[int, Outcome] = {}
        self.given_back: list[int] = []
        self.reports: list[tuple[int, float, float | None, str]] = []
        self.last = 0

    def claim(self, lane: Lane, taker: Taker | None = None, *, begin_on: Mailbox | None = None) -> Attempt | None:
        with self.lock:
            if self.ready:
                return self.ready.popleft()
            self.is_parked = True
            return None

    def take(self, lane: Lane, taker: Taker) -> Attempt | None:
        raise AssertionError("expected the process lane to claim, and to begin later")

    def claim_like(self, attempt: Attempt, most: int) -> list[Attempt]:
        with self.lock:
            claimed: list[Attempt] = []
            while len(claimed) < most and self.ready and self.ready[0].fn is attempt.fn:
                claimed.append(self.ready.popleft())
            return claimed

    def mend(self, lane: Lane, attempt: Attempt | None) -> None:
        raise AssertionError("expected the process lane to claim on the loop, where nothing is thrown")

    def free(self) -> None:
        raise AssertionError("expected the process lane to claim on the loop, where nothing is thrown")

    def let_overtake(self, lane: Lane, attempts: Iterable[Attempt]) -> None:
        """Do nothing: what is queued here has no priority."""

    def is_overtaken(self, line: list[Attempt]) -> bool:
        return False

    def has_ready(self, lane: Lane) -> int:
        with self.lock:
            self.is_parked = self.is_parked or not self.ready
            return len(self.ready)

    def park(self, lane: Lane) -> None:
        with self.lock:
            self.is_parked = True

    def begin(self, attempt: Attempt, at: float) -> bool:
        return True

    def end(self, attempt: Attempt, outcome: Outcome) -> None:
        with self.lock:
            assert attempt.task_id not in self.outcomes, "an attempt ended twice"
            self.outcomes[attempt.task_id] = outcome

    def end_taken(self, attempt: Attempt, outcome: Outcome) -> None:
        raise AssertionError("expected the process lane to end what it claimed")

    def return_taken(self, attempt: Attempt, value: Any) -> None:
        raise AssertionError("expected the process lane to end what it claimed")

    def returned(self, attempt: Attempt, value: Any) -> None:
        raise AssertionError("expected the process lane to end what it claimed")

    def return_row(self, row: list[tuple[Attempt, Any, float, float]], worker: str) -> None:
        for attempt, value, started, completed in row:
            self.end(attempt, Outcome(value, started_at=started, completed_at=completed, worker=worker))

    def give_back(self, attempt: Attempt) -> None:
        with self.lock:
            self.given_back.append(attempt.task_id)
            attempt.lane_data = None  # the engine makes a new Attempt for each claim
            self.ready.appendleft(attempt)
            is_parked, self.is_parked = self.is_parked, False
        if is_parked:
            self.lane.wake()

    def abandon(self, attempt: Attempt) -> bool:
        return True

    def progress(self, attempt: Attempt, done: float, total: float | None, message: str) -> None:
        self.reports.append((attempt.task_id, done, total, message))

    def regrow(self, lane: Lane) -> None:
        raise AssertionError("expected the process lane to count its workers itself")

    def fail_ready(self, lane: Lane, error: BaseException) -> None:
        with self.lock:
            failed, self.ready = list(self.ready), collections.deque()
        for attempt in failed:
            self.end(attempt, Outcome(error=error))

    def submit(self, fn: Callable[..., Any], *args: Any, **options: Any) -> Attempt:
        with self.lock:
            self.last += 1
            kwargs = options.pop("kwargs", {})
            name = options.pop("name", getattr(fn, "__qualname__", "call"))
            about = {key: options.pop(key) for key in ("timeout", "grace") if key in options}
            attempt = new_attempt(Call(fn, name, Lane.PROCESS, **about), self.last, 1, args, kwargs, **options)
            self.ready.append(attempt)
            is_parked, self.is_parked = self.is_parked, False
        if is_parked:
            self.lane.wake()
        return attempt

    async def outcome(self, attempt: Attempt, timeout: float = 20.0) -> Outcome:
        def ended() -> Outcome | None:
            with self.lock:
                return self.outcomes.get(attempt.task_id)

        outcome: Any = await eventually_async(ended, timeout, f"task {attempt.name} to end")
        assert isinstance(outcome, Outcome)
        return outcome

    def has_ended(self, count: int) -> bool:
        with self.lock:
            return len(self.outcomes) >= count

    async def run(self, fn: Callable[..., Any], *args: Any, **options: Any) -> Outcome:
        return await self.outcome(self.submit(fn, *args, **options))

    async def value(self, fn: Callable[..., Any], *args: Any, **options: Any) -> Any:
        outcome = await self.run(fn, *args, **options)
        assert outcome.error is None, outcome.error
        assert not outcome.cancelled
        return outcome.value


def native_workers(engine: Engine) -> list[NativeWorker]:
    """Give the workers of an engine over our own protocol."""
    return [worker for worker in engine._core.processes._pool.workers if isinstance(worker, NativeWorker)]


def new_lane(front: FakeFront, processes: int, **settings: Any) -> ProcessLane:
    """Make a lane of the backend that the test is for."""
    home = Mailbox(asyncio.get_running_loop())
    return LANES[Backend.name](front, home, ProcessSettings(processes, **settings))


@contextlib.asynccontextmanager
async def lane_of(processes: int = 1, **settings: Any) -> AsyncIterator[tuple[FakeFront, ProcessLane]]:
    front = FakeFront()
    lane = front.lane = new_lane(front, processes, **settings)
    try:
        yield front, lane
    finally:
        await lane.close(2.0)


async def started(lane: ProcessLane, attempt: Attempt) -> None:
    await eventually_async(lambda: lane.started(attempt), 10.0, f"{attempt.name} to start")


def status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"
