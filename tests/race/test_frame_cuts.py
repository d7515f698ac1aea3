"""A worker dies at each point of a frame: what was whole counts, what was cut is charged to its task and to no other.

The worker's own code makes the frames; what stands before its socket lets a number of bytes out, or in, and ends the
process (``cuts.py``). design/0004: Death after the answer, Death before the start; design/0011: A worker dies.
"""

import asyncio
import math
import pickle
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from engine import Engine, Task, _chunks
from engine._chunk_size import ChunkSize
from engine._lanes._process import chunk_watch
from engine._wire.frames import PART, RESULT, SEGMENT, STREAM, VALUES
from engine.errors import WorkerCrashed
from tests.contracts.process_front import native_workers
from tests.race import cuts
from tests.sent_ahead import send_ahead
from tests.support import eventually_async

STUCK = 20.0  #: seconds; a bound for what never happens, not a measurement
AT_ONCE = 2  #: engines that are cut at the same time: nearly all of it is the start of the next worker
ITEMS = 12


@pytest.fixture
def _four_in_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a worker hold four tasks from the first on, whatever they take."""
    send_ahead(monkeypatch, 4)


@asynccontextmanager
async def one_worker() -> AsyncIterator[Engine]:
    """Give an engine with one worker; at the end nothing of any task is left in it."""
    async with Engine(processes=1) as engine:
        async with asyncio.timeout(STUCK):
            yield engine
        core = engine._core
        await eventually_async(lambda: not core.registry.attempts)  # a chunk ends behind the last of its items
        assert core.registry.waiting == 0
        assert core.processes._pool.busy == 0
        assert sum(worker.count() for worker in native_workers(engine)) == 0
        assert engine.snapshot().malformed == 0


class Runs:
    """What truly ran, and where, as the tasks have written it down."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        path.write_text("")

    def of(self, count: int) -> dict[int, int]:
        """Return the pid in which each of so many tasks ran; each ran once."""
        lines = [line.split() for line in Path(self.path).read_text().splitlines()]
        assert sorted(int(number) for number, _ in lines) == list(range(count)), "a task ran twice, or never"
        return {int(number): int(pid) for number, pid in lines}

    def has_begun(self, number: int) -> bool:
        return f"{number} " in Path(self.path).read_text()


async def at_each(points: Iterable[Any], cut: Callable[[Engine, Runs, Any], Awaitable[None]], folder: Path) -> None:
    """Await ``cut`` for each of ``points``, on a few engines."""
    points = list(points)

    async def some(number: int) -> None:
        async with one_worker() as engine:
            for point in points[number::AT_ONCE]:
                await cut(engine, Runs(folder / f"runs-{number}"), point)

    await asyncio.gather(*map(some, range(AT_ONCE)))


async def crash(task: Task[Any], pid: int, how: str) -> None:
    """Assert that the worker died under ``task``."""
    with pytest.raises(WorkerCrashed) as caught:
        await task
    error = caught.value
    assert (error.signal_name, error.exit_code) == ((None, 3) if how == "exit" else ("SIGKILL", None))
    assert (error.task_id, error.attempt, error.pid, error.may_have_run) == (task.id, 1, pid, True)


# -- where frames have their joints -----------------------------------------------------------------------------------


class Frame(NamedTuple):
    """One frame of what a worker has sent."""

    joints: list[int]  #: where it begins, and the ends of header, table, payload and buffers
    items: int  #: of a chunk, that it answers


def frames_of(stream: bytes) -> list[Frame]:
    """Cut what a worker has sent into its frames."""
    found: list[Frame] = []
    at = 0
    while at < len(stream):
        _, kind, flags, segments, _, _, _, size, _ = RESULT.unpack_from(stream, at)
        table = at + RESULT.size
        payload = table + segments * SEGMENT.size
        joints = [at, table, payload, payload + size]
        for _, count in SEGMENT.iter_unpack(stream[table:payload]):
            joints.append(joints[-1] + count)
        is_part = bool(flags & PART)
        items = len(pickle.loads(stream[payload : payload + size])) if is_part and kind == VALUES else int(is_part)
        found.append(Frame(joints, items))
        at = joints[-1]
    assert at == len(stream)
    return found


def around(joints: Iterable[int], end: int) -> list[int]:
    """Return each joint, and the bytes before and behind it, up to ``end``."""
    return sorted({at for joint in joints for at in (joint - 1, joint, joint + 1) if 0 <= at <= end})


# -- the answer of a task ---------------------------------------------------------------------------------------------


