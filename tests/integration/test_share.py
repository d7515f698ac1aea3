"""``engine.share``: one copy for any number of tasks, read-only, freed with its last user."""

import asyncio
import contextlib
import gc
import os
import resource
import sys
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import pytest

from engine import (
    BlockingEngine,
    Engine,
    PickleError,
    Retry,
    Shared,
    ShareError,
    TaskDecodeError,
    TaskState,
    _sharing,
)  # fmt: skip
from tests.integration import share_functions as does
from tests.integration.exits import run_program
from tests.support import eventually, eventually_async

np = pytest.importorskip("numpy")

STUCK = 50.0  #: seconds; a bound for what never happens, not a measurement
BIG = 8 << 20
Backend = Literal["native", "loky"]
BOTH = pytest.mark.parametrize("backend", ["native", "loky"])


@pytest.fixture(params=["memfd", "copy"])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Share as Linux does, or as systems do that have no memfd."""
    if request.param == "copy":
        monkeypatch.setattr(_sharing, "_has_memfd", lambda: False)
    return str(request.param)


def array(size_bytes: int = BIG) -> Any:
    return np.arange(size_bytes // 8, dtype=np.float64)


def open_here() -> list[str]:
    """Give the inodes of the shared memory that has a descriptor here."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            if "memfd:engine-shared" in os.readlink(f"/proc/self/fd/{name}"):
                found.append(str(os.stat(f"/proc/self/fd/{name}").st_ino))
    return found


def fd_of(shared: Shared[Any]) -> int:
    (fd,) = shared._store
    assert isinstance(fd, int)
    return fd


