"""Jobs in a real engine: what becomes of each kind of run, with every store."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, EngineClosed, Retry, TaskState
from engine.jobs._current_job import CurrentJob, current_job
from engine.jobs._jobs import Jobs
from engine.jobs._memory.store import MemoryStore
from engine.jobs._records import Cancelled
from engine.jobs._sqlite.store import SQLiteStore
from engine.jobs._store import Store
from engine.jobs._worker.feeder import Feeder
from tests.integration import job_functions
from tests.integration.job_support import Bench
from tests.support import eventually_async

COMPLETED, FAILED, CANCELLED, PENDING = TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED, TaskState.PENDING


@pytest.fixture
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    in_memory = getattr(request, "param", "sqlite") == "memory"
    store: Store = MemoryStore() if in_memory else SQLiteStore(tmp_path / "jobs.db", "normal")
    yield Bench(Jobs(store, lease=1.0))
    store.close()


EVERY_STORE = pytest.mark.parametrize("bench", ["memory", "sqlite"], indirect=True)


def of_lane(bench: Bench, lane: str, name: str, **settings: Any) -> Any:
    """Register the function ``name``, or its coroutine, so that it runs in ``lane``."""
    if lane == "loop":
        return bench.jobs.task(**settings)(getattr(job_functions, f"{name}_async"))
    return bench.jobs.task(lane=lane, **settings)(getattr(job_functions, name))


def small_engine() -> Engine:
    return Engine(processes=1, threads=2, worker_idle_timeout=5)


LANES = pytest.mark.parametrize("lane", ["loop", "thread", "process"])


@EVERY_STORE
@LANES
async def test_a_job_runs_and_its_result_is_kept(bench: Bench, lane: str) -> None:
    add = of_lane(bench, lane, "add")
    async with small_engine() as engine, bench.jobs.worker(engine) as worker:
        (job,) = await bench.enqueue(add, args={"a": 1, "b": 2})
        (info,) = await bench.ended(job)
        assert (info.state, info.result, info.attempt) == (COMPLETED, "3", 1)
    assert worker.statistics().completed == 1
    assert worker.statistics().running == 0


@LANES
async def test_a_job_knows_itself_in_every_lane(bench: Bench, lane: str) -> None:
    """J1: also its token, with which it can fence what it writes elsewhere."""
    task = of_lane(bench, lane, "who_am_i", queue="mine")
    async with small_engine() as engine, bench.jobs.worker(engine):
        first, second = await bench.enqueue(task, 2)
        for job, info in zip((first, second), await bench.ended(first, second), strict=True):
            assert info.result == f'[{job},1,1,"{task.name}","mine",{{}}]'


@LANES
async def test_a_snooze_comes_again_and_uses_no_attempt(bench: Bench, lane: str) -> None:
    task = of_lane(bench, lane, "snooze_once")
    async with small_engine() as engine, bench.jobs.worker(engine) as worker:
        (job,) = await bench.enqueue(task, args={"seconds": 0.01})
        (info,) = await bench.ended(job)
        assert (info.state, info.result) == (COMPLETED, "[1,2]")
        assert await bench.failures(job) == []
    assert worker.statistics().snoozed == 1


@LANES
async def test_a_failure_is_tried_again_and_each_is_kept_with_its_traceback(bench: Bench, lane: str) -> None:
    """E159: it begins in the function, in every lane, and says the error once."""
    task = of_lane(bench, lane, "fail", retry=Retry(max_attempts=3, base_delay=0.01))
    async with small_engine() as engine, bench.jobs.worker(engine) as worker:
        (job,) = await bench.enqueue(task, args={"text": "no luck"})
        (info,) = await bench.ended(job)
        assert (info.state, info.attempt, info.error) == (FAILED, 3, "ValueError: no luck")
        failures = await bench.failures(job)
        assert [failure.attempt for failure in failures] == [1, 2, 3]
        assert {(failure.kind, failure.worker) for failure in failures} == {("error", worker.name)}
        for failure in failures:
            head, frame, *_, last = failure.traceback.splitlines()
            assert head == "Traceback (most recent call last):"
            assert "job_functions.py" in frame
            assert last == "ValueError: no luck"
            assert failure.traceback.count("no luck") == 1
    assert (worker.statistics().retried, worker.statistics().failed) == (2, 1)


async def test_each_failure_has_its_line_in_the_log_and_success_has_none(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """E157: with the attempt, the error, and when it is tried again."""
    caplog.set_level("INFO", "engine.jobs")
    fail = of_lane(bench, "loop", "fail", retry=Retry(max_attempts=2, base_delay=0.01))
    die = of_lane(bench, "process", "die", max_crashes=2, retry=Retry(base_delay=0.0))
    add = of_lane(bench, "loop", "add")
    async with small_engine() as engine, bench.jobs.worker(engine):
        (failing,) = await bench.enqueue(fail, args={"text": "no\nluck " + "x" * 10_000})
        (dying,) = await bench.enqueue(die)
        (good,) = await bench.enqueue(add, args={"a": 1, "b": 2})
        await bench.ended(failing, dying, good)
    lines = [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "engine.jobs"]
    (again, last) = [line for line in lines if line[1].startswith(f"job {failing} ({fail.name}) ")]
    assert again[0] == "INFO"
    assert "failed in attempt 1, and is tried again at once: ValueError: no luck xxx" in again[1]
    assert last[0] == "WARNING"
    assert "failed for good after attempt 2: ValueError: no luck xxx" in last[1]
    assert len(last[1]) < 1500
    (crash, last) = [line for line in lines if line[1].startswith(f"job {dying} ({die.name}) ")]
    assert crash[0] == last[0] == "WARNING"
    assert "and is tried again at once: WorkerCrashed: process-1 (pid " in crash[1]
    assert "was ended by SIGKILL" in last[1]
    assert not [line for line in lines if f"job {good} " in line[1]]


@LANES
async def test_a_result_that_is_not_json_fails_and_is_not_computed_again(bench: Bench, lane: str) -> None:
    """J16: its effects are done."""
    task = of_lane(bench, lane, "not_json", retry=Retry(max_attempts=5, base_delay=0.0))
    async with small_engine() as engine, bench.jobs.worker(engine):
        (job,) = await bench.enqueue(task)
        (info,) = await bench.ended(job)
        assert (info.state, info.attempt) == (FAILED, 1)
        (failure,) = await bench.failures(job)
        assert failure.kind == "result"
        assert failure.error.startswith("ResultNotSerializable: expected the result to be")


@EVERY_STORE
async def test_a_name_that_nobody_knows_waits_for_newer_code_and_the_worker_goes_on(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """J6: it comes again later and uses no attempt; its history says why, and the log once what to do."""
    add = of_lane(bench, "loop", "add")
    async with small_engine() as engine, bench.jobs.worker(engine) as worker:
        unknown, _ = await bench.enqueue("deleted.module.work", 2)
        (good,) = await bench.enqueue(add, args={"a": 1, "b": 1})
        await bench.ended(good)
        await eventually_async(lambda: worker.statistics().retried == 2)
        info = await bench.look(unknown)
        assert (info.state, info.attempt) == (PENDING, 0)
        assert info.error is not None
        assert info.error.startswith("UnknownTask: expected the name of a registered task")
    (told,) = [
        record.getMessage() for record in caplog.records if "has no task 'deleted.module.work'" in record.message
    ]
    assert told.startswith(worker.name)


@EVERY_STORE
async def test_a_name_that_stays_unknown_fails_in_the_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """J6: with the reason; requeued, it has all its time again."""
    monkeypatch.setattr("engine.jobs._worker.runner.UNKNOWN_RETRY", Retry(max_attempts=3, base_delay=0.0))
    of_lane(bench, "loop", "add")
    async with small_engine() as engine, bench.jobs.worker(engine):
        (unknown,) = await bench.enqueue("deleted.module.work")
        for times in (3, 6):
            (info,) = await bench.ended(unknown)
            assert (info.state, len(await bench.failures(unknown))) == (FAILED, times)
            assert await bench.store.write(lambda book, now: book.requeue(unknown, now))
        assert {failure.kind for failure in await bench.failures(unknown)} == {"unknown task"}


async def test_an_old_worker_uses_up_no_attempt_of_a_newer_ones_task(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E156: a rolling deployment loses no job."""
    monkeypatch.setattr("engine.jobs._worker.runner.UNKNOWN_RETRY", Retry(max_attempts=50, base_delay=0.0))
    async with small_engine() as engine:
        (job,) = await bench.enqueue("new.task", args={"text": "no luck"})
        old = Jobs(bench.store, queues=["default"])

        async def has_failed() -> bool:
            return len(await bench.failures(job)) >= 4

        async with old.worker(engine):
            await eventually_async(has_failed)
        bench.jobs.task(name="new.task", retry=Retry(max_attempts=3, base_delay=0.0))(job_functions.fail_async)
        async with bench.jobs.worker(engine):
            (info,) = await bench.ended(job)
        assert (info.state, info.attempt, info.error) == (FAILED, 3, "ValueError: no luck")
        kinds = [failure.kind for failure in await bench.failures(job)]
        assert kinds == ["unknown task"] * (len(kinds) - 3) + ["error"] * 3


