"""Shared objects while somebody dies, closes or stops at each step of an opening: right bytes or ShareError, no rest.

The memory is known by its inode, and looked for in every process: as a descriptor and as a mapping.
"""

import asyncio
import contextlib
import gc
import mmap
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from engine import Engine, Retry, Shared, ShareError, TaskState
from engine._wire import attach
from tests.integration import share_functions as does
from tests.integration.exits import environment, orphans, run_program
from tests.support import REPOSITORY, eventually, eventually_async

STUCK = 40.0  #: seconds; a bound for what never happens, not a measurement
DATA = bytes(range(256)) * 4096  #: 1 MiB, which arrives as a copy
CLOSED = "expected .* to be open, got one that was closed; keep the Shared"
Backend = Literal["native", "loky"]
BOTH = pytest.mark.parametrize("backend", ["native", "loky"])


def holders(inode: int) -> set[int]:
    """Return the pids of all processes that have the memory open or mapped."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (_has_open(entry, inode) or _has_mapped(entry, inode)):
            found.add(int(entry.name))
    return found


def _has_open(process: Path, inode: int) -> bool:
    try:
        names = os.listdir(process / "fd")
    except OSError:  # it ended meanwhile, or is another user's
        return False
    for name in names:
        with contextlib.suppress(OSError):  # as above
            path = process / "fd" / name
            if "memfd:engine-shared" in os.readlink(path) and os.stat(path).st_ino == inode:
                return True
    return False


def _has_mapped(process: Path, inode: int) -> bool:
    try:
        lines = (process / "maps").read_text().splitlines()
    except OSError:  # as above
        return False
    return any("memfd:engine-shared" in line and int(line.split()[4]) == inode for line in lines)


def inode_of(shared: Shared[Any]) -> int:
    return int(shared._identity[1])


async def within(awaitable: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(awaitable, STUCK)


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """Have nobody stand before the steps in this process."""
    yield
    vars(attach).update(os=os, mmap=mmap)


# -- the owner dies ---------------------------------------------------------------------------------------------------

OWNER = """
import pickle, sys, time
from pathlib import Path
import numpy
from engine import Engine
from tests.integration import share_functions as does

folder, backend, readers = sys.argv[1], sys.argv[2], int(sys.argv[3])
with Engine(processes=2, process_backend=backend) as engine:
    shared = engine.share(numpy.arange(1 << 17, dtype="f8"))
    begun = [f"{folder}/begun-{n}" for n in range(readers)]
    tasks = [engine.submit(does.wait_for, shared, path, f"{folder}/never") for path in begun]
    while not all(Path(path).exists() for path in begun):
        time.sleep(0.001)
    print(pickle.dumps(shared).hex(), flush=True)
    time.sleep(60)
