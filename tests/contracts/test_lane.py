"""One suite for the three lanes, the process lane on both backends: what a task of any lane may rely on.

SCENARIOS W4, N1, A2, A5, A6, A8, A9, A12, R3.
"""

import asyncio
import gc
import importlib
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, Lane, Priority, Retry, Task, TaskState, checkpoint, current_task
from engine._lanes.base import Attempt
from engine._registry import Registry
from engine._scheduler import Scheduler
from engine.errors import EngineClosed, RemoteError, TaskTimeout
from tests.contracts import functions
from tests.support import eventually_async

FAST = Retry(max_attempts=3, base_delay=0.001, jitter=0.0)
STUCK = 20.0  #: seconds; a bound for what never happens, not a measurement


@dataclass(frozen=True)
class Kit:
    """One lane: its name, its version of each function, and what runs its worker processes."""

    lane: Lane
    backend: str = "native"

    def engine(self, slots: int = 2, **options: Any) -> Engine:
        given = {"processes": slots, "threads": slots, "coroutines": slots, "grace": 0.1, **options}
        return Engine(**{"process_backend": self.backend, **given})

    def fn(self, name: str) -> Callable[..., Any]:
        module = "coroutines" if self.lane is Lane.LOOP else "functions"
        found: Callable[..., Any] = getattr(importlib.import_module(f"tests.contracts.{module}"), name)
        return found

    def submit(self, engine: Any, name: str, *args: Any, **kwargs: Any) -> Task[Any]:
        if self.lane is not Lane.LOOP:
            engine = engine.options(lane=self.lane)
        task: Task[Any] = engine.submit(self.fn(name), *args, **kwargs)
        return task


@pytest.fixture(params=[*Lane, "loky"], ids=lambda lane: str(getattr(lane, "value", lane)))
def kit(request: pytest.FixtureRequest) -> Kit:
    return Kit(Lane.PROCESS, "loky") if request.param == "loky" else Kit(request.param)


async def begun(folder: Path, name: str) -> None:
    await eventually_async(lambda: (folder / f"{name}.begun").exists(), STUCK)


def spans(path: Path) -> list[tuple[float, float]]:
    """Return when each run came and went, in order of coming."""
    rows = [line.split() for line in path.read_text().splitlines()]
    return sorted((float(came), float(went)) for came, went in rows)


def most_at_once(times: list[tuple[float, float]]) -> int:
    events = sorted([(came, 1) for came, _ in times] + [(went, -1) for _, went in times])
    now = most = 0
    for _, step in events:
        now += step
        most = max(most, now)
    return most


# -- one task -------------------------------------------------------------------------------------------------------


async def test_a_value_comes_back_with_all_arguments_passed(kit: Kit) -> None:
    async with kit.engine() as engine:
        task = kit.submit(engine, "give", "ab", times=2)
        assert await task == "abab"
        assert task.state is TaskState.COMPLETED
        assert task.lane is kit.lane
        assert task.attempt == 1


async def test_an_error_arrives_with_type_and_message(kit: Kit) -> None:
    async with kit.engine() as engine:
        task = kit.submit(engine, "fail", "no luck")
        with pytest.raises(ValueError, match="no luck"):
            await task
        assert task.state is TaskState.FAILED
        assert isinstance(task.exception(), ValueError)
        info = engine.get(task.id)
        assert info is not None
        assert info.error == "ValueError: no luck"


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, BaseException])
async def test_what_would_end_a_loop_arrives_as_remote_error(kit: Kit, kind: type[BaseException]) -> None:
    """W4, A12: SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration and BaseExceptions fail only their task."""
    async with kit.engine() as engine:
        with pytest.raises(RuntimeError) as caught:
            await asyncio.wait_for(kit.submit(engine, "throw", kind("out")), STUCK)
        if kit.lane is not Lane.LOOP or kind is not StopIteration:  # which Python itself turns into a RuntimeError
            assert isinstance(caught.value, RemoteError)
            assert caught.value.type_name == kind.__name__
        assert isinstance(caught.value.__cause__, kind)
        assert await kit.submit(engine, "give", 1) == 1


