"""joblib's Parallel on an engine: its contract, kept with the real joblib."""

import asyncio
import os
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from multiprocessing import TimeoutError as ParallelTimeout
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from joblib import Parallel, delayed, effective_n_jobs, parallel_backend, parallel_config

import engine.integrations.joblib as on_engine
from engine import BlockingEngine, Engine, EngineClosed, Lane, Retry, Snapshot, WorkerCrashed
from tests.ecosystem import joblib_functions as functions
from tests.integration.exits import run_program, run_programs
from tests.support import eventually

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")


@pytest.fixture(scope="module", autouse=True)
def _engine_for_two() -> Iterator[None]:
    """Have the backend's own engine for n_jobs=2 there already: no test is blamed for it, or waits for its workers."""
    on_engine.register()
    Parallel(n_jobs=2, backend="engine")(delayed(functions.square)(i) for i in range(2))
    [engine] = on_engine._engines.values()
    engine.warm_up()
    yield
    on_engine.stop(timeout=5)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have the backend make its engines anew, and stop them afterwards."""
    monkeypatch.setattr(on_engine, "_engines", {})
    yield
    on_engine.stop(timeout=5)


@pytest.fixture
def own() -> Iterator[BlockingEngine]:
    """Give an engine of the test's own."""
    with Engine(processes=3) as engine:
        yield engine


def lane_of(engine: BlockingEngine) -> Any:
    return engine.snapshot().lanes[Lane.PROCESS]


def at_rest(engine: BlockingEngine) -> Snapshot:
    """Wait until no task of ``engine`` waits or runs and nothing is shared; give its snapshot then."""

    def is_at_rest() -> bool:
        snapshot = engine.snapshot()
        lane = snapshot.lanes[Lane.PROCESS]
        is_busy = any(each.state == "busy" for each in snapshot.workers)
        return not (lane.pending or lane.running or snapshot.shared or is_busy)

    eventually(is_at_rest)
    return engine.snapshot()


# -- what comes back --------------------------------------------------------------------------------------------------


def test_results_come_in_order_from_worker_processes() -> None:
    with parallel_config(backend="engine", n_jobs=2):
        assert Parallel()(delayed(functions.square)(i) for i in range(300)) == [i * i for i in range(300)]
        assert os.getpid() not in Parallel()(delayed(functions.pid)() for _ in range(4))
    with parallel_backend("engine", n_jobs=2):
        assert Parallel()(delayed(functions.square)(i) for i in [3]) == [9]
    assert Parallel(n_jobs=2, backend="engine")(delayed(functions.square)(i) for i in [4]) == [16]


def test_what_has_no_importable_name_travels_too() -> None:
    offset = 7

    class Local:
        value = 5

    results = Parallel(n_jobs=2, backend="engine")(
        delayed(lambda x, local: x + offset + local.value)(i, Local()) for i in range(3)
    )
    assert results == [12, 13, 14]


def test_a_generator_gives_results_in_order_and_an_unordered_one_as_they_come(tmp_path: Path) -> None:
    parallel = Parallel(n_jobs=2, backend="engine", return_as="generator")
    assert list(parallel(delayed(functions.square)(i) for i in range(20))) == [i * i for i in range(20)]
    go = tmp_path / "go"
    parallel = Parallel(n_jobs=2, backend="engine", return_as="generator_unordered", batch_size=1)
    first, *rest = (0, functions.wait_for, go), (1, functions.square, 1), (2, functions.square, 2)
    results = parallel(delayed(function)(argument) for _, function, argument in [first, *rest])
    assert sorted([next(results), next(results)]) == [1, 4]
    go.touch()
    assert len(list(results)) == 1


def test_a_generator_that_is_dropped_cancels_the_rest(own: BlockingEngine, tmp_path: Path) -> None:
    with parallel_config(backend="engine", engine=own, n_jobs=2):
        results = Parallel(return_as="generator", batch_size=1)(
            delayed(function)(argument)
            for function, argument in [(functions.square, 3), (functions.never, tmp_path / "began")]
        )
        assert next(results) == 9
        eventually((tmp_path / "began").exists)
        with pytest.warns(UserWarning, match="cancelled"):
            results.close()
    assert at_rest(own).lanes[Lane.PROCESS].cancelled == 1


