"""Workers that do not come up: what waits is told why, nothing spins, and all goes on when the cause is gone.

SCENARIOS W8, W9, W18; design/0007.
"""

import asyncio
import dataclasses
import itertools
import logging
import multiprocessing
import multiprocessing.spawn
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import pytest

from engine import Engine, Retry
from engine._lanes._process import breaker
from engine._system import NoInterpreter
from engine.errors import RemoteTraceback, WorkerStartupError
from tests.contracts import functions
from tests.integration import start_functions as does
from tests.support import eventually_async

STUCK = 30.0  #: seconds; a bound for what never happens, not a measurement


@asynccontextmanager
async def failing(how: str, path: Path, until: int = 10**9, **settings: Any) -> AsyncIterator[Engine]:
    """Run an engine whose workers fail to start as ``how`` says, the first ``until`` of them; each start is noted."""
    settings = {"processes": 1, "initializer": does.count_starts, "initargs": (str(path), how, until), **settings}
    async with Engine(**settings) as engine:
        yield engine


async def outcome(engine: Engine) -> Any:
    """Return what a task gives, or its error."""
    (result,) = await asyncio.wait_for(asyncio.gather(engine.submit(functions.give, 42), return_exceptions=True), STUCK)
    return result


async def start_error(engine: Engine) -> WorkerStartupError:
    error = await outcome(engine)
    assert isinstance(error, WorkerStartupError), error
    return error


def starts(path: Path) -> list[float]:
    return [float(line) for line in path.read_text().splitlines()]


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pause less between two tries, where the pauses are not what the test is about."""
    monkeypatch.setattr(breaker, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(breaker, "PAUSE_MOST", 0.05)


# -- the breaker ----------------------------------------------------------------------------------------------------


async def test_twenty_deaths_before_hello_fail_what_waits_and_cost_twenty_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W8: each try is one process, a pause lies between two, and the twenty-first worker runs the tasks."""
    monkeypatch.setattr(breaker, "PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(breaker, "PAUSE_MOST", 0.04)
    path, failed = tmp_path / "starts", 0
    async with failing("exits hard", path, 20) as engine:
        while (error := await outcome(engine)) != 42:
            failed += 1
            assert isinstance(error, WorkerStartupError)
            assert (error.exit_code, error.signal_name) == (7, None)
            assert "out of luck" in error.stderr
            assert "out of luck" in str(error)
            assert isinstance(error.__cause__, RemoteTraceback)
        at = starts(path)
        assert len(at) == 21
        gaps = [after - before for before, after in itertools.pairwise(at)]
        assert min(gaps[:1]) >= 0.02
        assert min(gaps[1:]) >= 0.04
        assert failed == 18  # the first three tries were one task's, each later one had its own
        snapshot = engine.snapshot()
        assert snapshot.start_failures == 20
        assert snapshot.last_start_error is not None
        assert "out of luck" in snapshot.last_start_error
        assert "failed starts 20" in str(snapshot)


async def test_workers_that_start_together_and_fail_are_one_try(tmp_path: Path) -> None:
    """W8: with many slots too, a storm of tasks makes no storm of processes."""
    path = tmp_path / "starts"
    async with failing("raises", path, processes=4) as engine:
        tasks = [engine.submit(functions.give, number) for number in range(200)]
        results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), STUCK)
        assert all(isinstance(result, WorkerStartupError) for result in results)
        assert len(starts(path)) == 4 + 2


async def test_tasks_that_keep_coming_do_not_start_more_than_the_pauses_allow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W8: a submit every few milliseconds against starts that always fail."""
    monkeypatch.setattr(breaker, "PAUSE_MOST", 0.2)
    path = tmp_path / "starts"
    async with failing("raises", path) as engine:
        tasks = []
        while not path.exists() or len(starts(path)) < 8:
            tasks.append(engine.submit(functions.give, 1))
            await asyncio.sleep(0.002)
        gaps = [after - before for before, after in itertools.pairwise(starts(path))]
        assert min(gaps) >= 0.1
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), STUCK)


@pytest.mark.usefixtures("short_pauses")
async def test_all_goes_on_when_the_cause_is_gone(tmp_path: Path) -> None:
    """W8: no task fails once the initializer works again, and the breaker is closed: workers start at will."""
    broken = tmp_path / "broken"
    broken.touch()
    async with Engine(processes=2, initializer=does.fail_where_marked, initargs=(str(broken),)) as engine:
        await start_error(engine)
        broken.unlink()
        tasks = [engine.submit(functions.give, number) for number in range(20)]
        assert await asyncio.wait_for(asyncio.gather(*tasks), STUCK) == list(range(20))
        await asyncio.wait_for(engine.warm_up(), STUCK)


async def test_restarting_the_workers_ends_the_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """W8: who has mended the cause need not wait for the next try."""
    monkeypatch.setattr(breaker, "PAUSE_SECONDS", 1000.0)
    monkeypatch.setattr(breaker, "PAUSE_MOST", 1000.0)
    broken = tmp_path / "broken"
    broken.touch()
    async with Engine(processes=1, initializer=does.fail_where_marked, initargs=(str(broken),)) as engine:
        task = engine.submit(functions.give, 5)
        await eventually_async(lambda: engine.snapshot().start_failures == 1, STUCK)
        broken.unlink()
        await engine.restart_workers()
        assert await asyncio.wait_for(task, STUCK) == 5


async def test_a_start_that_fails_while_another_one_is_slow_fails_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W9: three tries failed, but one worker is still on its way: what waits is for it."""
    monkeypatch.setattr(breaker, "MAX_FAILURES", 1)
    go = tmp_path / "go"
    settings: Any = {"initializer": does.first_is_slow, "initargs": (str(tmp_path / "first"), str(go))}
    async with Engine(processes=2, **settings) as engine:
        tasks = [engine.submit(functions.give, number) for number in range(2)]
        await eventually_async(lambda: engine.snapshot().start_failures >= 1, STUCK)
        assert not any(task.done() for task in tasks)
        go.touch()
        assert await asyncio.wait_for(asyncio.gather(*tasks), STUCK) == [0, 1]