async def test_cancelled_error_raised_by_the_task_itself(kit: Kit) -> None:
    """W4: a coroutine that raises CancelledError is CANCELLED; from a plain function it is a RemoteError."""
    async with kit.engine() as engine:
        task = kit.submit(engine, "throw", asyncio.CancelledError())
        await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), STUCK)
        if kit.lane is Lane.LOOP:
            assert task.cancelled()
        else:
            assert isinstance(task.exception(), RemoteError)


async def test_the_three_times_are_in_order(kit: Kit, tmp_path: Path) -> None:
    async with kit.engine() as engine:
        before = time.time()
        tasks = [kit.submit(engine, "give", number) for number in range(20)]
        await asyncio.gather(*tasks)
        for task in tasks:
            assert task.started_at is not None
            assert task.completed_at is not None
            assert before - 0.1 <= task.created_at < task.started_at < task.completed_at <= time.time() + 0.1


async def test_current_task_knows_its_task(kit: Kit) -> None:
    async with kit.engine() as engine:
        view = engine.options(timeout=50, name="mine")
        task = kit.submit(view, "about_me")
        number, name, attempt, deadline, is_asked = await task
        assert (number, name, attempt, is_asked) == (task.id, "mine", 1, False)
        assert deadline is not None
        assert 0 < deadline - time.monotonic() <= 50
        assert (await kit.submit(engine, "about_me"))[3] is None


async def test_progress_is_seen_from_outside(kit: Kit, tmp_path: Path) -> None:
    async with kit.engine() as engine:
        task = kit.submit(engine, "report", str(tmp_path), "one")
        progress = await eventually_async(lambda: task.progress, STUCK)
        assert progress is not None
        assert (progress.done, progress.total, progress.message) == (3, 10, "three of ten")
        info = engine.get(task.id)
        assert info is not None
        assert info.progress == progress
        (tmp_path / "go").touch()
        await task