@LANES
@pytest.mark.parametrize("args", [{"a": 1}, {"a": 1, "b": 2, "c": 3}, {"x": 1}])
async def test_arguments_that_the_function_does_not_take_fail_at_once(
    bench: Bench, lane: str, args: dict[str, int]
) -> None:
    """J7: those of an older or newer schema; no retry can mend them."""
    add = of_lane(bench, lane, "add", retry=Retry(max_attempts=5, base_delay=0.0))
    async with small_engine() as engine, bench.jobs.worker(engine):
        (job,) = await bench.enqueue(add, args=args)
        (info,) = await bench.ended(job)
        assert (info.state, info.attempt) == (FAILED, 1)
        (failure,) = await bench.failures(job)
        assert failure.kind == "arguments"
        assert failure.error.startswith("TypeError: ")


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a": 1, "b": NaN}', "3", "", '{"a": 1, "a": 2}', '{"a": "\\ud800"}'])
async def test_a_row_that_holds_no_arguments_fails_and_the_worker_goes_on(bench: Bench, text: str) -> None:
    """J8: at the claim, with the reason."""
    add = of_lane(bench, "loop", "add")
    async with small_engine() as engine, bench.jobs.worker(engine):
        (bad,) = await bench.enqueue(add, args=text)
        (good,) = await bench.enqueue(add, args={"a": 1, "b": 1})
        bad_info, good_info = await bench.ended(bad, good)
        assert (bad_info.state, good_info.state) == (FAILED, COMPLETED)
        assert bad_info.error is not None
        assert bad_info.error.startswith("PayloadRefused: ")
        assert len(await bench.failures(bad)) == 1