async def test_workers_that_die_right_after_hello_trip_the_breaker_too(tmp_path: Path) -> None:
    """W8: hello alone is no success: a worker that dies before any task has begun is a failed start."""
    path = tmp_path / "starts"
    async with failing("dies after hello", path) as engine:
        error = await start_error(engine)
        assert error.exit_code == 9
        assert "before it had begun a task" in str(error)
        assert len(starts(path)) == 3
        assert engine.snapshot().crashes == 0


async def test_every_failure_is_logged_with_its_cause_and_the_time_of_the_next_try(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """W8: while other workers work nobody's task fails, so the log has to say it."""
    with caplog.at_level(logging.WARNING, "engine"):
        async with failing("raises", tmp_path / "starts") as engine:
            await start_error(engine)
    said = [record.getMessage() for record in caplog.records if "no licence" in record.getMessage()]
    assert [f"failure {number} in a row" in text for number, text in enumerate(said[:3], 1)] == [True] * 3
    assert "next try in 0.1 s" in said[0]
    assert "next try in 0.4 s" in said[2]


@pytest.mark.usefixtures("short_pauses")
async def test_a_retry_policy_does_not_see_a_failed_start(tmp_path: Path) -> None:
    """Section 3: start-up errors are not the task's."""
    async with failing("raises", tmp_path / "starts") as engine:
        task = engine.options(retry=Retry(max_attempts=5, base_delay=0.001)).submit(functions.give, 1)
        await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), STUCK)
        assert isinstance(task.exception(), WorkerStartupError)
        assert task.attempt == 0


# -- how an initializer can fail ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("short_pauses")
@pytest.mark.parametrize(
    ("how", "text", "code", "signal_name"),
    [
        ("raises", "LookupError: no licence", None, None),
        ("exits", "SystemExit: 3", None, None),
        ("exits hard", "exited with code 7", 7, None),
        ("prints and exits", "the model is gone", 8, None),
        ("SIGKILL", "ended by SIGKILL", None, "SIGKILL"),
        ("SIGSEGV", "ended by SIGSEGV", None, "SIGSEGV"),
    ],
)
async def test_an_initializer_that_fails_says_how(
    tmp_path: Path, how: str, text: str, code: int | None, signal_name: str | None
) -> None:
    """W9, E17: with the cause chained, or the last of stderr, and how the process ended, if it ended by itself."""
    async with failing(how, tmp_path / "starts") as engine:
        error = await start_error(engine)
        assert text in str(error)
        assert (error.exit_code, error.signal_name) == (code, signal_name)
        assert error.pid is not None
        if how in ("raises", "exits"):
            assert isinstance(error.__cause__, RemoteTraceback)
            assert "fail_to_start" in str(error.__cause__)
            assert "initializer tests.integration.start_functions.count_starts of a worker process" in str(error)
        if how == "SIGSEGV":
            assert "fail_to_start" in error.stderr  # faulthandler's trace
        assert engine.snapshot().workers == ()


@pytest.mark.usefixtures("short_pauses")
@pytest.mark.parametrize("how", ["hangs", "hangs in C"])
async def test_an_initializer_that_hangs_is_given_up_after_the_start_timeout(tmp_path: Path, how: str) -> None:
    """W9: also in C code that holds the GIL; three times the timeout and the pauses, then what waits is told."""
    async with failing(how, tmp_path / "starts", worker_start_timeout=0.25) as engine:
        error = await start_error(engine)
        assert "not ready within worker_start_timeout=0.25" in str(error)
        assert error.signal_name == "SIGKILL"
        assert engine.snapshot().start_failures == 3
        assert engine.snapshot().workers == ()