async def joints_of(name: str, folder: Path) -> list[int]:
    """Return where the answer that is the result ``name`` has its joints."""
    copy = folder / f"copy-{name}"
    async with one_worker() as engine:
        await engine.submit(cuts.watch_the_stream, keeps=False, copy=str(copy))
        await engine.submit(cuts.kinds, name)
    frame = frames_of(copy.read_bytes())[1]
    return [joint - frame.joints[0] for joint in frame.joints]


async def cut_an_answer(engine: Engine, runs: Runs, point: tuple[str, int, int, str, bool]) -> None:
    """Have one of four tasks in a worker cut; what is before it arrives whole, what is behind it runs elsewhere."""
    name, count, size, how, keeps = point
    before = engine.submit(cuts.watch_the_stream, keeps=keeps)
    cut = engine.submit(cuts.cut_the_next, runs.path, 0, name, count, how)
    behind = [engine.submit(cuts.note, runs.path, number) for number in (1, 2)]
    pid = await before
    if count < size:
        await crash(cut, pid, how)
    else:
        assert await cut == cuts.kinds(name), "it was whole when the worker died"
    assert await asyncio.gather(*behind) == [1, 2]
    where = runs.of(3)
    assert where[0] == pid
    assert pid not in (where[1], where[2])
    assert [task.attempt for task in (before, cut, *behind)] == [1, 1, 1, 1]


@pytest.mark.usefixtures("_four_in_a_worker")
async def test_an_answer_that_is_cut_at_any_byte_is_charged_to_its_task(tmp_path: Path) -> None:
    """W1, W3: the worker ends by SIGKILL, with the answer before it in the same write, or by ``os._exit``."""
    size = (await joints_of("small", tmp_path))[-1]
    assert RESULT.size < size < 70
    points = [("small", count, size, "kill", True) for count in range(size + 1)]
    points.append(("small", RESULT.size, size, "exit", False))
    await at_each(points, cut_an_answer, tmp_path)


