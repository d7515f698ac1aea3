"""Whatever several threads do to the process lane at once, no task is lost and none runs twice.

Each run is recorded by the task itself, in a file. Tasks are tiny, slow or fail; they are submitted with priorities,
cancelled where they wait, lie in a worker or run; workers are killed and stopped. Half of the time the engine takes the
function for a quick one, and so has sent many ahead behind one that is not. ``ENGINE_PROPERTY=long`` goes on for long.
"""

import concurrent.futures
import contextlib
import itertools
import os
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from engine import BlockingEngine, Engine, EngineFull, Lane, Priority, Task, TaskState, WorkerCrashed
from engine._lanes._process.native import NativeWorker
from tests.property.work import run_once
from tests.support import eventually

LONG = os.environ.get("ENGINE_PROPERTY") == "long"
PATIENCE = 20.0  #: seconds that everything has to end; a bound for what never happens
PROCESSES = 2
MAX_PENDING = 90
TINY, FAILS, SLOW, LONG_RUN = 0.0, -1.0, 0.004, 0.02  #: seconds; what runs for 2 ms has what is behind it taken back


@dataclass(frozen=True)
class Submit:
    """Submit tasks of these durations, so many times over."""

    durations: list[float]
    times: int
    priority: Priority

    def do(self, scene: "Scene") -> None:
        for duration in self.durations * self.times:
            scene.submit(duration, self.priority)


@dataclass(frozen=True)
class Map:
    """Read so many results of a map, then close it."""

    durations: list[float]
    times: int
    taken: int

    def do(self, scene: "Scene") -> None:
        scene.map(self.durations * self.times, self.taken)


@dataclass(frozen=True)
class Cancel:
    """Cancel some of the tasks that are not over: those in front lie in a worker, the last ones wait; None: who run."""

    place: float | None
    count: int

    def do(self, scene: "Scene") -> None:
        live = [record for record in list(scene.records) if not record.task.done()]
        if self.place is None:
            live = [record for record in live if record.task.started_at is not None]
        start = int((self.place or 0.0) * len(live))
        for record in live[start : start + self.count]:
            if record.task.cancel():
                record.is_cancelled = True


@dataclass(frozen=True)
class Strike:
    """Send a signal to a worker that is at work."""

    number: signal.Signals
    which: int

    def do(self, scene: "Scene") -> None:
        workers = [worker for worker in scene.workers() if worker.count() and worker.last_begun()]
        if workers:
            scene.strike(workers[self.which % len(workers)], self.number)


@dataclass(frozen=True)
class Pause:
    """Let others go on."""

    seconds: float

    def do(self, scene: "Scene") -> None:
        scene.ended.wait(self.seconds)


Step = Submit | Map | Cancel | Strike | Pause

_durations = st.lists(st.sampled_from([TINY, TINY, TINY, SLOW, FAILS]), min_size=2, max_size=6)
_submits = st.builds(Submit, _durations, st.integers(2, 6), st.sampled_from(Priority))
_steps = st.one_of(
    _submits,
    st.builds(Map, _durations, st.integers(2, 40), st.sampled_from([1, 10, 1000])),
    st.builds(Cancel, st.sampled_from([None, 0.0, 0.02, 0.1, 0.5, 0.9]), st.integers(1, 5)),
    st.builds(Strike, st.sampled_from([signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP]), st.integers(0, PROCESSES)),
    st.builds(Pause, st.sampled_from([0.001, 0.003, 0.01])),
)
_scripts = st.lists(
    st.builds(lambda first, rest: [first, *rest], _submits, st.lists(_steps, min_size=3, max_size=9)),
    min_size=1, max_size=3,
)  # fmt: skip


@dataclass
class Record:
    """What is known of one task."""

    task: Task[int]
    number: int
    duration: float
    is_cancelled: bool = False  #: cancel() answered True


@dataclass
class Mapped:
    """What came of one map."""

    numbers: list[int]
    durations: list[float]
    found: list[Any]
    is_read: bool  #: to its end