def test_one_backend_serves_a_call_in_the_middle_of_another() -> None:
    with parallel_config(backend="engine", n_jobs=2):
        outer = Parallel(return_as="generator")(delayed(functions.square)(i) for i in range(50))
        assert next(outer) == 0
        assert Parallel()(delayed(functions.square)(i) for i in range(50)) == [i * i for i in range(50)]
        assert list(outer) == [i * i for i in range(1, 50)]


def test_a_parallel_object_is_called_many_times() -> None:
    with Parallel(n_jobs=2, backend="engine") as parallel:
        for _ in range(3):
            assert parallel(delayed(functions.square)(i) for i in range(5)) == [0, 1, 4, 9, 16]
        with pytest.raises(LookupError, match="no 1"):
            parallel(delayed(functions.fail)(i) for i in [1])
        assert parallel(delayed(functions.square)(i) for i in range(5)) == [0, 1, 4, 9, 16]


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("batch_size", ["auto", 5])
def test_a_parallel_object_that_was_interrupted_gives_nothing_of_that_call(batch_size: str | int) -> None:
    """joblib keeps batches of an interrupted call, and with its own workers they are run in the next one."""
    with Parallel(n_jobs=2, backend="engine", batch_size=batch_size) as parallel:
        for _ in range(3):
            with pytest.raises(LookupError, match="no 15"):
                parallel(delayed(functions.fail if i == 15 else functions.pid)(i) for i in range(100))
            assert parallel(delayed(functions.square)(i) for i in range(100)) == [i * i for i in range(100)]


@pytest.mark.usefixtures("alone")
def test_a_callback_that_is_late_is_not_counted_in_the_next_call(tmp_path: Path) -> None:
    """One of an interrupted call comes to its count when joblib has begun the next: that would end too early."""
    began, late, end = threading.Event(), threading.Event(), tmp_path / "end"

    class Late(on_engine.EngineBackend):
        def batch_completed(self, batch_size: int, duration: float) -> None:
            if not began.is_set():
                began.set()
                late.wait(10)
            else:
                threading.Timer(0.2, end.touch).start()

        def abort_everything(self, ensure_ready: bool = True) -> None:
            threading.Timer(0.2, late.set).start()
            super().abort_everything(ensure_ready)

    def calls() -> list[Any]:
        return [delayed(function)(end) for function in [functions.pid, functions.wait_for]]

    with Parallel(n_jobs=2, backend=Late(), batch_size=1, return_as="generator") as parallel:
        results = parallel(calls())
        assert began.wait(30)
        with pytest.warns(UserWarning, match="cancelled"):
            results.close()
        assert len(list(parallel(calls()))) == 2


def test_how_many_run_at_once(own: BlockingEngine) -> None:
    with parallel_config(backend="engine", n_jobs=5):
        assert effective_n_jobs(-1) == joblib.cpu_count()
        assert [effective_n_jobs(n) for n in (1, 2, 7)] == [1, 2, 7]
        assert effective_n_jobs(-1000) == 1
        with pytest.raises(ValueError, match="n_jobs == 0"):
            effective_n_jobs(0)
    with parallel_config(backend="engine", engine=own):
        assert [effective_n_jobs(n) for n in (-1, -2, 2, 7)] == [3, 2, 2, 3]


# -- when something goes wrong ----------------------------------------------------------------------------------------


def test_an_error_is_raised_and_the_rest_is_cancelled(own: BlockingEngine, tmp_path: Path) -> None:
    began = tmp_path / "began"
    with parallel_config(backend="engine", engine=own, n_jobs=2), pytest.raises(LookupError, match="as it should"):
        Parallel(batch_size=1)(
            delayed(function)(began) for function in [functions.fail_once, functions.never, functions.never]
        )
    lane = at_rest(own).lanes[Lane.PROCESS]
    assert (lane.failed, lane.completed) == (1, 0)


def test_a_timeout_ends_the_work(own: BlockingEngine, tmp_path: Path) -> None:
    with parallel_config(backend="engine", engine=own, n_jobs=2), pytest.raises(ParallelTimeout):
        Parallel(timeout=0.3)(delayed(functions.never)(tmp_path / f"began{i}") for i in range(4))
    assert at_rest(own).lanes[Lane.PROCESS].completed == 0


def test_a_worker_that_dies_costs_another_try_of_its_batch(own: BlockingEngine, tmp_path: Path) -> None:
    with parallel_config(backend="engine", engine=own, n_jobs=3):
        calls = [delayed(functions.pid)(i) for i in range(10)]
        calls.insert(4, delayed(functions.crash_once)(tmp_path / "crashed"))
        results = Parallel(batch_size=1)(calls)
    assert len(results) == 11
    assert own.snapshot().crashes == own.snapshot().retries == 1