async def test_a_start_during_which_everything_was_stopped_is_not_given_up(tmp_path: Path) -> None:
    """E27: 1. A worker starts. 2. It and the program are stopped past its time. 3. Both go on: it was killed."""
    go, begun = tmp_path / "go", tmp_path / "begun"
    async with Engine(
        processes=1, initializer=does.first_is_slow, initargs=(str(begun), str(go)), worker_start_timeout=1.5
    ) as engine:
        task = engine.submit(abs, -1)
        await eventually_async(begun.exists, STUCK)
        time.sleep(2.0)  # the loop stands still, as it does while the whole program is stopped
        await asyncio.sleep(0)
        go.touch()
        assert await asyncio.wait_for(task, STUCK) == 1
        assert engine.snapshot().start_failures == 0


@pytest.mark.parametrize("how", ["raises", "SIGKILL", "hangs in C"])
async def test_starts_that_fail_beside_a_healthy_worker_cost_no_task(tmp_path: Path, how: str) -> None:
    """W9: the first worker is well, all later ones are not: it runs every task, and the others are tried at a pace."""
    path = tmp_path / "starts"
    async with Engine(processes=2, initializer=does.count_starts, initargs=(str(path), "", 0)) as engine:
        pid = await asyncio.wait_for(engine.run(os.getpid), STUCK)
        starter = engine._core.processes._pool._starter
        starter._initializer = _initializer_that(how, path)
        starter._settings = dataclasses.replace(starter._settings, worker_start_timeout=0.3)
        tasks = [engine.submit(functions.stay, str(tmp_path / "stayed"), 0.02) for _ in range(50)]
        await asyncio.wait_for(asyncio.gather(*tasks), STUCK)
        assert {worker.pid for worker in engine.snapshot().workers if worker.state in ("idle", "busy")} == {pid}
        assert engine.snapshot().start_failures >= 1
    tries = starts(path)[1:]
    for failures, (before, after) in enumerate(itertools.pairwise(tries), 1):
        assert after - before >= min(breaker.PAUSE_MOST, breaker.PAUSE_SECONDS * 2 ** (failures - 1))


def _initializer_that(how: str, path: Path) -> bytes:
    from engine._lanes._process.encoder import pack_initializer

    return pack_initializer(does.count_starts, (str(path), how))


@pytest.mark.usefixtures("short_pauses")
async def test_warm_up_says_why_workers_cannot_start_and_works_when_they_can(tmp_path: Path) -> None:
    """W9: for who wants to know before the first task."""
    broken = tmp_path / "broken"
    broken.touch()
    async with Engine(processes=3, initializer=does.fail_where_marked, initargs=(str(broken),)) as engine:
        for _ in range(2):
            with pytest.raises(WorkerStartupError, match="LookupError: not yet"):
                await asyncio.wait_for(engine.warm_up(), STUCK)
        broken.unlink()
        await asyncio.wait_for(engine.warm_up(), STUCK)
        assert len(engine.snapshot().workers) == 3


async def test_stop_during_a_pause_and_during_a_start_that_hangs_is_prompt(tmp_path: Path) -> None:
    """W9, N5: nothing waits for the breaker or for worker_start_timeout."""
    for how in ("raises", "hangs in C"):
        path = tmp_path / how
        engine = await Engine(processes=1, initializer=does.count_starts, initargs=(str(path), how)).start()
        task = engine.submit(functions.give, 1)
        await eventually_async(path.exists, STUCK)
        report = await asyncio.wait_for(engine.stop(timeout=0), STUCK)
        assert task.done()
        assert report.completed == 0


# -- the thread that starts them --------------------------------------------------------------------------------------


def test_workers_that_were_started_from_a_thread_that_has_ended_live_on() -> None:
    """W18: the loop moves from a thread that ends to another one; a death signal tied to the thread would kill them."""
    loop = asyncio.new_event_loop()
    found: list[Any] = []

    def in_a_thread(step: Any) -> None:
        thread = threading.Thread(target=lambda: found.append(loop.run_until_complete(step())))
        thread.start()
        thread.join(STUCK)
        assert not thread.is_alive()

    engine = Engine(processes=2)

    async def begin() -> list[int | None]:
        await engine.start()
        await engine.warm_up()
        return [worker.pid for worker in engine.snapshot().workers]

    async def use() -> list[Any]:
        return [await engine.run(os.getpid) for _ in range(4)]

    async def end() -> int:
        crashes = engine.snapshot().crashes
        await engine.stop()
        return crashes

    in_a_thread(begin)
    pids = found.pop()
    for pid in pids:
        os.kill(pid, signal.SIG_DFL)  # they are there
    in_a_thread(use)
    assert set(found.pop()) <= set(pids)
    in_a_thread(end)
    assert found.pop() == 0
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