class Scene:
    """One engine, and what a few threads do to it."""

    def __init__(self, engine: BlockingEngine, runs: Path) -> None:
        self.engine = engine
        self.runs = runs
        self.records: list[Record] = []
        self.refused: list[int] = []
        self.maps: list[Mapped] = []
        self.kills = 0
        self.ended = threading.Event()
        self._numbers = itertools.count()
        self._core = engine._engine._core
        self._lane: Any = self._core.processes
        self.before = engine.snapshot()

    # -- what the threads do

    def submit(self, duration: float, priority: Priority) -> None:
        number = next(self._numbers)
        try:
            task = self.engine.options(priority=priority).submit(run_once, str(self.runs), number, duration)
        except EngineFull:
            self.refused.append(number)
        else:
            self.records.append(Record(task, number, duration))

    def map(self, durations: list[float], taken: int) -> None:
        numbers = [next(self._numbers) for _ in durations]
        results = self.engine.map(run_once, [str(self.runs)] * len(numbers), numbers, durations, return_exceptions=True)
        found: list[Any] = list(itertools.islice(results, taken))
        results.close()
        self.maps.append(Mapped(numbers, durations, found, len(found) == len(numbers)))

    def workers(self) -> list[NativeWorker]:
        return list(self._lane._pool.workers)

    def strike(self, worker: NativeWorker, number: signal.Signals) -> None:
        with worker._lock:  # nobody closes the pidfd meanwhile
            if not worker.has_ended():
                self.kills += number == signal.SIGKILL
                signal.pidfd_send_signal(worker.child.pidfd, number)

    # -- from start to end

    def play(self, scripts: list[list[Step]], *, is_taken_for_quick: bool) -> None:
        """Have each script done by a thread of its own, then everything end."""
        self._lane._functions.get(run_once, "run_once").seconds = 1e-6 if is_taken_for_quick else float("inf")
        gate = threading.Barrier(len(scripts))
        with concurrent.futures.ThreadPoolExecutor(len(scripts)) as pool:
            going = [pool.submit(self._play, script, gate) for script in scripts]
            try:
                end = time.monotonic() + PATIENCE
                while concurrent.futures.wait(going, 0.05).not_done:
                    self._thaw()  # or a map would wait for a worker that was stopped
                    if time.monotonic() > end:
                        self.engine.stop(timeout=0)  # which ends the map that waits
                        raise AssertionError("a script did not come to its end")
            finally:
                self._thaw()
        for each in going:
            each.result()
        self._await_the_end()

    def _play(self, script: list[Step], gate: threading.Barrier) -> None:
        gate.wait(PATIENCE)
        for step in script:
            step.do(self)

    def _thaw(self) -> None:
        for worker in self.workers():
            self.strike(worker, signal.SIGCONT)

    def _await_the_end(self) -> None:
        """Wait until nothing is left anywhere in the engine."""
        eventually(lambda: all(record.task.done() for record in self.records), PATIENCE, "all tasks to end")
        registry, pool = self._core.registry, self._lane._pool
        eventually(lambda: not registry.attempts, PATIENCE, "all attempts to end")
        eventually(lambda: sum(worker.count() for worker in self.workers()) == 0, PATIENCE, "all workers to be empty")
        eventually(lambda: pool.busy == 0, PATIENCE, "all workers to rest")
        assert (registry.waiting, len(registry.ready[Lane.PROCESS]), registry.slots[Lane.PROCESS].taken) == (0, 0, 0)
        assert self._lane._feeder.waiting() == 0

    # -- what must hold

    def check(self) -> None:
        runs = Counter(int(line) for line in self.runs.read_text().split())
        for record in self.records:
            self._check(record, runs[record.number])
        crashes = [record for record in self.records if record.task.state is TaskState.FAILED and record.duration >= 0]
        assert len(crashes) <= self.kills, "more tasks were charged than workers killed"
        for mapped in self.maps:
            self._check_map(mapped, runs)
        assert [runs[number] for number in self.refused] == [0] * len(self.refused)
        assert sum(runs.values()) <= next(self._numbers)
        after, lane = self.engine.snapshot(), self.engine.snapshot().lanes[Lane.PROCESS]
        assert (lane.pending, lane.running, lane.queued, lane.abandoned, after.queue_depth) == (0, 0, 0, 0, 0)
        assert (after.malformed, after.start_failures, after.retries) == (0, 0, 0)
        for state, count in Counter(record.task.state for record in self.records).items():
            change = getattr(lane, state.value) - getattr(self.before.lanes[Lane.PROCESS], state.value)
            assert change == count or (self.maps and change > count)

    def _check(self, record: Record, runs: int) -> None:
        task, state = record.task, record.task.state
        assert runs <= 1, f"{record} ran {runs} times"
        assert task.attempt <= 1
        if state is TaskState.COMPLETED:
            assert (task.result(), runs, record.is_cancelled, record.duration >= 0) == (record.number, 1, False, True)
        elif state is TaskState.CANCELLED:
            assert record.is_cancelled, f"nobody cancelled {record}"
            assert runs == 0 or task.started_at is not None, f"{record} ran, and says that it never began"
        else:
            error = task.exception()
            assert not record.is_cancelled
            assert isinstance(error, WorkerCrashed) or (type(error) is ValueError and record.duration == FAILS)
            assert runs == 1 or isinstance(error, WorkerCrashed), f"{record} failed and ran {runs} times"

    def _check_map(self, mapped: Mapped, runs: Counter[int]) -> None:
        assert all(runs[number] <= 1 for number in mapped.numbers), "an item ran twice"
        for number, duration, found in zip(mapped.numbers, mapped.durations, mapped.found, strict=False):
            if isinstance(found, WorkerCrashed):
                assert self.kills
            elif duration == FAILS:
                assert (type(found), runs[number]) == (ValueError, 1)
            else:
                assert (found, runs[number]) == (number, 1)