@pytest.mark.usefixtures("_four_in_a_worker")
async def test_a_big_answer_that_is_cut_at_a_joint_is_charged_to_its_task(tmp_path: Path) -> None:
    """W5: around the ends of table, payload and each buffer, and in the middle of the last of them."""
    points: list[tuple[str, int, int, str, bool]] = []
    for name, pieces in (("long", 2), ("buffer", 4), ("buffers", 5)):  # pieces of a frame; "long" has no table
        joints = await joints_of(name, tmp_path)
        size = joints[-1]
        assert len(set(joints)) == pieces + 1
        counts = around(joints[2:], size) if name == "buffers" else [joints[-2] + 1, size - 1]
        counts.append((joints[-2] + size) // 2)
        points += [(name, count, size, ("kill", "exit")[count % 2], count % 4 < 2) for count in counts]
    await at_each(points, cut_an_answer, tmp_path)


# -- the answers to the items of a chunk ------------------------------------------------------------------------------


@pytest.fixture
def _one_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have all items of a map in one chunk at first."""

    def of_all(size: ChunkSize, most: int = ITEMS) -> None:
        size._most = size.items = min(most, ITEMS)
        size.item_seconds = math.inf

    monkeypatch.setattr(ChunkSize, "__init__", of_all)
    monkeypatch.setattr(_chunks, "FIRST_PER_SLOT", ITEMS)
    monkeypatch.setattr(ChunkSize, "learn", lambda size, chunk: None)


async def results_of(engine: Engine, runs: Runs, *, count: int, copy: str = "", gate: str = "") -> list[Any]:
    call = partial(cuts.item, runs=runs.path, count=count, copy=copy, gate=gate)
    return [each async for each in engine.map(call, range(ITEMS), return_exceptions=True)]


def is_right(number: int, found: Any) -> bool:
    """Say whether ``found`` is what item ``number`` comes to."""
    if number == 3:
        return type(found) is ValueError and found.args == (3,)
    return bool(found == {2: "x" * 60_000, 4: cuts.Plain(4), 7: b"y" * 70_000}.get(number, number))


def check_items(found: list[Any], runs: Runs, answered: int) -> int:
    """Assert that the first ``answered`` items and those that ran elsewhere are right; return how many were not."""
    where = runs.of(ITEMS)
    dead = where[0]
    crashed = [number for number, each in enumerate(found) if isinstance(each, WorkerCrashed)]
    assert [number for number in range(answered, ITEMS) if where[number] == dead] == crashed
    assert {found[number].pid for number in crashed} <= {dead}
    assert all(is_right(number, each) for number, each in enumerate(found) if number not in crashed)
    return len(crashed)


async def frames_of_a_chunk(folder: Path) -> list[Frame]:
    """Return the frames of all items in one chunk."""
    copy, runs = folder / "copy", Runs(folder / "whole")
    async with one_worker() as engine:
        found = await results_of(engine, runs, count=0, copy=str(copy))
    assert check_items(found, runs, ITEMS) == 0
    frames = frames_of(copy.read_bytes())
    assert [frame.items for frame in frames] == [2, 1, 1, 1, 2, 1, 4, 0]
    return frames


@pytest.mark.usefixtures("_one_chunk")
async def test_answers_to_items_that_are_cut_cost_what_had_begun_and_was_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W1: at every joint of the frames of one chunk: lists of values, an error, an object, what is long, the end."""
    monkeypatch.setattr(chunk_watch, "LATE_SECONDS", STUCK)  # it is not divided, however busy the machine is
    frames = await frames_of_a_chunk(tmp_path)

    async def cut(engine: Engine, runs: Runs, count: int) -> None:
        crashes = engine.snapshot().crashes
        found = await results_of(engine, runs, count=count)
        whole = [frame for frame in frames if frame.joints[-1] <= count]
        check_items(found, runs, sum(frame.items for frame in whole))
        crashes += len(whole) < len(frames)
        await eventually_async(
            lambda: engine.snapshot().crashes == crashes
        )  # all items may be there before it is known

    joints = {joint for frame in frames for joint in frame.joints}
    await at_each(sorted(joints | {frame.joints[-1] - 1 for frame in frames}), cut, tmp_path)


@pytest.mark.usefixtures("_one_chunk")
async def test_a_flush_that_is_cut_costs_what_had_begun_and_was_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W1: 1. Item 9 takes long. 2. The chunk is divided. 3. The worker dies as it sends what is finished before it."""
    monkeypatch.setattr(chunk_watch, "LATE_SECONDS", STUCK)
    frames = await frames_of_a_chunk(tmp_path)
    sent = frames[5].joints[-1]  # up to item 7, which is long

    async with one_worker() as engine:
        for count in (1, RESULT.size, RESULT.size + 1):
            runs = Runs(tmp_path / "runs")
            reading = asyncio.create_task(results_of(engine, runs, count=sent + count, gate="/never"))
            await eventually_async(partial(runs.has_begun, 9), STUCK)
            monkeypatch.setattr(chunk_watch, "LATE_SECONDS", 0.0)
            check_items(await reading, runs, 8)
            monkeypatch.setattr(chunk_watch, "LATE_SECONDS", STUCK)


# -- the arguments of a task ------------------------------------------------------------------------------------------

LONG = 3 << 20  #: more than any socket takes, so that it is on its way while the worker dies


@pytest.mark.usefixtures("_four_in_a_worker")
async def test_a_worker_that_dies_while_it_reads_an_argument_dies_of_that_task(tmp_path: Path) -> None:
    """W5: at the joints of the frames in which function and arguments come, and in the middle of them."""

    async def cut(engine: Engine, runs: Runs, point: tuple[int, str]) -> None:
        count, how = point
        before = engine.submit(cuts.read_so_much, count, how)
        cut = engine.submit(lambda *args: cuts.take(*args), runs.path, 0, b"x" * LONG)
        behind = [engine.submit(cuts.take, runs.path, number, b"y" * LONG) for number in (0, 1)]
        await crash(cut, await before, how)
        assert await asyncio.gather(*behind) == [LONG, LONG]
        runs.of(2)

    head = STREAM.size
    counts = [1, head - 1, head, head + 1, 500, 1 << 17, LONG]
    await at_each([(count, ("kill", "exit")[count % 2]) for count in counts], cut, tmp_path)


@pytest.mark.usefixtures("_four_in_a_worker")
async def test_an_argument_that_waits_in_the_stream_of_a_dead_worker_is_sent_to_another(tmp_path: Path) -> None:
    """W5: the worker dies of the task before, with nothing, one byte or a socket full of the next one's arrived."""

    async def cut(engine: Engine, runs: Runs, count: int) -> None:
        dies = engine.submit(cuts.die_when_it_has_arrived, runs.path, 0, count, "kill")
        behind = [engine.submit(cuts.take, runs.path, number, b"y" * LONG) for number in (1, 2)]
        with pytest.raises(WorkerCrashed) as caught:
            await dies
        assert await asyncio.gather(*behind) == [LONG, LONG]
        where = runs.of(3)
        assert caught.value.pid == where[0] != where[1] == where[2]
        assert [task.attempt for task in behind] == [1, 1]

    await at_each([0, 1, STREAM.size, 1 << 16], cut, tmp_path)