def test_a_batch_that_always_kills_its_worker_is_given_up(own: BlockingEngine) -> None:
    with parallel_config(backend="engine", engine=own, n_jobs=2), pytest.raises(WorkerCrashed):
        Parallel()(delayed(functions.die)(i) for i in range(1))
    assert own.snapshot().crashes == 3
    with parallel_config(backend="engine", engine=own, n_jobs=2, retry=None), pytest.raises(WorkerCrashed):
        Parallel()(delayed(functions.die)(i) for i in range(1))
    assert own.snapshot().crashes == 4


def test_what_cannot_be_pickled_is_an_error_of_the_call() -> None:
    with pytest.raises(TypeError, match="pickle"):
        Parallel(n_jobs=2, backend="engine")(delayed(functions.square)(threading.Lock()) for _ in range(9))


def test_an_iterable_that_raises_is_an_error_of_the_call(own: BlockingEngine) -> None:
    def calls() -> Iterator[Any]:
        for i in range(30):
            yield delayed(functions.square)(i)
        raise LookupError("no more")

    with parallel_config(backend="engine", engine=own, n_jobs=2), pytest.raises(LookupError, match="no more"):
        Parallel(batch_size=1)(calls())
    at_rest(own)


def test_an_engine_that_stops_meanwhile_is_an_error_of_the_call() -> None:
    """E80: and no endless wait for results."""
    with Engine(processes=2) as engine:

        def calls() -> Iterator[Any]:
            for i in range(4):
                yield delayed(functions.square)(i)
            engine.stop(timeout=0)
            yield from [delayed(functions.square)(i) for i in range(4)]

        with parallel_config(backend="engine", engine=engine, n_jobs=2), pytest.raises((EngineClosed, CancelledError)):
            Parallel(batch_size=1)(calls())


# -- nesting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("backend", "expected"), [(None, "ThreadingBackend"), ("engine", "SequentialBackend")])
def test_a_call_inside_a_batch_starts_no_further_process(backend: str | None, expected: str) -> None:
    """As with joblib's own workers: threads, and nothing below those."""
    for pid, inner, name in Parallel(n_jobs=2, backend="engine")(
        delayed(functions.nested)(i, backend) for i in range(2)
    ):
        assert (inner, name) == ({pid}, expected)