"""
TOTAL = float(sum(range(1 << 17)))


class Owner:
    """A program that shares an object, which so many of its tasks read, and waits to be killed."""

    def __init__(self, folder: Path, backend: str, readers: int) -> None:
        self.mark = f"{os.getpid()}-{time.monotonic_ns()}"
        self.program = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(folder), backend, str(readers)],
            env=environment(self.mark), cwd=REPOSITORY, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.program.stdout is not None
        self.pickled = bytes.fromhex(self.program.stdout.readline())

    def kill(self) -> None:
        self.program.kill()

    def end(self) -> None:
        """Reap it; nothing that it started is left."""
        self.program.kill()
        self.program.communicate(timeout=STUCK)
        eventually(lambda: not orphans(self.mark), STUCK, "every process of the owner is gone")


@pytest.fixture
def owners() -> Iterator[list[Owner]]:
    """Give a list of which every owner is reaped at the end."""
    found: list[Owner] = []
    yield found
    for owner in found:
        owner.end()


@BOTH
def test_what_another_process_reads_outlives_the_owner_and_its_workers(
    backend: Backend, tmp_path: Path, owners: list[Owner]
) -> None:
    """W17, E40: SIGKILL while two tasks have it mapped, and this process too, which is none of its own."""
    pytest.importorskip("numpy")
    owner = Owner(tmp_path, backend, readers=2)
    owners.append(owner)
    value: Any = pickle.loads(owner.pickled)
    inode = int(does.mappings()[0])
    assert len(holders(inode)) == 4
    assert {os.getpid(), owner.program.pid} < holders(inode)
    owner.kill()
    eventually(lambda: holders(inode) == {os.getpid()}, STUCK, "nobody else to have it")
    assert value.sum() == TOTAL
    with pytest.raises(ShareError, match=CLOSED):  # of a zombie
        pickle.loads(owner.pickled)
    owner.end()
    with pytest.raises(ShareError, match=CLOSED):
        pickle.loads(owner.pickled)
    assert value.sum() == TOTAL
    del value
    gc.collect()
    assert holders(inode) == set()


@pytest.mark.parametrize("step", does.STEPS)
def test_the_owner_dies_at_a_step_of_an_opening(step: str, tmp_path: Path, owners: list[Owner]) -> None:
    """W17, E39: before it is open, whoever comes is too late; from there on the memory is theirs."""
    pytest.importorskip("numpy")
    owner = Owner(tmp_path, "native", readers=0)
    owners.append(owner)

    def die() -> None:
        does.stand_before("", die)
        owner.end()

    opened = does.opened_files()
    does.stand_before(step, die)
    if step in ("stat", "open"):
        with pytest.raises(ShareError, match=CLOSED):
            pickle.loads(owner.pickled)
    else:
        assert pickle.loads(owner.pickled).sum() == TOTAL
    assert does.mappings() == []
    assert does.opened_files() == opened - 1  # the pipe to the owner


def test_an_owner_that_is_dead_and_not_reaped_is_told_as_such() -> None:
    """E39: nobody but root may look at the descriptors of a zombie, and that was taken for dropped privileges."""
    ended = run_program(
        "import pickle\n"
        "from engine import ShareError, _sharing\n"
        "reading, writing = os.pipe()\n"
        "owner = os.fork()\n"
        "if not owner:\n"
        "    shared = _sharing.share(b'x' * (1 << 20), {})\n"
        "    os.write(writing, pickle.dumps(shared))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "pickled = os.read(reading, 1 << 16)\n"
        "os.waitid(os.P_PID, owner, os.WEXITED | os.WNOWAIT)\n"
        "if not os.geteuid():\n"
        "    os.setuid(65534)\n"
        "try:\n"
        "    pickle.loads(pickled)\n"
        "except ShareError as error:\n"
        "    print(error)\n"
        "os.waitpid(owner, 0)\n"
    )
    assert ended.code == 0, ended.stderr
    assert ended.stdout.startswith("expected the shared object to be open, got one that was closed; keep the Shared")


# -- a worker dies ----------------------------------------------------------------------------------------------------


@BOTH
async def test_a_worker_that_dies_at_a_step_of_an_opening_leaves_others_what_they_read(
    backend: Backend, tmp_path: Path
) -> None:
    """E40: at each step; the next attempt gets it, a reader in another worker still has it, and then nobody does."""
    async with Engine(processes=2, process_backend=backend) as engine:
        shared = engine.share(memoryview(DATA))
        inode = inode_of(shared)
        retrying = engine.options(retry=Retry(base_delay=0))
        for count, step in enumerate(does.STEPS, 1):
            begun, go = tmp_path / f"begun-{step}", tmp_path / f"go-{step}"
            reader = engine.submit(does.wait_and_copy, shared, str(begun), str(go))
            await eventually_async(begun.exists, STUCK)
            dead = await within(engine.submit(does.die_before, step))
            task = retrying.submit(does.copied, shared)
            assert await within(task) == DATA
            assert (task.attempt, engine.snapshot().crashes) == (2, count)
            assert dead not in holders(inode)
            assert len(holders(inode)) == 2  # ours and the reader's
            go.touch()
            assert await within(reader) == DATA
        shared.close()
        await eventually_async(lambda: holders(inode) == set(), STUCK)


# -- it is closed, or the engine stops --------------------------------------------------------------------------------


async def opening(engine: Engine, folder: Path, step: str, shared: Any) -> Any:
    """Return a task that is at this step of opening ``shared``, and goes on when ``go`` is in ``folder``."""
    await within(engine.submit(does.wait_before, step, str(folder / "begun"), str(folder / "go")))
    task = engine.submit(does.copied, shared)
    await eventually_async((folder / "begun").exists, STUCK)
    return task


@BOTH
@pytest.mark.parametrize("step", does.STEPS)
async def test_a_close_at_a_step_of_an_opening_comes_before_it_or_behind_it(
    backend: Backend, step: str, tmp_path: Path
) -> None:
    """E39: the task fails with ShareError or reads all of it; the worker keeps neither descriptor nor mapping."""
    async with Engine(processes=1, process_backend=backend) as engine:
        opened = await within(engine.submit(does.opened_files))
        shared = engine.share(memoryview(DATA))
        inode = inode_of(shared)
        task = await opening(engine, tmp_path, step, shared)
        shared.close()
        (tmp_path / "go").touch()
        if step in ("stat", "open"):
            with pytest.raises(ShareError, match=CLOSED) as caught:
                await within(task)
            assert (caught.value.where, caught.value.task_id) == ("worker", task.id)
        else:
            assert await within(task) == DATA
        assert await within(engine.submit(does.opened_files)) == opened
        assert holders(inode) == set()


@pytest.mark.parametrize("reuse", ["fifo", "file", "shared"])
async def test_a_number_that_changes_its_meaning_between_look_and_opening_is_let_go_of(
    reuse: str, tmp_path: Path
) -> None:
    """E39: 1. the worker looks; 2. it is closed; 3. its number means a FIFO, a file, another shared object; 4. open."""
    async with Engine(processes=1) as engine:
        opened = await within(engine.submit(does.opened_files))
        shared, other = engine.share(memoryview(DATA)), engine.share(memoryview(DATA[::-1]))
        (fd,), (memory,) = shared._store, other._store
        assert isinstance(fd, int)
        assert isinstance(memory, int)
        task = await opening(engine, tmp_path, "open", shared)
        if reuse == "fifo":
            os.mkfifo(tmp_path / "other")
        else:
            (tmp_path / "other").write_bytes(DATA)
        source = os.open(tmp_path / "other", os.O_RDONLY | os.O_NONBLOCK)  # of another number, which is not free yet
        shared.close()
        os.dup2(memory if reuse == "shared" else source, fd)
        try:
            (tmp_path / "go").touch()
            with pytest.raises(ShareError, match=CLOSED):
                await within(task)
        finally:
            os.close(source)
            os.close(fd)
        assert await within(engine.submit(does.opened_files)) == opened
        assert await within(engine.submit(does.copied, other)) == DATA[::-1]
        other.close()


@BOTH
@pytest.mark.parametrize("step", ["open", "mmap"])
async def test_a_stop_at_a_step_of_an_opening_leaves_it_to_its_owner(
    backend: Backend, step: str, tmp_path: Path
) -> None:
    """N3, E40: the task is cancelled with its worker; who holds the Shared reads on, and its close frees all."""
    async with Engine(processes=1, process_backend=backend, grace=0.05) as engine:
        shared = engine.share(memoryview(DATA))
        inode = inode_of(shared)
        task = await opening(engine, tmp_path, step, shared)
        await within(engine.stop(timeout=0))
        assert task.state is TaskState.CANCELLED
        assert holders(inode) == {os.getpid()}
    with pytest.raises(RuntimeError, match="has stopped"):
        engine.share(1)
    assert bytes(shared.value) == DATA
    shared.close()
    gc.collect()
    assert holders(inode) == set()


async def test_a_stop_that_waits_lets_an_opening_come_to_its_end(tmp_path: Path) -> None:
    """N3: the engine drains while a task is about to open what is shared."""
    async with Engine(processes=1) as engine:
        shared = engine.share(memoryview(DATA))
        task = await opening(engine, tmp_path, "open", shared)
        stopping = asyncio.create_task(engine.stop())
        await eventually_async(lambda: engine.snapshot().phase == "draining", STUCK)
        (tmp_path / "go").touch()
        assert await within(task) == DATA
        assert (await within(stopping)).completed == 2
    inode = inode_of(shared)
    shared.close()
    assert holders(inode) == set()
