"""``engine worker`` from start to end, in this process: real signals, a real file, coroutines as jobs."""

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import TaskState
from engine.cli import INTERRUPTED
from engine.cli.refusals import Refused
from engine.cli.worker.logs import log_each_job, log_to_stderr
from engine.cli.worker.service import Service, Settings
from engine.jobs import Jobs
from tests.support import eventually_async

PENDING, COMPLETED = TaskState.PENDING, TaskState.COMPLETED


class Shop:
    """A file of jobs, and what its worker said."""

    def __init__(self, folder: Path) -> None:
        self.jobs = Jobs(folder / "shop.db")
        self.lines: list[str] = []
        self.left: list[int] = []
        self.begun = 0
        self.opened = asyncio.Event()  #: what the slow ones wait for

        @self.jobs.task(name="quick", queue="q")
        async def quick() -> int:
            return 7

        @self.jobs.task(name="slow", queue="q")
        async def slow() -> None:
            self.begun += 1
            await self.opened.wait()

        @self.jobs.task(name="stubborn", queue="q")
        async def stubborn() -> None:
            self.begun += 1
            while not self.opened.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await self.opened.wait()

        self.quick, self.slow, self.stubborn = quick, slow, stubborn

    def begin(self, **said: Any) -> asyncio.Task[int]:
        service = Service(self.jobs, Settings(**said), self.lines.append, self.left.append)
        return asyncio.get_running_loop().create_task(service.run())

    async def states(self) -> list[TaskState]:
        return [job.state for job in reversed(await self.jobs.list())]

    async def says(self, text: str) -> None:
        await eventually_async(lambda: any(text in line for line in self.lines), 20, text)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path)
    yield shop
    shop.jobs.close()


@pytest.fixture
def levels() -> Iterator[None]:
    """Have the levels of our loggers again at the end."""
    before = {name: logging.getLogger(name).level for name in ("", "engine", "engine.jobs")}
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_what_runs_end(shop: Shop, number: signal.Signals) -> None:
    await shop.slow.enqueue()
    service = shop.begin(drain=60.0, name="first")
    await eventually_async(lambda: shop.begun, 20, "the job runs")
    os.kill(os.getpid(), number)
    await shop.says("draining: 1 job may still take 60 s")
    await shop.quick.enqueue()
    shop.opened.set()
    assert await service == 0
    assert shop.lines[-1] == "drained: 1 completed"
    assert await shop.states() == [COMPLETED, PENDING]
    assert shop.left == []


async def test_it_says_what_it_is_going_to_do(shop: Shop) -> None:
    shop.jobs.periodic(every=3600.0)(shop.quick)
    service = shop.begin(queues={"q": 4, "other": None}, concurrency=3, processes=1, threads=2, name="first")
    await shop.says("started; SIGTERM or Ctrl-C drains it within 30 s")
    os.kill(os.getpid(), signal.SIGTERM)
    assert await service == 0
    assert shop.lines[1].endswith(f":{os.getpid()}:first works on {shop.jobs.name}")
    assert shop.lines[2:] == [
        "queues     q (at most 4 at once), other",
        "tasks      quick, slow, stubborn",
        "schedules  quick: every 3600 s",
        "runs       at most 3 jobs at once, in 1 worker process, 2 threads, and the event loop",
        "started; SIGTERM or Ctrl-C drains it within 30 s",
        "draining: nothing runs",
        "drained: it ran nothing",
    ]


async def test_a_second_signal_gives_back_what_runs_at_once(shop: Shop) -> None:
    """E137: the drain would take a minute more."""
    await shop.slow.enqueue()
    service = shop.begin(drain=60.0)
    await eventually_async(lambda: shop.begun, 20, "the job runs")
    os.kill(os.getpid(), signal.SIGTERM)
    await shop.says("draining")
    os.kill(os.getpid(), signal.SIGINT)
    assert await asyncio.wait_for(service, 20) == INTERRUPTED
    assert shop.lines[-2:] == ["stopping at once", "drained: 1 given back"]
    (job,) = await shop.jobs.list()
    assert (job.state, job.attempt) == (PENDING, 0)


async def test_what_does_not_end_then_is_left_behind(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """E137: the third signal, and the second one a moment later, end the process whatever runs."""
    monkeypatch.setattr("engine.cli.worker.service._LAST_SECONDS", 0.0)
    await shop.stubborn.enqueue()
    service = shop.begin(drain=60.0)
    await eventually_async(lambda: shop.begun, 20, "the job runs")
    for _ in range(3):
        os.kill(os.getpid(), signal.SIGINT)
    await eventually_async(lambda: len(shop.left) >= 2, 20, "it leaves, twice")
    assert set(shop.left) == {INTERRUPTED}
    shop.opened.set()
    await service


@pytest.mark.parametrize("said", [{"queues": {"\x1b": None}}, {"name": "x" * 200}])
async def test_an_option_out_of_range_is_wrong_usage(shop: Shop, said: dict[str, Any]) -> None:
    with pytest.raises(Refused, match=r"^expected .* to be ") as refused:
        await shop.begin(**said)
    assert refused.value.exit_code == 2
    assert shop.lines == []


async def test_each_job_has_its_lines_where_that_is_wanted(
    shop: Shop, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, levels: None
) -> None:
    """E135: the log of a worker has a line a record, whatever the names in rows are."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])

    @shop.jobs.task(name="bad", queue="q")
    async def bad() -> None:
        raise ValueError("\x1b[2Jtwo\nlines")

    log_to_stderr(verbose=True)
    log_each_job(shop.jobs)
    await shop.quick.enqueue()
    await bad.enqueue()
    service = shop.begin()
    job = await (await bad.enqueue()).wait(20)
    logging.getLogger("engine.jobs").warning("a name: %s", "\x1b[31m\nevil")
    os.kill(os.getpid(), signal.SIGTERM)
    assert await service == 0
    told = capsys.readouterr().err.splitlines()
    assert all(line.isprintable() for line in told)
    texts = [line.partition(" engine.jobs: ")[2] for line in told]
    assert {"job 1 (quick) begins, attempt 1", "job 1 (quick) completed"} <= set(texts)
    assert f"job {job.id} (bad) failed for good after attempt 1: ValueError: \\x1b[2Jtwo lines" in texts
    assert "a name: \\x1b[31m\\nevil" in texts


def test_a_program_that_logs_by_itself_keeps_its_handlers(monkeypatch: pytest.MonkeyPatch, levels: None) -> None:
    own = logging.NullHandler()
    monkeypatch.setattr(logging.getLogger(), "handlers", [own])
    log_to_stderr(verbose=False)
    assert logging.getLogger().handlers == [own]


async def test_a_second_signal_is_obeyed_though_no_line_can_be_told(shop: Shop) -> None:
    """E183: who read the output is gone."""

    def tell(line: str) -> None:
        if not shop.begun:
            return
        raise BrokenPipeError

    service = Service(shop.jobs, Settings(drain=60.0), tell, shop.left.append)
    running = asyncio.get_running_loop().create_task(service.run())
    await shop.slow.enqueue()
    await eventually_async(lambda: shop.begun == 1, 20, "it runs")
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
    assert await asyncio.wait_for(running, 20) == INTERRUPTED
    assert await shop.states() == [PENDING]