async def test_a_job_that_kills_its_worker_process_fails_and_its_neighbours_go_on(bench: Bench) -> None:
    """J3: with the log of the crashes, which use no attempts."""
    die = bench.jobs.task(lane="process", max_crashes=2, retry=Retry(max_attempts=1, base_delay=0.01))(
        job_functions.die
    )
    add = of_lane(bench, "process", "add")
    async with small_engine() as engine, bench.jobs.worker(engine) as worker:
        (bad,) = await bench.enqueue(die)
        good = await bench.enqueue(add, 5, args={"a": 1, "b": 1})
        infos = await bench.ended(bad, *good)
        assert [info.state for info in infos] == [FAILED, *[COMPLETED] * 5]
        assert (infos[0].crashes, infos[0].attempt) == (2, 1)
        failures = await bench.failures(bad)
        assert [failure.kind for failure in failures] == ["crash", "crash"]
        assert all("SIGKILL" in failure.error for failure in failures)
    assert (worker.statistics().retried, worker.statistics().failed) == (1, 1)


@pytest.mark.parametrize(
    ("lane", "name"), [("loop", "wait_for_ever"), ("thread", "spin_for_ever"), ("process", "spin_for_ever")]
)
async def test_a_run_that_takes_too_long_is_stopped_and_tried_again(bench: Bench, lane: str, name: str) -> None:
    """E127: and the next run does not begin before nothing of this one runs any more."""
    task = bench.jobs.task(lane=lane, timeout=0.05, retry=Retry(max_attempts=2, base_delay=0.0))(
        getattr(job_functions, name)
    )
    async with small_engine() as engine, bench.jobs.worker(engine):
        (job,) = await bench.enqueue(task)
        (info,) = await bench.ended(job)
        assert (info.state, info.attempt) == (FAILED, 2)
        assert [failure.kind for failure in await bench.failures(job)] == ["timeout", "timeout"]
        assert [worker.task_id for worker in engine.snapshot().workers if worker.task_id is not None] == []


