"""A real engine, driven at random through every lane, agrees with a model of it after every step.

The ordinary run is short; ``ENGINE_PROPERTY=long`` runs for many minutes.
"""

import asyncio
import concurrent.futures
import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, precondition, rule

from engine import (
    BlockingEngine,
    Engine,
    EngineClosed,
    EngineFull,
    Lane,
    Priority,
    Retry,
    Task,
    TaskState,
    TaskTimeout,
    WorkerCrashed,
    checkpoint,
    current_task,
)
from engine._states import TERMINAL
from tests.property.work import ProcessWork
from tests.support import eventually

LONG = os.environ.get("ENGINE_PROPERTY") == "long"
PATIENCE = 30.0  #: seconds that a task which nothing holds has to end
SLOTS = {Lane.LOOP: 1, Lane.THREAD: 1, Lane.PROCESS: 2}  #: few, so that one too many is soon there
MAX_PENDING = 5

KINDS = ["quick", "hold", "swallow", "fail", "flaky", "timeout", "total_timeout", "crash", "crash_once"]


class Work:
    """What tasks do on the loop and thread lanes, counting how many are inside at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.gates: dict[int, threading.Event] = {}
        self.inside = dict.fromkeys(Lane, 0)
        self.most = dict.fromkeys(Lane, 0)

    @contextlib.contextmanager
    def _inside(self, lane: Lane) -> Iterator[None]:
        with self._lock:
            self.inside[lane] += 1
            self.most[lane] = max(self.most[lane], self.inside[lane])
        try:
            yield
        finally:
            with self._lock:
                self.inside[lane] -= 1

    def _step(self, kind: str, number: int) -> int:
        if kind == "fail":
            raise ValueError(number)
        if kind == "flaky" and current_task().attempt == 1:
            raise OSError("the first attempt fails")
        return number

    def thread(self, kind: str, number: int) -> int:
        with self._inside(Lane.THREAD):
            while kind == "hold" and not self.gates[number].wait(0.001):
                checkpoint()
            return self._step(kind, number)

    async def loop(self, kind: str, number: int) -> int:
        with self._inside(Lane.LOOP):
            try:
                while kind in ("hold", "swallow") and not self.gates[number].is_set():
                    await asyncio.sleep(0.001)
            except asyncio.CancelledError:
                if kind == "hold":
                    raise
            return self._step(kind, number)


@dataclass
class Record:
    """What the model knows of one task."""

    task: Task[int]
    number: int
    lane: Lane
    kind: str
    is_released: bool = False
    is_cancelled: bool = False  #: cancel() answered True
    met_the_stop: bool = False  #: it was live when the engine was stopped, which may have cancelled it
    end: TaskState | None = None  #: the first terminal state that was seen, and what came with it
    outcome: object = None


class Lifecycle(RuleBasedStateMachine):
    """Submits, cancels, releases, waits and stops; the invariants are what sections 3 and 4 of the design promise."""

    records = Bundle("records")
    backend: Literal["native", "loky"] = "native"

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="engine-lifecycle-"))
        self.work = Work()
        self.process_work = ProcessWork(str(self.folder), SLOTS[Lane.PROCESS])
        self.all: list[Record] = []
        self.submits = 0
        self.engine: BlockingEngine | None = None
        self.is_stopped = False

    @initialize(
        target=records,
        burst=st.lists(st.tuples(st.sampled_from(Lane), st.sampled_from(KINDS)), min_size=2, max_size=10),
    )
    def start(self, burst: list[tuple[Lane, str]]) -> Any:
        """Start an engine that has work from the first moment."""
        engine = Engine(
            processes=SLOTS[Lane.PROCESS],
            process_backend=self.backend,
            threads=SLOTS[Lane.THREAD],
            coroutines=SLOTS[Lane.LOOP],
            max_pending=MAX_PENDING,
            grace=0.3,
            history=10_000,
        )
        self.engine = engine.__enter__()
        return multiple(*[self._submit(lane, kind, Priority.NORMAL) for lane, kind in burst])

    @property
    def running(self) -> BlockingEngine:
        assert self.engine is not None
        return self.engine

    # -- what can happen --------------------------------------------------------------------------------------------

    @precondition(lambda self: not self.is_stopped)
    @rule(
        target=records,
        lane=st.sampled_from(Lane),
        kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=8),
        priority=st.sampled_from(Priority),
    )
    def submit(self, lane: Lane, kinds: list[str], priority: Priority) -> Any:
        """Submit a burst; what is refused is a None, so that the machine draws the same whatever the timing."""
        return multiple(*[self._submit(lane, kind, priority) for kind in kinds])

    def _submit(self, lane: Lane, kind: str, priority: Priority) -> Record | None:
        if kind.startswith("crash"):
            lane = Lane.PROCESS
        number = self.submits
        self.submits += 1
        self.work.gates[number] = threading.Event()
        view = self.running.options(
            lane=None if lane is Lane.LOOP else lane,
            priority=priority,
            timeout=0.05 if kind == "timeout" else None,
            total_timeout=0.05 if kind == "total_timeout" else None,
            retry=Retry(max_attempts=2, base_delay=0) if kind in ("flaky", "crash_once") else None,
            name=f"{kind}-{number}",
        )
        does = "hold" if "timeout" in kind or (kind == "swallow" and lane is not Lane.LOOP) else kind
        function: Callable[..., Any]
        arguments: tuple[object, ...]
        if lane is Lane.PROCESS:
            function, arguments = getattr(self.process_work, does), (number,)
        else:
            function, arguments = (self.work.loop if lane is Lane.LOOP else self.work.thread), (does, number)
        pending = sum(record.task.state is TaskState.PENDING for record in self.all)
        try:
            task = view.submit(function, *arguments)
        except EngineFull:
            assert pending >= MAX_PENDING  # what the bound counts was PENDING before, and nothing came since
            return None
        record = Record(task, number, lane, kind)
        self.all.append(record)
        return record

    @rule(record=records)
    def cancel(self, record: Record | None) -> None:
        if record is None:
            return
        was_done = record.task.done()
        answer = record.task.cancel()
        assert not (answer and was_done)
        record.is_cancelled = record.is_cancelled or answer
        if answer and record.lane is not Lane.LOOP:
            assert record.task.cancelled() or record.task.state is TaskState.FAILED
        if not answer:
            assert record.task.done()

    @rule(record=records)
    def release(self, record: Record | None) -> None:
        if record is not None:
            self._release(record)

    def _release(self, record: Record) -> None:
        record.is_released = True
        self.work.gates[record.number].set()
        (self.folder / f"gate-{record.number}").touch()

    @rule(record=records)
    def wait(self, record: Record | None) -> None:
        """Wait for one; what is held in its lane must be released first, or it might wait for ever."""
        if record is None:
            return
        for other in self.all:
            if other.lane is record.lane and other.kind in ("hold", "swallow"):
                self._release(other)
        try:
            result: object = record.task.result(timeout=PATIENCE)
        except concurrent.futures.CancelledError:
            assert record.task.cancelled()
        except (ValueError, OSError, WorkerCrashed, TaskTimeout):
            assert record.task.state is TaskState.FAILED
        else:
            assert result == record.number
        assert record.task.done()

    @precondition(lambda self: not self.is_stopped)
    @rule()
    def cancel_by_name(self) -> None:
        """Cancel all that only wait for a gate, by the name of each."""
        for record in self.all:
            if record.kind == "hold" and not record.is_released and record.number % 2:
                count = self.running.cancel(name=f"hold-{record.number}")
                assert count in (0, 1)
                record.is_cancelled = record.is_cancelled or bool(count)

    @precondition(lambda self: not self.is_stopped and self.submits > 5)
    @rule(timeout=st.sampled_from([None, 0.0, 0.05]), cancel_pending=st.booleans())
    def stop(self, timeout: float | None, cancel_pending: bool) -> None:
        if timeout is None:
            for record in self.all:
                self._release(record)
        live = [record for record in self.all if not record.task.done()]
        report = self.running.stop(timeout=timeout, cancel_pending=cancel_pending)
        self.is_stopped = True
        assert all(record.task.done() for record in self.all)
        states = [record.task.state for record in self.all]
        assert report.submitted == len(self.all)
        assert report.stopping == 0
        assert (report.completed, report.failed, report.cancelled) == (
            states.count(TaskState.COMPLETED), states.count(TaskState.FAILED), states.count(TaskState.CANCELLED),
        )  # fmt: skip
        if timeout is None and not cancel_pending:
            assert report.cancelled_by_stop == 0
        for record in live:
            record.met_the_stop = True
        with pytest.raises(EngineClosed):
            self.running.submit(abs, 1)

    # -- what must hold ---------------------------------------------------------------------------------------------

    @invariant()
    def no_terminal_state_changes(self) -> None:
        for record in self.all:
            state = record.task.state
            if record.end is not None:
                assert state is record.end, f"{record} became {state}"
                assert self._outcome(record) is record.outcome
            elif state in TERMINAL:
                record.end, record.outcome = state, self._outcome(record)
                self._check_end(record)

    @staticmethod
    def _outcome(record: Record) -> object:
        if record.task.cancelled():
            return None
        return record.task.exception() or record.task.result()

    @staticmethod
    def _check_end(record: Record) -> None:
        """Say what each kind of work may come to."""
        state, kind, error = record.end, record.kind, record.outcome
        if state is TaskState.CANCELLED:
            assert record.is_cancelled or record.met_the_stop, f"nobody cancelled {record}"
        elif state is TaskState.COMPLETED:
            assert not record.is_cancelled, f"it was cancelled: {record}"
            assert kind in ("quick", "flaky", "hold", "swallow", "crash_once", "timeout", "total_timeout")
            assert "timeout" not in kind or record.is_released
            assert record.task.attempt == (2 if kind in ("flaky", "crash_once") else 1)
        elif kind == "fail":
            assert type(error) is ValueError
        elif kind == "flaky":  # an error that a coroutine raises while it is cancelled is not thrown away
            assert record.is_cancelled or record.met_the_stop
            assert (record.lane, type(error)) == (Lane.LOOP, OSError)
        elif kind == "crash":
            assert isinstance(error, WorkerCrashed)
            assert (error.signal_name, error.may_have_run, error.attempt) == ("SIGKILL", True, 1)
        else:
            assert kind in ("timeout", "total_timeout"), f"{record} failed with {error!r}"
            assert isinstance(error, TaskTimeout)
            assert error.scope == ("total" if kind == "total_timeout" else "attempt")
        if state is not TaskState.CANCELLED and kind != "total_timeout":
            assert record.task.started_at is not None

    @invariant()
    def timestamps_are_ordered(self) -> None:
        for record in self.all:
            task = record.task
            completed, started = task.completed_at, task.started_at
            if completed is not None and started is not None:
                assert task.created_at < started < completed
            assert record.end is None or completed is not None
        if self.engine is not None:
            for info in self.running.tasks():
                if info.completed_at is not None:
                    assert info.created_at < (info.started_at or info.completed_at) <= info.completed_at
                    assert info.started_at is None or info.started_at < info.completed_at

    @invariant()
    def counts_agree(self) -> None:
        """Terminal counts lie between what the tasks said before the snapshot and after it; the sum is exact."""
        if self.engine is None:
            return
        before = self._terminal_counts()
        snapshot = self.running.snapshot()
        after = self._terminal_counts()
        for lane, part in snapshot.lanes.items():
            submitted = sum(record.lane is lane for record in self.all)
            assert part.pending + part.running + part.completed + part.failed + part.cancelled == submitted
            for state in TERMINAL:
                count = getattr(part, state.value)
                assert before[lane, state] <= count <= after[lane, state]
            assert part.queued <= part.pending
            assert part.abandoned == part.lent == 0
        assert len(self.running.tasks()) == len(self.all)
        assert snapshot.retries <= sum(record.kind in ("flaky", "crash_once") for record in self.all)
        assert snapshot.crashes <= sum(record.kind.startswith("crash") for record in self.all)

    def _terminal_counts(self) -> dict[tuple[Lane, TaskState], int]:
        counts = {(lane, state): 0 for lane in Lane for state in TERMINAL}
        for record in self.all:
            state = record.task.state
            if state in TERMINAL:
                counts[record.lane, state] += 1
        return counts

    @invariant()
    def limits_hold(self) -> None:
        """Measured inside the tasks; the process lane's own files fail the task that would be one too many."""
        for lane, most in self.work.most.items():
            assert most <= SLOTS[lane]
        if self.engine is not None:
            for lane, part in self.running.snapshot().lanes.items():
                assert part.running <= SLOTS[lane]
            assert 0 <= self.running._engine._core.registry.waiting <= MAX_PENDING

    def teardown(self) -> None:
        """Let everything end by itself, and check that it did."""
        try:
            if self.engine is not None and not self.is_stopped:
                for record in self.all:
                    self._release(record)
                for record in self.all:
                    eventually(record.task.done, PATIENCE, f"{record} to end")
                self.no_terminal_state_changes()
                self.counts_agree()
                assert self.engine.stop().cancelled_by_stop == 0
            self.no_terminal_state_changes()
            assert max(self.work.inside.values()) == 0
        finally:
            for record in self.all:
                self._release(record)
            if self.engine is not None:
                self.engine.stop(timeout=0)
            shutil.rmtree(self.folder)


Lifecycle.TestCase.settings = settings(
    max_examples=500 if LONG else 40,
    stateful_step_count=60 if LONG else 20,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
TestLifecycle = Lifecycle.TestCase


class LifecycleOverLoky(Lifecycle):
    """The same, with the process lane on the portable backend."""

    backend = "loky"


LifecycleOverLoky.TestCase.settings = settings(Lifecycle.TestCase.settings, max_examples=500 if LONG else 10)
TestLifecycleOverLoky = LifecycleOverLoky.TestCase