async def within(awaitable: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(awaitable, STUCK)


# -- what arrives -----------------------------------------------------------------------------------------------------


@BOTH
async def test_twenty_tasks_map_the_same_memory_and_none_has_a_copy(backend: Backend) -> None:
    data = array(64 << 20)
    async with Engine(processes=2, process_backend=backend) as engine:
        shared = engine.share(data)
        (inode,) = open_here()
        seen = await within(asyncio.gather(*(engine.submit(does.describe, shared) for _ in range(20))))
        assert {each[:3] for each in seen} == {("ndarray", False, data.nbytes)}
        assert {tuple(each[3]) for each in seen} == {(inode,)}  # mapped once in each, and it is ours
        assert await within(engine.submit(does.total, shared)) == data.sum()
        for worker in engine.snapshot().workers:  # what it holds for itself alone
            assert worker.pid is not None
            statm = Path(f"/proc/{worker.pid}/statm").read_text().split()
            private = (int(statm[1]) - int(statm[2])) * os.sysconf("SC_PAGE_SIZE")
            assert private < data.nbytes


@BOTH
async def test_it_arrives_at_any_depth_and_once(backend: Backend, store: str) -> None:
    data = array()
    async with Engine(processes=1, process_backend=backend) as engine:
        shared = engine.share(data)
        task = engine.submit(does.nested, {"arrays": [(shared, shared)]}, again=shared)
        assert await within(task) == (2 * data.sum(), True, True)


@pytest.mark.parametrize("lane", ["process", "thread"])
async def test_what_arrives_cannot_be_written(lane: str, store: str) -> None:
    """E41: a task writes to what it was given, and to the memory itself; all of it is refused."""
    async with Engine(processes=1) as engine:
        shared = engine.share(array())
        before = float(shared.value.sum())
        laned = engine.options(lane=lane)
        assert len(await within(laned.submit(does.refused_writes, shared))) == 3
        if store == "memfd":
            raised = await within(laned.submit(does.reopen_and_write, shared, os.getpid(), fd_of(shared)))
            assert raised == ["PermissionError"] * 3
        assert await within(laned.submit(does.total, shared)) == before


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("size", [0, 10, 1 << 16, (1 << 20) + 1])
@pytest.mark.parametrize("lane", ["process", "thread"])
async def test_bytes_arrive_as_what_they_are(kind: type, size: int, lane: str, store: str) -> None:
    data = kind(bytes(range(256)) * (size // 256) + bytes(size % 256))
    async with Engine(processes=1) as engine:
        shared = engine.share(data)
        name, is_writable, length, _, _ = await within(engine.options(lane=lane).submit(does.describe, shared))
        assert (name, is_writable, length) == (kind.__name__, kind is bytearray, size)
        assert shared.value == data


async def test_shapes_orders_and_plain_data_arrive_whole(store: str) -> None:
    rng = np.random.default_rng(7)
    given = {
        "empty": np.empty((0, 3)), "zero": np.float32(1.5), "wide": rng.random((3, 1 << 15)),
        "fortran": np.asfortranarray(rng.random((300, 400))), "strided": rng.random((400, 400))[::2, ::3],
        "dates": np.arange("2000", "2001", dtype="datetime64[D]"), "names": ["a", {"b": (1, None)}],
        "text": "x" * 10**6,
    }  # fmt: skip
    async with Engine(processes=1) as engine:
        shared = engine.share(given)
        for back in (shared.value, await within(engine.submit(does.the_same, shared))):
            assert back.keys() == given.keys()
            for name, value in given.items():
                assert np.array_equal(back[name], value), name
        assert shared.value["wide"].ctypes.data % 4096 == 0 or store == "copy"
        assert shared.value["fortran"].flags.f_contiguous


async def test_what_pickle_keeps_inside_is_each_tasks_own(tmp_path: Path) -> None:
    """Not shared, so not read-only: small arrays, strided ones, those of objects and of a subclass."""
    mapped = np.memmap(tmp_path / "mapped", dtype="f8", mode="w+", shape=(1 << 16,))
    async with Engine(processes=1) as engine:
        for given in (array(1 << 10), array()[::2], np.zeros(1 << 16, dtype=object), mapped):
            task = engine.submit(does.describe_flags, engine.share(given))
            assert await within(task) == (type(given).__name__, True, [])
        task = engine.submit(does.describe_flags, engine.share(np.asarray(mapped)))
        assert (await within(task))[:2] == ("ndarray", False)


async def test_it_is_a_snapshot() -> None:
    data = array()
    async with Engine(processes=1) as engine:
        shared = engine.share(data)
        expected = data.sum()
        data.fill(0)
        assert await within(engine.submit(does.total, shared)) == expected


async def test_coroutines_and_threads_get_the_one_object_of_this_process() -> None:
    async def same(given: Any, *, other: Any) -> Any:
        return given, other

    async with Engine(threads=2) as engine:
        shared = engine.share(array())
        assert await within(engine.submit(same, shared, other=shared)) == (shared.value, shared.value)
        assert await within(engine.options(lane="thread").submit(does.the_same, shared)) is shared.value
        assert await within(engine.options(lane="thread").submit(does.the_same, [shared])) == [shared]


def test_views_groups_maps_and_the_blocking_engine_take_it() -> None:
    data = array()
    with Engine(processes=1) as engine:
        assert type(engine) is BlockingEngine
        with engine.options(lane="process").share(data) as shared:
            assert list(engine.map(does.total, [shared] * 3)) == [data.sum()] * 3
            with engine.group() as group:
                task = group.submit(does.total, shared)
            assert task.result() == data.sum()
        assert shared.closed


# -- looking at it, and letting go ------------------------------------------------------------------------------------


async def test_it_says_what_it_is_and_the_snapshot_counts_it(store: str) -> None:
    async with Engine() as engine:
        assert (engine.snapshot().shared, engine.snapshot().shared_bytes) == (0, 0)
        first, second = engine.share(array()), engine.share("text")
        assert BIG < first.size_bytes < BIG + 4096
        assert repr(first) == f"<Shared ndarray, {first.size_bytes:,} bytes>"
        with pytest.raises(AttributeError, match=r"got 'sum'; use \.value\.sum here"):
            first.sum()
        assert not hasattr(first, "__array__")  # or NumPy would take it for one
        snapshot = engine.snapshot()
        assert (snapshot.shared, snapshot.shared_bytes) == (2, first.size_bytes + second.size_bytes)
        assert f"shared objects 2, {snapshot.shared_bytes} bytes" in str(snapshot)
        first.close()
        first.close()
        assert repr(first) == "<Shared ndarray, closed>"
        del second
        gc.collect()
        assert (engine.snapshot().shared, open_here()) == (0, [])


@BOTH
async def test_it_is_freed_with_its_last_user_on_either_side(backend: Backend) -> None:
    async with Engine(processes=1, process_backend=backend) as engine:
        shared = engine.share(array())
        await within(engine.submit(does.hold, shared))
        shared.close()
        assert open_here() == []
        assert len(await within(engine.submit(does.mappings))) == 1  # the function has kept it
        await within(engine.submit(does.kept_no_more))
        assert await within(engine.submit(does.mappings)) == []


async def test_what_this_process_has_of_it_outlives_the_close(store: str) -> None:
    async with Engine() as engine:
        shared = engine.share(array())
        value, expected = shared.value, array().sum()
        shared.close()
        assert value.sum() == expected
        with pytest.raises(ShareError, match="expected the shared object to be open, got one that was closed; keep"):
            _ = shared.value
        gone = weakref.ref(value.base if value.base is not None else value)
        del value
        gc.collect()
        assert gone() is None
        assert does.mappings() == []


async def test_a_pending_task_holds_it(tmp_path: Path) -> None:
    async with Engine(processes=1) as engine:
        blocker = engine.submit(does.wait_for, array(), str(tmp_path / "begun"), str(tmp_path / "go"))
        task = engine.submit(does.total, engine.share(array()))
        gc.collect()
        assert engine.snapshot().shared == 1
        (tmp_path / "go").touch()
        assert await within(task) == array().sum()
        await within(blocker)
        await eventually_async(lambda: gc.collect() >= 0 and engine.snapshot().shared == 0)


async def test_dropped_by_many_threads_at_once_it_is_closed_once() -> None:
    async with Engine() as engine:
        for _ in range(20):
            shared = engine.share(array(1 << 16))
            gate = threading.Barrier(8)

            def drop(shared: Shared[Any] = shared, gate: threading.Barrier = gate) -> None:
                gate.wait(STUCK)
                shared.close()

            threads = [threading.Thread(target=drop) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                await asyncio.to_thread(thread.join, STUCK)
            assert shared.closed
        assert open_here() == []


# -- when it is gone --------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("reuse", ["nothing", "fifo", "file"])
async def test_a_close_while_a_task_is_on_its_way_fails_it(backend: Backend, reuse: str, tmp_path: Path) -> None:
    """E39: the descriptor is closed after the task was pickled, and its number may mean a FIFO by then."""
    async with Engine(processes=1, process_backend=backend) as engine:
        await within(engine.submit(does.mappings))
        shared = engine.share(array())
        other = tmp_path / "other"
        if reuse == "fifo":  # which is opened for reading as soon as somebody writes, so never
            os.mkfifo(other)
        else:
            other.write_bytes(b"x" * shared.size_bytes)
        opened = os.open(other, os.O_RDONLY | os.O_NONBLOCK)
        fd, carrier = fd_of(shared), Carrier(shared)
        shared.close()
        if reuse != "nothing":
            os.dup2(opened, fd)
        try:
            with pytest.raises(ShareError) as caught:
                await within(engine.submit(does.the_same, carrier))
        finally:
            for each in (opened, fd) if reuse != "nothing" else (opened,):
                os.close(each)
        expected = "expected what is shared with task 2 (the_same) to be open, got one that was closed; keep the Shared"
        assert expected in str(caught.value)
        assert (caught.value.where, caught.value.task_id, caught.value.what) == ("worker", 2, "shared object")
        assert await within(engine.submit(abs, -1)) == 1


class Carrier:
    """Travels as what a Shared was pickled as before."""

    def __init__(self, shared: Shared[Any]) -> None:
        self._reduced = shared.__reduce__()

    def __reduce__(self) -> Any:
        return self._reduced


@pytest.mark.parametrize("lane", ["process", "thread", "loop"])
async def test_a_closed_one_fails_its_task_and_is_not_tried_again(lane: str, store: str) -> None:
    """E39: in every lane with the same error, which another try cannot mend."""

    async def nothing(given: Any) -> None:
        raise AssertionError

    async with Engine(processes=1) as engine:
        shared = engine.share(array())
        shared.close()
        laned = engine.options(lane=lane, retry=Retry(base_delay=0.01), name="it")
        task = laned.submit(nothing if lane == "loop" else does.the_same, shared)
        with pytest.raises(
            ShareError, match=r"expected what is shared with task 1 \(it\) to be open, got one that was"
        ):
            await within(task)
        assert (task.state, engine.snapshot().retries) == (TaskState.FAILED, 0)


@pytest.mark.parametrize(("lane", "kind"), [("process", TaskDecodeError), ("thread", ValueError), ("loop", ValueError)])
async def test_what_cannot_be_rebuilt_says_why_and_its_error_keeps_nothing(lane: str, kind: type) -> None:
    """An error of the object's own class is no matter of sharing."""

    async def nothing(given: Any) -> None:
        raise AssertionError

    async with Engine(processes=1) as engine:
        task: Any = engine.options(lane=lane).submit(
            nothing if lane == "loop" else does.the_same, engine.share(Unloadable(array()))
        )
        await asyncio.wait([task], timeout=STUCK)
        error = task.exception()
        assert type(error) is kind
        assert "it cannot be rebuilt" in str(error)
        del task
        assert open_here() == []


class Unloadable:
    def __init__(self, data: Any) -> None:
        self.data = data

    def __reduce__(self) -> Any:
        return _refuse, (self.data,)


def _refuse(data: Any) -> None:
    raise ValueError("it cannot be rebuilt")


# -- what cannot be shared --------------------------------------------------------------------------------------------


async def test_what_cannot_be_pickled_is_refused_at_the_call() -> None:
    async with Engine() as engine:
        expected = (
            "expected the shared object to be picklable, got TypeError: cannot pickle '_thread.lock' object; share"
        )
        with pytest.raises(PickleError, match=expected) as caught:
            engine.share([threading.Lock()])
        assert (caught.value.what, caught.value.where) == ("shared object", "parent")
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]
        with pytest.raises(PickleError, match="share less deeply nested data"):
            engine.share(deep)
        while deep:
            deep = deep[0]
        with pytest.raises(ValueError, match="expected the object to share to be an object, got <Shared ndarray"):
            engine.share(engine.share(array()))
        assert open_here() == []


async def test_closures_and_classes_of_ours_travel_by_value() -> None:
    async with Engine(processes=1) as engine:
        data = array()
        shared = engine.share(lambda: data)
        assert await within(engine.submit(does.called_sum, shared)) == data.sum()


@contextlib.contextmanager
def limited(what: int, soft: int) -> Iterator[None]:
    old = resource.getrlimit(what)
    resource.setrlimit(what, (soft, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(what, old)


@pytest.mark.parametrize(
    ("what", "remedy"), [(resource.RLIMIT_NOFILE, "ulimit -n"), (resource.RLIMIT_FSIZE, "ulimit -f")]
)
async def test_a_limit_of_the_system_is_named_and_nothing_is_left(what: int, remedy: str) -> None:
    """E42: no descriptor, or no file of that size, when an object is shared."""
    data = array()
    async with Engine() as engine:
        opened = len(os.listdir("/proc/self/fd"))
        spare = os.open("/", os.O_RDONLY)
        os.close(spare)
        soft = spare if what == resource.RLIMIT_NOFILE else 1 << 20
        with limited(what, soft), _no_descriptor_free(what), pytest.raises(ShareError) as caught:
            engine.share(data)
        assert str(caught.value).startswith("expected the system to have room for a shared object of 8,388,")
        assert remedy in str(caught.value)
        assert (len(os.listdir("/proc/self/fd")), engine.snapshot().shared) == (opened, 0)
        assert engine.share(data).value.sum() == data.sum()


@contextlib.contextmanager
def _no_descriptor_free(what: int) -> Iterator[None]:
    """Take those below the limit that are free, where that is the limit."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            while what == resource.RLIMIT_NOFILE:
                stack.callback(os.close, os.open("/", os.O_RDONLY))
        yield


def test_a_signal_at_any_moment_of_it_leaves_no_descriptor() -> None:
    """E42: a handler raises while memory is opened, written, sealed or given away."""
    ended = run_program(STRUCK)
    assert ended.code == 0, ended.stderr
    struck, left, counted = ended.stdout.split()
    assert (int(struck) > 10, left, counted) == (True, "0", "0")
    assert "AttributeError" not in ended.stderr


STRUCK = """
import random

class Struck(BaseException):
    pass

def strike(*_):
    if is_armed:  # CPython 3.12 may call a handler long after its signal came
        raise Struck

def left():
    return sum("engine-shared" in os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")
               if os.path.islink(f"/proc/self/fd/{name}"))

signal.signal(signal.SIGALRM, strike)
is_armed = False
rng, struck, data = random.Random(1), 0, memoryview(bytes(1 << 20))
with Engine() as engine:
    engine.share(1).close()  # what it imports is there
    for _ in range(1000):
        shared = None
        try:
            try:
                is_armed = True
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(2e-5, 1.2e-3))
                shared = engine.share(data)
            finally:
                is_armed = False
                signal.setitimer(signal.ITIMER_REAL, 0)
        except Struck:
            struck += 1
    del shared
    gc.collect()
    print(struck, left(), engine.snapshot().shared)
"""


class _Struck(BaseException):
    """What a signal's handler raises."""


def _struck_after(instructions: int, call: Callable[[], object], inside: Callable[..., Any]) -> bool:
    """Call ``call``, and raise after so many instructions of ``inside``; say whether it has as many."""
    left = instructions

    def follow(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if frame.f_code is not inside.__code__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left == 0:
                raise _Struck
        return follow

    old = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # CPython 3.12 has such events where one was wanted before settrace
    sys.settrace(follow)
    try:
        call()
    except _Struck:
        return True
    finally:
        sys.settrace(old)
    return left <= 0


_UNRAISABLE = pytest.mark.filterwarnings("ignore:Exception ignored in.*:pytest.PytestUnraisableExceptionWarning")


@pytest.mark.parametrize("by", ["somebody", pytest.param("the collector", marks=_UNRAISABLE)])
async def test_a_signal_at_any_moment_of_close_leaves_nothing(store: str, by: str) -> None:
    """E169: the next close does what is left of it; after the collector's, whose error goes nowhere, there is none."""
    async with Engine() as engine:
        after = 0
        is_inside = True
        while is_inside:
            after += 1
            held = [engine.share(b"x" * 5000)]
            is_inside = _struck_after(after, held[0].close if by == "somebody" else held.clear, Shared.close)
            held.clear()
            assert (open_here(), engine.snapshot().shared) == ([], 0), f"struck after {after} instructions"
        assert after > 10


# -- the worst day ----------------------------------------------------------------------------------------------------


@BOTH
async def test_after_a_crash_the_next_attempt_gets_it_again(backend: Backend, tmp_path: Path) -> None:
    """E40: the worker dies with the mapping; nothing is lost and nothing stays."""
    async with Engine(processes=1, process_backend=backend) as engine:
        data = array()
        shared = engine.share(data)
        retrying = engine.options(retry=Retry(base_delay=0.01))
        assert await within(retrying.submit(does.crash_once, shared, str(tmp_path / "mark"))) == data.sum()
        assert engine.snapshot().crashes == 1
        shared.close()
        assert open_here() == []


@BOTH
async def test_a_task_that_is_cancelled_lets_go_of_it(backend: Backend, tmp_path: Path) -> None:
    """E40: in its queue and while it runs."""
    async with Engine(processes=1, process_backend=backend, grace=0.05) as engine:
        shared = engine.share(array())
        begun = tmp_path / "begun"
        running: Any = engine.submit(does.wait_for, shared, str(begun), str(tmp_path / "never"))
        queued: Any = engine.submit(does.total, shared)
        await eventually_async(begun.exists, STUCK)
        queued.cancel()
        running.cancel()
        await asyncio.wait([running, queued], timeout=STUCK)
        assert (running.cancelled(), queued.cancelled()) == (True, True)
        assert await within(engine.submit(does.total, shared)) == array().sum()
        gone = weakref.ref(shared)
        del shared, running, queued
        await eventually_async(lambda: gc.collect() >= 0 and gone() is None)
        assert open_here() == []


def test_a_forked_child_hurts_nobody() -> None:
    """E43: it reads what it has, may close it, and its end changes nothing; so may it share what its parent has."""
    ended = run_program(
        FORK + "with Engine(processes=1) as engine:\n"
        "    shared = engine.share(bytearray(b'x') * (1 << 20))\n"
        "    def child():\n"
        "        assert len(shared.value) == 1 << 20\n"
        "        with Engine(processes=1) as own:\n"
        "            assert own.run(len, shared) == 1 << 20\n"
        "        shared.close()\n"
        "    assert in_child(child) == 0\n"
        "    assert engine.run(len, shared) == 1 << 20\n"
        "    assert engine.snapshot().shared == 1\n"
        "    print('fine')\n"
    )
    assert (ended.code, ended.stdout, ended.stderr) == (0, "fine\n", "")


FORK = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of fork in a process that has threads, since 3.12

def in_child(function):
    pid = os.fork()
    if not pid:
        code = 1
        try:
            function()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

"""


@pytest.mark.parametrize("way", ["engine", "globals", "cycle", "thread"])
def test_at_the_end_of_the_program_nothing_is_printed(way: str) -> None:
    """E43: whoever holds it then, and whatever ended first."""
    ended = run_program(
        "engine = Engine(processes=1).__enter__()\n"
        "shared = engine.share(b'x' * (1 << 20))\n"
        "assert engine.run(len, shared) == 1 << 20\n"
        + {
            "engine": "engine.stop()\n",
            "globals": "shared.value\n",
            "cycle": "holder = [shared]; holder.append(holder); del shared, holder\n",
            "thread": "threading.Thread(target=time.sleep, args=(0.2,)).start(); engine.submit(len, shared)\n",
        }[way]
    )
    assert (ended.code, ended.stdout, ended.stderr) == (0, "", "")


@pytest.mark.skipif(os.geteuid() != 0, reason="to drop privileges one must have them")
def test_who_dropped_its_privileges_is_told_or_given_a_copy() -> None:
    """E44: the kernel then lets a worker look at nobody, and nobody look at the program, which shares by value."""
    ended = run_program(
        "from engine import ShareError\n"
        "with Engine(processes=1) as engine:\n"
        "    shared = engine.share(b'x' * (1 << 20))\n"
        "    assert engine.run(len, shared) == 1 << 20\n"
        "    engine.run(os.setuid, 65534)\n"
        "    try:\n"
        "        engine.run(len, shared)\n"
        "    except ShareError as error:\n"
        "        print('PR_SET_DUMPABLE' in str(error), error.where)\n"
        "    os.setuid(65534)\n"
        "    print(engine.run(len, engine.share(b'y' * (1 << 20))))\n"
    )
    assert (ended.code, ended.stdout, ended.stderr) == (0, "True worker\n1048576\n", "")


@BOTH
async def test_a_task_that_fails_leaves_no_mapping(backend: Backend) -> None:
    """E40: the error's traceback led back to itself, and kept the arguments until the collector came."""
    async with Engine(processes=1, process_backend=backend) as engine:
        shared = engine.share(array())
        for _ in range(3):
            task: Any = engine.submit(does.fail, shared)
            await asyncio.wait([task], timeout=STUCK)
            assert "on purpose" in str(task.exception())
            assert await within(engine.submit(does.mappings, collects=False)) == []


async def test_an_engine_that_does_not_run_shares_nothing() -> None:
    engine = Engine()
    with pytest.raises(RuntimeError, match="has not started"):
        engine.share(1)
    async with engine:
        shared = engine.share(array())
    with pytest.raises(RuntimeError, match="has stopped"):
        engine.share(1)
    assert shared.value.sum() == array().sum()  # it outlives its engine
    async with Engine(processes=1) as other:
        assert await within(other.submit(does.total, shared)) == array().sum()


def test_sharing_in_many_threads_at_once() -> None:
    with Engine(threads=4) as engine:
        tasks = [engine.options(lane="thread").submit(_share_and_sum, engine, number) for number in range(32)]
        assert [task.result(STUCK) for task in tasks] == [number * (1 << 17) for number in range(32)]
        eventually(lambda: gc.collect() >= 0 and engine.snapshot().shared == 0)


def _share_and_sum(engine: BlockingEngine, number: int) -> float:
    with engine.share(np.full(1 << 17, float(number))) as shared:
        return float(shared.value.sum())