# -- what no further try can mend -----------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["native", "loky"])
@pytest.mark.parametrize("executable", [None, "", "/no/such/python"])
async def test_without_an_interpreter_the_first_try_says_so(
    monkeypatch: pytest.MonkeyPatch, executable: str | None, backend: Literal["native", "loky"]
) -> None:
    """E17: a program that embeds Python has none; what to set is said, and no pause is made before that."""
    monkeypatch.setattr(breaker, "PAUSE_SECONDS", 1000.0)
    monkeypatch.setattr(breaker, "PAUSE_MOST", 1000.0)
    monkeypatch.setattr(sys, "executable", executable)
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", executable)
    async with Engine(processes=1, process_backend=backend) as engine:
        error = await start_error(engine)
        assert f"expected sys.executable to be the path of a Python interpreter, got {executable!r}; set it" in str(
            error
        )
        assert isinstance(error.__cause__, NoInterpreter)


async def test_the_interpreter_that_multiprocessing_was_told_of_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """E17: by ``multiprocessing.set_executable``."""
    real = sys.executable
    monkeypatch.setattr(sys, "executable", None)
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", os.fsencode(real))
    async with Engine(processes=1) as engine:
        assert await outcome(engine) == 42


async def test_an_initializer_that_cannot_be_pickled_is_named_at_the_first_try(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """E17: with what is wrong with it."""
    monkeypatch.setattr(breaker, "PAUSE_SECONDS", 1000.0)
    monkeypatch.setattr(breaker, "PAUSE_MOST", 1000.0)
    async with Engine(processes=1, initializer=does.fail_where_marked, initargs=(threading.Lock(),)) as engine:
        error = await start_error(engine)
        assert "expected initializer tests.integration.start_functions.fail_where_marked and initargs" in str(error)
        assert "cannot pickle '_thread.lock' object" in str(error)


@pytest.mark.usefixtures("short_pauses")
async def test_an_initializer_that_takes_too_long_is_named(tmp_path: Path) -> None:
    """E17: and what can be done."""
    async with failing("hangs", tmp_path / "starts", worker_start_timeout=0.25) as engine:
        error = await start_error(engine)
        assert "is its initializer tests.integration.start_functions.count_starts slow?" in str(error)
        assert "raise the timeout" in str(error)


@pytest.mark.usefixtures("short_pauses")
@pytest.mark.parametrize("how", ["exits hard", "SIGKILL"])
async def test_an_initializer_that_may_have_ended_its_worker_is_named(tmp_path: Path, how: str) -> None:
    """E38: the process alone was named, which nobody had started by hand."""
    async with failing(how, tmp_path / "starts") as engine:
        text = str(await start_error(engine))
        assert "before it was ready (look at its initializer tests.integration.start_functions.count_starts)" in text


def test_loky_in_a_daemonic_process_says_at_the_first_try_what_to_do() -> None:
    """E38: it was an AssertionError of multiprocessing's, after three tries."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=does.try_loky, args=(theirs,), daemon=True)
    process.start()
    try:
        assert ours.poll(STUCK)
        text, failures = ours.recv()
        process.join(STUCK)
    finally:
        process.kill()
        process.join()
    assert 'start it with daemon=False, or use process_backend="native"' in text
    assert failures == 1


@pytest.mark.parametrize("backend", ["native", "loky"])
async def test_a_working_directory_that_is_gone_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: Literal["native", "loky"]
) -> None:
    """E38: loky asks for it and said that there was no such file; the other one does without."""
    gone = tmp_path / "gone"
    gone.mkdir()
    async with Engine(processes=1, process_backend=backend) as engine:
        assert await outcome(engine) == 42  # loky's tracker is there; where it starts, it wants a directory, too
        await engine.restart_workers()
        await eventually_async(lambda: not engine.snapshot().workers, STUCK)
        monkeypatch.chdir(gone)
        gone.rmdir()
        if backend == "native":
            assert await outcome(engine) == 42
        else:
            assert "the working directory is gone: os.chdir to one that exists" in str(await start_error(engine))


@pytest.mark.usefixtures("short_pauses")
async def test_an_error_of_several_lines_is_one_line_of_the_snapshot(tmp_path: Path) -> None:
    """E15: with the last of stderr in it."""
    async with failing("prints and exits", tmp_path / "starts") as engine:
        lines = len(str(engine.snapshot()).splitlines())
        error = await start_error(engine)
        assert len(str(error).splitlines()) > 1
        text = str(engine.snapshot()).splitlines()
        assert len(text) == lines + 1
        assert "the model is gone" in text[-1]