async def test_a_cancellation_that_a_job_makes_itself_is_a_failure(bench: Bench) -> None:
    """E123: given back it would run for ever."""
    task = bench.jobs.task(retry=Retry(max_attempts=2, base_delay=0.0))(job_functions.cancel_itself)
    async with small_engine() as engine, bench.jobs.worker(engine):
        (job,) = await bench.enqueue(task)
        (info,) = await bench.ended(job)
        assert (info.state, info.attempt) == (FAILED, 2)
        assert {failure.kind for failure in await bench.failures(job)} == {"cancelled"}


@EVERY_STORE
@pytest.mark.parametrize(
    ("lane", "name"), [("loop", "wait_for_ever"), ("thread", "spin_for_ever"), ("process", "spin_for_ever")]
)
async def test_a_running_job_is_cancelled_from_outside(bench: Bench, lane: str, name: str) -> None:
    """J13: one terminal state."""
    task = bench.jobs.task(lane=lane)(getattr(job_functions, name))
    async with small_engine() as engine, bench.jobs.worker(engine) as worker:
        (job,) = await bench.enqueue(task)
        await bench.running(job)
        assert await bench.cancel(job) is Cancelled.ASKED
        (info,) = await bench.ended(job)
        assert info.state is CANCELLED
        assert await bench.cancel(job) is Cancelled.TOO_LATE
    assert worker.statistics().cancelled == 1