def test_outside_a_task_checkpoint_and_progress_do_nothing(tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    checkpoint()
    assert current_task().id is None
    assert functions.report(str(tmp_path), "plain") == "plain"


async def test_arguments_and_result_are_freed_though_the_history_remembers(kit: Kit) -> None:
    """R3: once a task is done and its handle dropped, nothing holds its arguments or its result."""
    async with kit.engine() as engine:
        blob = functions.make_blob(100_000)
        given = weakref.ref(blob)
        task = kit.submit(engine, "length", blob)
        assert await task == 100_000
        del blob
        await eventually_async(lambda: gc.collect() is not None and given() is None, STUCK, "the argument is freed")
        task = kit.submit(engine, "make_blob", 10)
        taken = weakref.ref(await task)
        number = task.id
        del task
        await eventually_async(lambda: gc.collect() is not None and taken() is None, STUCK, "the result is freed")
        assert engine.get(number) is not None


async def test_arguments_of_a_cancelled_task_are_freed(kit: Kit, tmp_path: Path) -> None:
    """R3: a cancelled task, with a timeout still far away, holds its arguments no longer, queued or running."""
    async with kit.engine(1) as engine:
        view = engine.options(timeout=600, total_timeout=600)
        blobs = [functions.make_blob(10) for _ in range(2)]
        given = [weakref.ref(blob) for blob in blobs]
        holder = kit.submit(view, "hold", str(tmp_path), "holder")
        tasks = [kit.submit(view, "length", blob) for blob in blobs]
        await begun(tmp_path, "holder")
        del blobs
        for task in (*tasks, holder):
            assert task.cancel()
        await asyncio.gather(*tasks, holder, return_exceptions=True)
        await eventually_async(
            lambda: gc.collect() is not None and not any(ref() for ref in given), STUCK, "the arguments are freed"
        )


# -- cancel and timeout, queued and running ---------------------------------------------------------------------------


async def test_a_task_cancelled_in_the_queue_never_runs(kit: Kit, tmp_path: Path) -> None:
    """A6: the file that it would have written never appears."""
    async with kit.engine(1) as engine:
        first = kit.submit(engine, "hold", str(tmp_path), "first")
        await begun(tmp_path, "first")
        queued = [kit.submit(engine, "touch", str(tmp_path / f"queued-{number}")) for number in range(5)]
        assert all(task.cancel() for task in queued)
        assert all(task.state is TaskState.CANCELLED and task.started_at is None for task in queued)
        (tmp_path / "go").touch()
        assert await first == "first"
        assert await kit.submit(engine, "touch", str(tmp_path / "last"))
    assert not list(tmp_path.glob("queued-*"))


async def test_a_running_task_that_is_cancelled_ends_and_frees_its_slot(kit: Kit, tmp_path: Path) -> None:
    """A2: the handle is CANCELLED, the function is left, and the only slot is free again."""
    async with kit.engine(1, grace=10) as engine:
        task = kit.submit(engine, "hold", str(tmp_path), "one")
        await begun(tmp_path, "one")
        assert task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.state is TaskState.CANCELLED
        assert task.started_at is not None
        await eventually_async(lambda: (tmp_path / "one.ended").exists(), STUCK)
        assert await asyncio.wait_for(kit.submit(engine, "give", 2), STUCK) == 2


async def test_cancel_answers_true_only_for_what_never_completes(kit: Kit, tmp_path: Path) -> None:
    """A5: twice, after done, before the start, in the backoff."""
    async with kit.engine(1) as engine:
        done = kit.submit(engine, "give", 1)
        await done
        assert not done.cancel()
        assert done.state is TaskState.COMPLETED

        fresh = kit.submit(engine, "touch", str(tmp_path / "fresh"))  # still in the queue: this loop has not turned
        fresh.cancel()
        fresh.cancel()
        await asyncio.gather(fresh, return_exceptions=True)
        assert fresh.cancelled()

        waits = kit.submit(engine.options(retry=Retry(max_attempts=2, base_delay=60)), "fail", "once")
        await eventually_async(lambda: waits.attempt == 1 and waits.state is TaskState.PENDING, STUCK)
        assert waits.cancel()
        assert not waits.cancel()
        assert waits.cancelled()


async def test_cancelling_an_await_cancels_the_task_and_a_shield_keeps_it(kit: Kit, tmp_path: Path) -> None:
    """A2: wait_for ends the task behind it; shield lets it go on."""
    async with kit.engine() as engine:
        task = kit.submit(engine, "hold", str(tmp_path), "awaited")
        await begun(tmp_path, "awaited")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(task, 0.01)
        assert task.cancelled()

        kept = kit.submit(engine, "hold", str(tmp_path), "kept")
        await begun(tmp_path, "kept")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(kept), 0.01)
        assert not kept.done()
        (tmp_path / "go").touch()
        assert await kept == "kept"


async def test_a_timeout_fails_the_task_and_frees_its_slot(kit: Kit, tmp_path: Path) -> None:
    async with kit.engine(1) as engine:
        task = kit.submit(engine.options(timeout=0.02), "hold", str(tmp_path), "slow")
        with pytest.raises(TaskTimeout) as caught:
            await asyncio.wait_for(task, STUCK)
        error = caught.value
        assert (error.task_id, error.lane, error.attempt, error.timeout) == (task.id, kit.lane.value, 1, 0.02)
        assert error.scope == "attempt"
        assert isinstance(error, TimeoutError)
        assert await asyncio.wait_for(kit.submit(engine, "give", 2), STUCK) == 2
        assert engine.snapshot().timeouts == 1