@pytest.mark.usefixtures("alone")
def test_threads_inside_a_worker_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    share = str(max(1, joblib.cpu_count() // 2))
    assert set(Parallel(n_jobs=2, backend="engine")(delayed(functions.threads_inside)(i) for i in range(2))) == {share}
    with parallel_config(backend="engine", n_jobs=2, inner_max_num_threads=3):
        assert set(Parallel()(delayed(functions.threads_inside)(i) for i in range(2))) == {"3"}


def test_calls_in_threads_use_the_same_workers() -> None:
    def work(_i: int) -> set[int]:
        with parallel_config(backend="engine", n_jobs=2):
            return set(Parallel(batch_size=1)(delayed(functions.pid)() for _ in range(10)))

    pids = Parallel(n_jobs=3, backend="threading")(delayed(work)(i) for i in range(3))
    assert len(set().union(*pids)) <= 2


def test_calls_in_threads_that_share_a_backend_do_not_mix(monkeypatch: pytest.MonkeyPatch) -> None:
    """E95: both find the backend unused in the same instant; they waited for each other's results for ever."""
    backend, both, find = on_engine.EngineBackend(), threading.Barrier(2), on_engine._engine_for
    results: list[list[int]] = []

    def found(kind: on_engine._Kind) -> BlockingEngine:
        both.wait(30)
        return find(kind)

    def call(first: int) -> None:
        results.append(Parallel(n_jobs=2, backend=backend)(delayed(functions.square)(first + i) for i in range(50)))

    monkeypatch.setattr(on_engine, "_engine_for", found)
    threads = [threading.Thread(target=call, args=(first,), daemon=True) for first in (0, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(results) == [[(first + i) ** 2 for i in range(50)] for first in (0, 100)]


@pytest.mark.parametrize("settings", [{}, {"pre_dispatch": "nonsense"}])
def test_a_call_that_cannot_begin_leaves_no_thread(settings: dict[str, Any]) -> None:
    """E96: joblib does not say that such a call is over."""
    before = set(threading.enumerate())
    parallel = Parallel(n_jobs=2, backend="engine", **settings)
    with pytest.raises(Exception, match=r"not iterable|nonsense"):
        parallel(5 if not settings else [delayed(functions.square)(1)])
    assert {each.name for each in set(threading.enumerate()) - before} == set()
    assert Parallel(n_jobs=2, backend="engine")([delayed(functions.square)(3)]) == [9]


# -- arrays -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "writeable"), [({}, False), ({"mmap_mode": "c"}, True), ({"max_nbytes": None}, True)]
)
def test_a_big_array_is_read_only_unless_memory_mapping_is_off(settings: dict[str, Any], writeable: bool) -> None:
    array, small = np.ones(200_000), np.ones(10)
    seen = Parallel(n_jobs=2, backend="engine", batch_size=1, **settings)(
        delayed(functions.look)(each) for each in [array, small, array, array]
    )
    assert seen == [(200_000.0, writeable), (10.0, True), (200_000.0, writeable), (200_000.0, writeable)]


def test_an_array_that_several_batches_have_is_shared_while_the_call_lasts(own: BlockingEngine) -> None:
    table = np.arange(400_000.0).reshape(-1, 4)
    most = 0

    def calls() -> Iterator[Any]:
        nonlocal most
        for i in range(12):
            yield delayed(functions.column_sum)({"table": table}, i % 4)
            most = max(most, own.snapshot().shared)

    with parallel_config(backend="engine", engine=own, n_jobs=2):
        assert Parallel(batch_size=1)(calls()) == [float(table[:, i % 4].sum()) for i in range(12)]
    assert most == 1
    at_rest(own)


def test_an_array_in_a_file_is_written_in_place(tmp_path: Path) -> None:
    """E81: as joblib's manual does it; a copy would lose what the batches write, without a word."""
    target = np.memmap(tmp_path / "target", dtype="i8", shape=(6, 3), mode="w+")
    Parallel(n_jobs=2, backend="engine")(delayed(functions.fill)(target, i) for i in range(3))
    Parallel(n_jobs=2, backend="engine")(delayed(functions.fill)(target[3:], i) for i in range(3))
    assert target.tolist() == [[i % 3] * 3 for i in range(6)]


def test_a_mode_that_nothing_here_keeps_is_refused() -> None:
    with pytest.raises(ValueError, match="expected mmap_mode to be one of"):
        Parallel(n_jobs=2, backend="engine", mmap_mode="r+")(delayed(functions.square)(i) for i in range(2))


# -- engines ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("alone")
def test_workers_are_used_again_until_stop() -> None:
    with parallel_config(backend="engine", n_jobs=2):
        pids = [set(Parallel(batch_size=1)(delayed(functions.pid)() for _ in range(20))) for _ in range(3)]
        assert len(set().union(*pids)) == 2
        on_engine.stop()
        assert not set(Parallel(batch_size=1)(delayed(functions.pid)() for _ in range(20))) & pids[0]


def test_an_engine_that_is_given_runs_as_much_as_n_jobs_says_and_goes_on(own: BlockingEngine, tmp_path: Path) -> None:
    go = tmp_path / "go"

    def calls() -> Iterator[Any]:
        for _ in range(6):
            yield delayed(functions.wait_for)(go)
        lane = lane_of(own)
        assert lane.pending + lane.running == 2
        go.touch()

    with parallel_config(backend="engine", engine=own, n_jobs=2):
        assert len(Parallel(batch_size=1, pre_dispatch="all")(calls())) == 6
    assert own.run(functions.square, 5) == 25
    assert lane_of(own).completed == 7


def test_an_engine_over_loky_serves_as_well() -> None:
    table = np.arange(400_000.0).reshape(-1, 4)
    with (
        Engine(processes=2, process_backend="loky") as engine,
        parallel_config(backend="engine", engine=engine, n_jobs=2),
    ):
        sums = Parallel(batch_size=1)(delayed(functions.column_sum)({"table": table}, i) for i in range(4))
    assert sums == table.sum(axis=0).tolist()


def test_an_engine_that_is_full_is_waited_for() -> None:
    with Engine(processes=2, max_pending=1) as engine:
        parallel = Parallel(n_jobs=2, backend=on_engine.EngineBackend(engine=engine), batch_size=1)
        assert parallel(delayed(functions.square)(i) for i in range(50)) == [i * i for i in range(50)]


def test_what_does_not_go_with_an_engine_that_is_given_is_refused(own: BlockingEngine) -> None:
    with (
        parallel_config(backend="engine", engine=own, n_jobs=2, inner_max_num_threads=1),
        pytest.raises(ValueError, match="expected inner_max_num_threads to be None"),
    ):
        Parallel()(delayed(functions.square)(i) for i in range(2))
    with pytest.raises(ValueError, match="expected engine to be an Engine"):
        parallel_config(backend="engine", engine=3)
    with pytest.raises(TypeError, match="expected Parallel to be told of no engine"):
        Parallel(n_jobs=2, backend="engine", engine=own)(delayed(functions.square)(i) for i in range(2))
    with pytest.raises(ValueError, match="expected retry to be a Retry"):
        parallel_config(backend="engine", retry=3)
    with pytest.raises(ValueError, match="expected idle_worker_timeout"):
        parallel_config(backend="engine", idle_worker_timeout=-1)


async def test_an_engine_of_a_loop_serves_calls_in_other_threads() -> None:
    async with Engine(processes=2) as engine:

        def work() -> list[int]:
            with parallel_config(backend="engine", engine=engine, n_jobs=2, retry=Retry()):
                return list(Parallel()(delayed(functions.square)(i) for i in range(20)))

        assert await asyncio.to_thread(work) == [i * i for i in range(20)]
        with pytest.raises(RuntimeError, match="where no event loop runs"):
            work()


async def test_where_a_loop_runs_as_in_a_notebook_it_works_and_holds_that_loop_up() -> None:
    """E82: joblib's callbacks may not come on the loop that waits for them."""
    results = Parallel(n_jobs=2, backend="engine", batch_size=1)(delayed(functions.square)(i) for i in range(20))
    assert results == [i * i for i in range(20)]


def test_a_forked_child_has_engines_of_its_own() -> None:
    assert Parallel(n_jobs=2, backend="engine")(delayed(functions.square)(i) for i in range(3)) == [0, 1, 4]
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            results = Parallel(n_jobs=2, backend="engine")(delayed(functions.square)(i) for i in range(3))
            on_engine.stop(timeout=5)
            code = 0 if results == [0, 1, 4] else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# -- the end of the program -------------------------------------------------------------------------------------------

PROGRAM = """
import sys
from pathlib import Path
from joblib import Parallel, delayed, parallel_config
import engine.integrations.joblib
from tests.ecosystem import joblib_functions as functions

engine.integrations.joblib.register(make_default=True)
"""


def test_a_program_that_stops_nothing_ends_in_silence() -> None:
    """E83: with the backend's own engine alive, and with a generator that nobody has finished."""
    ended = run_programs(
        {
            "idle": PROGRAM + "print(sum(Parallel(n_jobs=2)(delayed(functions.square)(i) for i in range(3))))",
            "unfinished": PROGRAM
            + """
results = Parallel(n_jobs=2, return_as="generator")(delayed(functions.square)(i) for i in range(3))
print(sum(results))
rest = Parallel(n_jobs=2, return_as="generator")(delayed(time.sleep)(60) for i in range(3))
""",
        },
        flags=(),
    )
    assert {name: (each.code, each.stdout) for name, each in ended.items()} == dict.fromkeys(ended, (0, "5\n"))
    assert ended["idle"].stderr == ""
    assert "Traceback" not in ended["unfinished"].stderr


def test_ctrl_c_cancels_the_rest_and_the_program_goes_on(tmp_path: Path) -> None:
    """E84: the call raises KeyboardInterrupt, its tasks end, and the next call works."""
    ended = run_program(
        PROGRAM
        + f"""
began = Path({str(tmp_path)!r}) / "began"
threading.Thread(target=lambda: (functions.wait_for(began), os.kill(os.getpid(), signal.SIGINT))).start()
try:
    Parallel(n_jobs=2, batch_size=1)(delayed(functions.never)(began) for _ in range(6))
except KeyboardInterrupt:
    print("interrupted")
print(Parallel(n_jobs=2)(delayed(functions.square)(i) for i in range(3)))
[own] = engine.integrations.joblib._engines.values()
print(own.snapshot().lanes["process"].cancelled > 0, own.stop(timeout=5).failed)
""",
        flags=(),
    )
    assert (ended.code, ended.stdout, ended.stderr) == (0, "interrupted\n[0, 1, 4]\nTrue 0\n", "")