@EVERY_STORE
async def test_a_cancel_that_comes_before_the_worker_has_taken_the_job_is_heard(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E215: the claim is committed, and the worker, which runs nothing else, does not know it yet."""
    claimed, go = asyncio.Event(), asyncio.Event()
    claim_from = Feeder._write

    async def claim_late(feeder: Feeder, claim: Any) -> Any:
        answer = await claim_from(feeder, claim)
        if answer is not None and answer[0].jobs:
            claimed.set()
            await go.wait()
        return answer

    monkeypatch.setattr(Feeder, "_write", claim_late)
    task = bench.jobs.task(job_functions.wait_for_ever)
    async with small_engine() as engine, bench.jobs.worker(engine) as worker:
        (job,) = await bench.enqueue(task)
        await claimed.wait()
        assert await bench.cancel(job) is Cancelled.ASKED
        await asyncio.sleep(0.3)  # the worker hears of it, and finds no such run
        go.set()
        (info,) = await bench.ended(job)
    assert info.state is CANCELLED
    assert worker.statistics().cancelled == 1


async def test_a_job_that_completes_before_it_hears_of_its_cancel_is_completed(bench: Bench) -> None:
    """J13: what came first wins."""
    started, go = asyncio.Event(), asyncio.Event()

    @bench.jobs.task
    async def work() -> str:
        started.set()
        await go.wait()
        return "done"

    async with small_engine() as engine, bench.jobs.worker(engine):
        (job,) = await bench.enqueue(work)
        await started.wait()
        go.set()  # and the loop does not turn until the cancel is asked
        await bench.cancel(job)
        (info,) = await bench.ended(job)
        assert (info.state, info.result) == (COMPLETED, '"done"')


async def test_progress_of_a_running_job_is_seen_from_outside(bench: Bench) -> None:
    task = bench.jobs.task(lane="thread")(job_functions.report_and_wait)
    async with small_engine() as engine, bench.jobs.worker(engine, drain_timeout=0):
        (job,) = await bench.enqueue(task, args={"done": 3})

        async def progress() -> str | None:
            return (await bench.look(job)).progress

        assert await eventually_async(progress) == '{"done": 3, "total": 10, "message": "on its way"}'


# -- the lease --------------------------------------------------------------------------------------------------------


@EVERY_STORE
async def test_a_run_whose_lease_was_lost_is_stopped_and_records_nothing(bench: Bench) -> None:
    """J1: the stale run is refused and counted; its worker goes on under a new claim and runs the job again."""
    tokens, release = list[int](), asyncio.Event()

    @bench.jobs.task
    async def work() -> int:
        job = current_job()
        assert job is not None
        tokens.append(job.token)
        if job.token == 1:
            try:
                await release.wait()
            except asyncio.CancelledError:
                return 1  # the stale run has a result all the same
        return job.token

    async with small_engine() as engine, bench.jobs.worker(engine) as worker:
        (job,) = await bench.enqueue(work)
        await eventually_async(lambda: tokens == [1])
        (rescued,) = await bench.rescue_all()
        assert (rescued.id, rescued.state) == (job, PENDING)
        (info,) = await bench.ended(job)
        assert (info.state, info.result, info.crashes) == (COMPLETED, "2", 0)
        assert tokens == [1, 2]
        statistics = worker.statistics()
        assert (statistics.fenced, statistics.lost_leases, statistics.completed) == (1, 1, 1)
        assert [failure.kind for failure in await bench.failures(job)] == ["lost"]


@EVERY_STORE
async def test_suspects_run_one_at_a_time_with_nothing_beside_them(bench: Bench) -> None:
    """J4: what runs is let end first, and nothing else is claimed until they are through."""
    running, most = set[int](), dict[str, int]()

    async def work(kind: str) -> None:
        job = current_job()
        assert job is not None
        running.add(job.id)
        most[kind] = max(most.get(kind, 0), len(running))
        if kind == "suspect" and job.token == 1:
            await asyncio.Event().wait()  # until its holder is lost
        await asyncio.sleep(0.01)
        most[kind] = max(most[kind], len(running))
        running.discard(job.id)

    bench.jobs.task(name="work")(work)
    async with small_engine() as engine:
        lost = bench.jobs.worker(engine)
        await lost.start()
        suspects = await bench.enqueue("work", 5, args={"kind": "suspect"})
        await bench.running(*suspects)
        await lost.drain(0)
        await bench.rescue_all()
        await lost.stop(0)
        running.clear()
        most.clear()
        others = await bench.enqueue("work", 20, args={"kind": "other"}, priority=5)
        async with bench.jobs.worker(engine):
            infos = await bench.ended(*suspects, *others)
        assert {info.state for info in infos} == {COMPLETED}
        assert most["suspect"] == 1
        assert most["other"] > 1


# -- drain ------------------------------------------------------------------------------------------------------------


async def test_leaving_waits_for_what_runs_and_claims_nothing_new(bench: Bench) -> None:
    started, go = asyncio.Event(), asyncio.Event()

    @bench.jobs.task
    async def work() -> None:
        started.set()
        await go.wait()

    async with small_engine() as engine:
        async with bench.jobs.worker(engine, concurrency=1) as worker:
            first, second = await bench.enqueue(work, 2)
            await started.wait()
            asyncio.get_running_loop().call_later(0.02, go.set)
        assert (await bench.look(first)).state is COMPLETED
        assert (await bench.look(second)).state is PENDING
        assert repr(worker).endswith(f"stopped, runs 0 jobs of {bench.jobs.name!r}>")


@EVERY_STORE
async def test_what_does_not_end_in_time_is_given_back_and_uses_no_attempt(bench: Bench) -> None:
    """N11: the short one is done, the long one goes back to the queue."""
    go = asyncio.Event()

    @bench.jobs.task
    async def short() -> None:
        await go.wait()

    longs: list[Any] = [
        bench.jobs.task(name="loop")(job_functions.wait_for_ever),
        bench.jobs.task(name="thread", lane="thread")(job_functions.spin_for_ever),
        bench.jobs.task(name="process", lane="process")(job_functions.spin_for_ever),
    ]
    async with small_engine() as engine:
        async with bench.jobs.worker(engine, drain_timeout=0.3) as worker:
            (done,) = await bench.enqueue(short)
            stopped = [(await bench.enqueue(long))[0] for long in longs]
            await bench.running(done, *stopped)
            go.set()
        assert (await bench.look(done)).state is COMPLETED
        for job in stopped:
            info = await bench.look(job)
            assert (info.state, info.attempt, info.crashes, info.holder) == (PENDING, 0, 0, None)
            assert await bench.failures(job) == []
    assert worker.statistics().given_back == 3


async def test_leaving_with_an_error_gives_back_at_once(bench: Bench) -> None:
    task = bench.jobs.task(job_functions.wait_for_ever)
    (job,) = await bench.enqueue(task)

    async def leave_with_an_error(engine: Engine) -> None:
        async with bench.jobs.worker(engine, drain_timeout=None):
            await bench.running(job)
            raise ZeroDivisionError

    async with small_engine() as engine:
        with pytest.raises(ZeroDivisionError):
            await leave_with_an_error(engine)
        info = await bench.look(job)
        assert (info.state, info.attempt) == (PENDING, 0)


async def test_a_job_that_ignores_its_cancellation_is_given_back_all_the_same(bench: Bench) -> None:
    """N11: the engine gives the run up, and so do we."""
    go = asyncio.Event()

    @bench.jobs.task
    async def stubborn() -> None:
        while not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                pass

    async with Engine(processes=1, threads=1, grace=0.05) as engine:
        async with bench.jobs.worker(engine, drain_timeout=0):
            (job,) = await bench.enqueue(stubborn)
            await bench.running(job)
        info = await bench.look(job)
        assert (info.state, info.attempt) == (PENDING, 0)
        go.set()


@pytest.mark.parametrize("lane", ["loop", "thread"])
async def test_what_the_engine_says_of_a_run_names_its_job(
    bench: Bench, lane: str, caplog: pytest.LogCaptureFixture
) -> None:
    """E203: given up, at its end behind that, and where it is shown while it runs; other tasks are named as ever."""
    go, began = threading.Event(), threading.Event()

    @bench.jobs.task(name="stubborn", lane="thread", timeout=0.05)
    def in_thread() -> None:
        began.set()
        go.wait(20)

    @bench.jobs.task(name="stubborn_too", timeout=0.05)
    async def on_loop() -> None:
        began.set()
        for _ in range(500):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)
            if go.is_set():
                break

    task: Any = in_thread if lane == "thread" else on_loop
    caplog.set_level("INFO", "engine")
    async with Engine(processes=1, threads=2, grace=0.05) as engine, bench.jobs.worker(engine):
        (job,) = await bench.enqueue(task)
        name = f"({task.name}, job {job})"
        await eventually_async(began.is_set)
        if lane == "loop":
            assert name[1:-1] in {each.get_name() for each in asyncio.all_tasks()}
        (info,) = await bench.ended(job)
        assert info.state is FAILED
        assert name[1:-1] in {running.split(" (")[-1][:-1] for running in engine.stacks()}
        go.set()
        await eventually_async(lambda: f"{name}, which was abandoned, has ended" in caplog.text)
        await engine.options(lane="loop").submit(asyncio.sleep, 0)
        assert [info.name for info in engine.tasks()] == [task.name, "sleep"]
    assert f"{name} was asked to stop" in caplog.text
    assert f"job {job} ({task.name}) failed for good" in caplog.text


async def test_a_worker_whose_engine_has_stopped_gives_back_and_claims_no_more(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """E128: a job must not run out of attempts because of an engine that is gone."""
    task = bench.jobs.task(job_functions.wait_for_ever)
    engine = small_engine()
    await engine.start()
    async with bench.jobs.worker(engine) as worker:
        (job,) = await bench.enqueue(task)
        await bench.running(job)
        await engine.stop(timeout=0)
        await eventually_async(lambda: worker.statistics().given_back >= 1)
        await eventually_async(lambda: "claims no more" in caplog.text)
    info = await bench.look(job)
    assert (info.state, info.attempt) == (PENDING, 0)


async def test_a_worker_needs_a_running_engine_and_lives_once(bench: Bench) -> None:
    with pytest.raises(EngineClosed):
        await bench.jobs.worker(small_engine()).start()
    async with small_engine() as engine:
        worker = bench.jobs.worker(engine)
        async with worker:
            with pytest.raises(RuntimeError, match="got one that is running"):
                await worker.start()
        await worker.stop()
        await bench.jobs.worker(engine).stop()
        wrong: list[dict[str, Any]] = [
            {"concurrency": 0}, {"queues": "mail"}, {"queues": []}, {"queues": {"mail": 0}}, {"drain_timeout": -1},
        ]  # fmt: skip
        for each in wrong:
            with pytest.raises(ValueError, match="expected"):
                bench.jobs.worker(engine, **each)


# -- hooks ------------------------------------------------------------------------------------------------------------


async def test_hooks_hear_of_every_run_and_their_errors_change_nothing(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """E129: sync and async ones, of which one raises."""
    heard: list[tuple[Any, ...]] = []

    @bench.jobs.before_run
    async def before(job: CurrentJob) -> None:
        heard.append(("before", job.name, job.attempt, dict(job.args)))
        raise LookupError("of the hook")

    @bench.jobs.after_run
    def after(job: CurrentJob, result: Any) -> None:
        heard.append(("after", job.name, result))

    @bench.jobs.on_attempt_failed
    def attempt_failed(job: CurrentJob, error: BaseException) -> None:
        heard.append(("attempt", job.name, job.attempt, str(error)))

    @bench.jobs.on_failed
    async def failed(job: CurrentJob, error: BaseException) -> None:
        heard.append(("failed", job.name, job.attempt, str(error)))

    bench.jobs.task(name="good", lane="thread")(job_functions.add)
    bench.jobs.task(name="bad", retry=Retry(max_attempts=2, base_delay=0.0))(job_functions.fail_async)
    async with small_engine() as engine, bench.jobs.worker(engine):
        (good,) = await bench.enqueue("good", args={"a": 1, "b": 2})
        (info,) = await bench.ended(good)
        assert (info.state, info.result) == (COMPLETED, "3")
        (bad,) = await bench.enqueue("bad", args={"text": "no"})
        (info,) = await bench.ended(bad)
        assert (info.state, info.attempt) == (FAILED, 2)
    assert heard == [
        ("before", "good", 1, {"a": 1, "b": 2}),
        ("after", "good", 3),
        ("before", "bad", 1, {"text": "no"}),
        ("attempt", "bad", 1, "no"),
        ("before", "bad", 2, {"text": "no"}),
        ("attempt", "bad", 2, "no"),
        ("failed", "bad", 2, "no"),
    ]
    assert "LookupError: of the hook" in caplog.text


async def test_a_slow_hook_delays_only_its_own_job(bench: Bench) -> None:
    """E129: and leaving cuts it off."""
    stuck = asyncio.Event()

    @bench.jobs.after_run
    async def after(job: CurrentJob, result: Any) -> None:
        if result == 1:
            stuck.set()
            await asyncio.Event().wait()

    add = of_lane(bench, "loop", "add")
    async with small_engine() as engine:
        async with bench.jobs.worker(engine, drain_timeout=0) as worker:
            (slow,) = await bench.enqueue(add, args={"a": 1, "b": 0})
            await stuck.wait()
            (quick,) = await bench.enqueue(add, args={"a": 1, "b": 1})
            await bench.ended(quick)
            assert worker.statistics().running == 1
        (info,) = await bench.ended(slow)
        assert (info.state, info.result) == (COMPLETED, "1")


# -- room and pace ----------------------------------------------------------------------------------------------------


@EVERY_STORE
async def test_no_more_is_claimed_than_the_worker_its_queues_and_its_lanes_can_run(bench: Bench) -> None:
    """E125: the rest stays for others."""
    job_functions.GATE.clear()
    hold = bench.jobs.task(name="hold", queue="mail")(job_functions.wait_for_ever)
    block = bench.jobs.task(name="block", lane="thread")(job_functions.wait_in_thread)
    try:
        async with (
            small_engine() as engine,
            bench.jobs.worker(engine, queues={"mail": 3, "default": None}, concurrency=6, drain_timeout=0) as worker,
        ):
            await bench.enqueue(hold, 10)
            await bench.enqueue(block, 10)
            await eventually_async(lambda: worker.statistics().queues == {"mail": 3, "default": 2})
            assert worker.statistics().claimed == 5
            job_functions.GATE.set()
            await eventually_async(lambda: worker.statistics().completed == 10)
            assert worker.statistics().queues == {"mail": 3}
    finally:
        job_functions.GATE.set()


@EVERY_STORE
async def test_an_idle_worker_does_not_ask_again_and_again(bench: Bench) -> None:
    """J14: only jobs of the future are in the queue."""
    add = of_lane(bench, "loop", "add")
    async with small_engine() as engine, bench.jobs.worker(engine) as worker:
        (done,) = await bench.enqueue(add, args={"a": 1, "b": 1})
        await bench.enqueue(add, 100, args={"a": 1, "b": 1}, delay=3600.0)
        await bench.ended(done)
        before = worker.statistics().claims
        turns = asyncio.Event()
        asyncio.get_running_loop().call_later(0.2, turns.set)
        await turns.wait()
        assert worker.statistics().claims - before <= 3


@EVERY_STORE
async def test_jobs_that_fail_at_once_are_run_as_often_as_they_may_and_no_more(bench: Bench) -> None:
    """J14: claims come in batches, however fast the runs end."""
    task = of_lane(bench, "loop", "fail", retry=Retry(max_attempts=2, base_delay=0.001))
    async with small_engine() as engine, bench.jobs.worker(engine) as worker:
        jobs = await bench.enqueue(task, 500, args={"text": "no"})
        infos = await bench.ended(*jobs)
        assert {(info.state, info.attempt) for info in infos} == {(FAILED, 2)}
        assert worker.statistics().claimed == 1000
        assert worker.statistics().claims < 300


@EVERY_STORE
async def test_a_delayed_job_starts_when_it_is_due(bench: Bench) -> None:
    add = of_lane(bench, "loop", "add")
    async with small_engine() as engine, bench.jobs.worker(engine):
        (job,) = await bench.enqueue(add, args={"a": 1, "b": 1}, delay=0.05)
        assert (await bench.ended(job))[0].state is COMPLETED


async def test_a_full_engine_gets_its_jobs_later(bench: Bench) -> None:
    """E128: what it has no room for is given back, and uses no attempt."""
    add = of_lane(bench, "loop", "add")
    async with Engine(processes=1, threads=1, max_pending=2) as engine, bench.jobs.worker(engine) as worker:
        jobs = await bench.enqueue(add, 20, args={"a": 1, "b": 1})
        infos = await bench.ended(*jobs)
        assert {(info.state, info.attempt) for info in infos} == {(COMPLETED, 1)}
        assert worker.statistics().given_back > 0


async def test_jobs_of_a_lane_that_cannot_start_are_given_back(bench: Bench) -> None:
    """E128: a broken initializer charges no job; other lanes go on."""
    slow = of_lane(bench, "process", "add")
    quick = bench.jobs.task(name="quick")(job_functions.add_async)
    broken = Engine(processes=1, threads=1, initializer=job_functions.fail, initargs=("no start",))
    async with broken as engine, bench.jobs.worker(engine) as worker:
        (stuck,) = await bench.enqueue(slow, args={"a": 1, "b": 1})
        await eventually_async(lambda: worker.statistics().given_back >= 1)
        (job,) = await bench.enqueue(quick, args={"a": 1, "b": 1})
        assert (await bench.ended(job))[0].state is COMPLETED
    info = await bench.look(stuck)
    assert (info.state, info.attempt, info.crashes) == (PENDING, 0, 0)


@pytest.mark.parametrize("lane", ["loop", "thread"])
async def test_an_error_whose_class_is_user_code_that_raises_fails_its_own_job(bench: Bench, lane: str) -> None:
    """E4: the worker goes on."""
    bad = of_lane(bench, lane, "raise_a_liar", retry=Retry(max_attempts=3, base_delay=0.0))
    add = of_lane(bench, lane, "add")
    async with small_engine() as engine, bench.jobs.worker(engine):
        (failed,) = await bench.enqueue(bad)
        (info,) = await bench.ended(failed)
        assert info.state is FAILED
        (job,) = await bench.enqueue(add, args={"a": 1, "b": 1})
        assert (await bench.ended(job))[0].state is COMPLETED