async def test_a_lane_knows_whose_end_has_arrived(kit: Kit, tmp_path: Path) -> None:
    """W22: not of one that waits or runs; of one that has ended, yes: a late timer asks."""
    async with kit.engine(slots=1) as engine:
        lane = engine._core.lanes[kit.lane]
        task = kit.submit(engine, "hold", str(tmp_path), "one")
        await begun(tmp_path, "one")
        attempt = task._attempt
        assert attempt is not None
        assert not lane.has_answered(attempt)
        (tmp_path / "go").touch()
        await task
        assert lane.has_answered(attempt)


async def test_time_in_the_queue_does_not_count_for_timeout_but_for_total_timeout(kit: Kit, tmp_path: Path) -> None:
    async with kit.engine(1) as engine:
        first = kit.submit(engine, "hold", str(tmp_path), "first")
        await begun(tmp_path, "first")
        late = kit.submit(engine.options(total_timeout=0.02), "touch", str(tmp_path / "late"))
        patient = kit.submit(engine.options(timeout=10), "give", 3)
        with pytest.raises(TaskTimeout) as caught:
            await asyncio.wait_for(late, STUCK)
        assert caught.value.scope == "total"
        assert late.started_at is None
        (tmp_path / "go").touch()
        assert await patient == 3
        assert await first == "first"
    assert not (tmp_path / "late").exists()


async def test_what_ignores_its_cancellation_is_given_up_after_its_grace(kit: Kit, tmp_path: Path) -> None:
    """A8, A9: its slot goes to the next task; a process is killed, a thread or coroutine abandoned and counted."""
    async with kit.engine(1) as engine:
        deaf = kit.submit(engine.options(grace=0.05), "resist", str(tmp_path), "deaf")
        await begun(tmp_path, "deaf")
        assert deaf.cancel()
        assert await asyncio.wait_for(kit.submit(engine, "give", 2), STUCK) == 2
        assert deaf.cancelled()
        counts = engine.snapshot()
        assert counts.abandoned == (kit.lane is not Lane.PROCESS)
        (tmp_path / "go").touch()
        if kit.lane is not Lane.PROCESS:
            await eventually_async(lambda: (tmp_path / "deaf.ended").exists(), STUCK)
            await eventually_async(lambda: engine.snapshot().late == 1, STUCK)  # its result is dropped, and counted
            assert engine.snapshot().lanes[kit.lane].abandoned == 0
    assert deaf.cancelled()


# -- attempts -------------------------------------------------------------------------------------------------------


async def test_a_failed_attempt_is_tried_again_and_attempts_never_overlap(kit: Kit, tmp_path: Path) -> None:
    path = tmp_path / "runs"
    async with kit.engine(4) as engine:
        task = kit.submit(engine.options(retry=FAST), "stumble", str(path), 2)
        assert await task == 3
        assert task.attempt == 3
        assert engine.snapshot().retries == 2
    times = spans(path)
    assert len(times) == 3
    assert most_at_once(times) == 1


async def test_the_last_failure_is_the_outcome(kit: Kit, tmp_path: Path) -> None:
    async with kit.engine() as engine:
        task = kit.submit(engine.options(retry=FAST), "stumble", str(tmp_path / "runs"), 99)
        with pytest.raises(OSError, match="failure 3"):
            await task
        assert task.attempt == 3


async def test_a_timeout_with_attempts_left_does_not_settle(kit: Kit, tmp_path: Path) -> None:
    path = tmp_path / "runs"
    async with kit.engine(4, grace=10) as engine:
        task = kit.submit(engine.options(retry=FAST, timeout=0.3), "dawdle", str(path), str(tmp_path / "go"))
        assert await asyncio.wait_for(task, STUCK) == 2
    assert most_at_once(spans(path)) == 1


async def test_no_more_run_at_once_than_there_are_slots(kit: Kit, tmp_path: Path) -> None:
    path = tmp_path / "stays"
    async with kit.engine(2) as engine:
        await asyncio.gather(*[kit.submit(engine, "stay", str(path), 0.005) for _ in range(20)])
    times = spans(path)
    assert len(times) == 20
    assert most_at_once(times) <= 2