class Engines:
    """The engine of all examples; after a failure the next one gets a new one."""

    def __init__(self) -> None:
        self.engine: BlockingEngine | None = None

    @contextlib.contextmanager
    def one(self) -> Iterator[BlockingEngine]:
        if self.engine is None:
            made = Engine(processes=PROCESSES, max_pending=MAX_PENDING, grace=0.03, process_backend="native")
            self.engine = made.__enter__()
            self.engine.warm_up()
        try:
            yield self.engine
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        engine, self.engine = self.engine, None
        if engine is not None:
            engine.stop(timeout=0)


QUEUE = [Submit([TINY, LONG_RUN] + [TINY] * 6, 8, Priority.NORMAL)]  #: long ones with tiny ones sent behind them


def test_no_task_is_lost_or_run_twice_whatever_is_done_to_the_lane() -> None:
    """W1, W22, A5, A6, A7: what was accepted ends; what completes has run once, whatever else at most once."""
    engines = Engines()

    @settings(
        max_examples=5000 if LONG else 60,
        deadline=None,
        print_blob=True,
        phases=[Phase.explicit, Phase.reuse, Phase.generate],  # other threads decide: what fails may pass the next time
    )
    @example([QUEUE], True)
    @example([[*QUEUE, Pause(0.004), Strike(signal.SIGKILL, 0), Cancel(0.1, 5), Cancel(None, 2)], QUEUE], True)
    @given(_scripts, st.booleans())
    def check(scripts: list[list[Step]], is_taken_for_quick: bool) -> None:
        with engines.one() as engine, tempfile.TemporaryDirectory() as folder:
            runs = Path(folder) / "runs"
            runs.touch()
            scene = Scene(engine, runs)
            scene.play(scripts, is_taken_for_quick=is_taken_for_quick)
            scene.check()

    try:
        check()
    finally:
        engines.close()