async def test_the_more_urgent_runs_first_and_the_older_of_equals(kit: Kit, tmp_path: Path) -> None:
    path = tmp_path / "order"
    async with kit.engine(1) as engine:
        first = kit.submit(engine, "hold", str(tmp_path), "first")
        await begun(tmp_path, "first")
        record = functions.mark if kit.lane is not Lane.LOOP else _mark
        tasks = [
            (engine.options(priority=priority) if kit.lane is Lane.LOOP
             else engine.options(priority=priority, lane=kit.lane)).submit(record, str(path), name)
            for priority, name in [(Priority.LOW, "e"), (Priority.NORMAL, "c"), (Priority.HIGH, "a"),
                                   (Priority.NORMAL, "d"), (Priority.HIGH, "b")]
        ]  # fmt: skip
        (tmp_path / "go").touch()
        await asyncio.gather(first, *tasks)
    assert path.read_text().split() == ["a", "b", "c", "d", "e"]


async def _mark(path: str, text: str) -> None:
    functions.mark(path, text)


# -- the doors ------------------------------------------------------------------------------------------------------


@pytest.fixture
def doors(monkeypatch: pytest.MonkeyPatch) -> dict[Attempt, Counter[str]]:
    """Watch the front: by which door each claimed attempt leaves, and how often its slot is freed."""
    seen: dict[Attempt, Counter[str]] = {}
    lock = threading.Lock()

    def count(attempt: Attempt, what: str) -> None:
        with lock:
            seen.setdefault(attempt, Counter())[what] += 1

    def watch(owner: Any, method: str, what: Callable[[Any, Any], str | None]) -> None:
        true = getattr(owner, method)

        def spy(self: Any, subject: Any, *rest: Any) -> Any:
            answer = true(self, subject, *rest)
            attempts = [attempt for attempt, _ in subject] if method == "end_row" else [subject]
            for attempt in attempts:
                if said := what(attempt, answer):
                    count(attempt, said)
            return answer

        monkeypatch.setattr(owner, method, spy)

    watch(Registry, "claim_locked", lambda attempt, answer: "claim")
    watch(Scheduler, "end_row", lambda attempt, answer: "end")
    watch(Scheduler, "give_back", lambda attempt, answer: "give_back")
    watch(
        Scheduler,
        "begin",
        lambda attempt, answer: "refused" if not answer and attempt.lane is not Lane.PROCESS else None,
    )
    watch(Registry, "release_locked", lambda attempt, answer: "release")
    return seen


async def test_every_claimed_attempt_leaves_by_one_door(
    kit: Kit, tmp_path: Path, doors: dict[Attempt, Counter[str]]
) -> None:
    """``end``, ``give_back``, or taken back before it began; and its slot is freed once."""
    async with kit.engine(3, grace=0.02) as engine:
        tasks = [kit.submit(engine, "give", number) for number in range(10)]
        tasks += [kit.submit(engine, "fail", "on purpose") for _ in range(5)]
        tasks += [
            kit.submit(engine.options(retry=FAST), "stumble", str(tmp_path / f"runs-{number}"), 1)
            for number in range(3)
        ]
        tasks += [
            kit.submit(engine.options(timeout=0.01), "hold", str(tmp_path), f"slow-{number}") for number in range(2)
        ]
        tasks += [kit.submit(engine, "resist", str(tmp_path), "deaf")]
        await begun(tmp_path, "deaf")
        tasks += [kit.submit(engine, "stay", str(tmp_path / "stays"), 0.001) for _ in range(20)]
        for task in tasks[-21::2]:
            task.cancel()
        (tmp_path / "go").touch()
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), STUCK)
    for attempt, seen in doors.items():
        assert seen["claim"] == 1, (attempt.name, seen)
        assert seen["release"] == 1, (attempt.name, seen)
        assert seen["end"] + seen["give_back"] + seen["refused"] <= 1, (attempt.name, seen)
        if kit.lane is not Lane.PROCESS:  # there a recall may be the door
            assert seen["end"] + seen["refused"] == 1, (attempt.name, seen)
    assert len(doors) >= 20


# -- the end --------------------------------------------------------------------------------------------------------


async def test_leaving_waits_for_all_accepted_work(kit: Kit, tmp_path: Path) -> None:
    async with kit.engine(2) as engine:
        tasks = [kit.submit(engine, "touch", str(tmp_path / f"{number}")) for number in range(20)]
    assert all(task.state is TaskState.COMPLETED for task in tasks)
    assert len(list(tmp_path.iterdir())) == 20


async def test_stop_accounts_for_every_task_and_leaves_nothing(kit: Kit, tmp_path: Path) -> None:
    engine = await kit.engine(1).start()
    done = kit.submit(engine, "give", 1)
    failed = kit.submit(engine, "fail", "on purpose")
    await asyncio.gather(done, failed, return_exceptions=True)
    running = kit.submit(engine, "hold", str(tmp_path), "running")
    await begun(tmp_path, "running")
    queued = [kit.submit(engine, "touch", str(tmp_path / f"queued-{number}")) for number in range(5)]
    report = await asyncio.wait_for(engine.stop(timeout=0), STUCK)
    assert (report.submitted, report.completed, report.failed, report.cancelled) == (8, 1, 1, 6)
    assert report.cancelled_by_stop == 6
    assert running.cancelled()
    assert all(task.cancelled() and task.started_at is None for task in queued)
    assert not list(tmp_path.glob("queued-*"))
    snapshot = engine.snapshot()
    assert snapshot.phase == "closed"
    assert snapshot.count(TaskState.PENDING) == snapshot.count(TaskState.RUNNING) == 0
    assert not snapshot.workers
    assert await engine.stop() == report


async def test_stop_with_cancel_pending_lets_the_running_end(kit: Kit, tmp_path: Path) -> None:
    engine = await kit.engine(1).start()
    running = kit.submit(engine, "hold", str(tmp_path), "running")
    await begun(tmp_path, "running")
    queued = kit.submit(engine, "touch", str(tmp_path / "queued"))
    stopping = asyncio.ensure_future(engine.stop(cancel_pending=True))
    await asyncio.gather(queued, return_exceptions=True)
    assert queued.cancelled()
    (tmp_path / "go").touch()
    report = await asyncio.wait_for(stopping, STUCK)
    assert await running == "running"
    assert report.completed == report.cancelled == report.cancelled_by_stop == 1


async def test_stop_ends_what_ignores_its_cancellation(kit: Kit, tmp_path: Path) -> None:
    """A9: it returns although a task never stops; what cannot be killed is counted as abandoned."""
    engine = await kit.engine(1, grace=0.05).start()
    deaf = kit.submit(engine, "resist", str(tmp_path), "deaf")
    await begun(tmp_path, "deaf")
    report = await asyncio.wait_for(engine.stop(timeout=0.01), STUCK)
    assert deaf.cancelled()
    assert report.cancelled == 1
    assert report.abandoned == (kit.lane is not Lane.PROCESS)
    (tmp_path / "go").touch()
    if kit.lane is not Lane.PROCESS:
        await eventually_async(lambda: (tmp_path / "deaf.ended").exists(), STUCK)


async def test_after_the_stop_nothing_is_accepted(kit: Kit) -> None:
    """N1: EngineClosed, a RuntimeError that says what the standard executors say."""
    engine = await kit.engine().start()
    await engine.stop()
    with pytest.raises(EngineClosed, match="cannot schedule new futures after shutdown"):
        kit.submit(engine, "give", 1)
    assert issubclass(EngineClosed, RuntimeError)
