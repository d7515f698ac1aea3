"""``engine worker`` as a command: real processes, real signals, and nothing left behind."""

import os
import signal
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import TaskState
from engine.jobs import Filter, JobInfo, Jobs, SQLiteStore
from tests.integration.commands import Command
from tests.support import eventually

SHOP = """\
    import asyncio
    import contextlib
    import time

    from engine.jobs import Jobs

    jobs = Jobs("shop.db")


    @jobs.task(lane="process")
    def nap(seconds: float) -> float:
        open(f"begun-{seconds}", "x").close()
        time.sleep(seconds)
        return seconds


    @jobs.task(lane="thread")
    def block(seconds: float) -> None:
        time.sleep(seconds)


    @jobs.task
    async def swallow() -> None:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)
"""


class Shop:
    """A program with jobs, and its worker."""

    def __init__(self, folder: Path) -> None:
        (folder / "shop.py").write_text(textwrap.dedent(SHOP))
        self.command = Command(folder, "worker")
        self.path = folder / "shop.db"
        self.store = SQLiteStore(self.path)
        self.jobs = Jobs(self.store)
        self.worker: subprocess.Popen[str] | None = None

    def enqueue(self, name: str, **args: float) -> None:
        """Enqueue as the program would, without its code."""

        def fn(**args: float) -> None: ...

        self.jobs.task(name=f"shop.{name}")(fn) if f"shop.{name}" not in self.jobs.tasks else None
        self.jobs.tasks[f"shop.{name}"].enqueue(**args).result(20)

    def begin(self, *arguments: str) -> "subprocess.Popen[str]":
        self.worker = subprocess.Popen(
            self.command.line("shop:jobs", "--processes", "2", "--threads", "2", *arguments),
            cwd=self.command.folder, env=self.command.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        return self.worker

    def rows(self) -> list[JobInfo]:
        return self.store.read(lambda book, now: book.find(Filter(oldest_first=True))).result(20)

    def states(self) -> list[str]:
        return [row.state.value for row in self.rows()]

    def end(self) -> None:
        if self.worker is not None and self.worker.poll() is None:
            self.worker.kill()
            self.worker.communicate()
        self.jobs.close()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path)
    yield shop
    shop.end()
    eventually(lambda: not shop.command.processes(), 5, "no process of the worker is left")


def test_sigterm_lets_a_short_job_end_and_gives_a_long_one_back(shop: Shop) -> None:
    """N11: jobs of one second and of sixty, three seconds to drain."""
    shop.enqueue("nap", seconds=1.0)
    shop.enqueue("nap", seconds=60.0)
    worker = shop.begin("--drain", "3")
    folder = shop.command.folder
    eventually(lambda: (folder / "begun-1.0").exists() and (folder / "begun-60.0").exists(), 30, "both run")
    worker.send_signal(signal.SIGTERM)
    out, err = worker.communicate(timeout=30)
    assert (worker.returncode, err) == (0, "")
    assert out.splitlines()[-2:] == ["draining: 2 jobs may still take 3 s", "drained: 1 completed, 1 given back"]
    short, long = shop.rows()
    assert (short.state, short.result) == (TaskState.COMPLETED, "1.0")
    assert (long.state, long.attempt, long.crashes, long.holder) == (TaskState.PENDING, 0, 0, None)
    eventually(lambda: not shop.command.processes(), 5, "no process of the worker is left")


def test_a_second_signal_ends_it_though_nothing_that_runs_obeys(shop: Shop) -> None:
    """E137: a thread that blocks, a coroutine that swallows its cancellation, a process; a drain of a minute."""
    shop.enqueue("swallow")
    shop.enqueue("block", seconds=60.0)
    shop.enqueue("nap", seconds=60.0)
    worker = shop.begin("--drain", "60")
    eventually(lambda: shop.states() == ["running"] * 3, 30, "all run")
    os.kill(worker.pid, signal.SIGINT)
    said = worker.stdout
    assert said is not None
    eventually(lambda: "draining" in said.readline(), 30)
    os.kill(worker.pid, signal.SIGTERM)
    worker.communicate(timeout=30)
    assert worker.returncode == 130
    eventually(lambda: not shop.command.processes(), 5, "no process of the worker is left")


def test_a_worker_whose_output_nobody_reads_any_more_drains_all_the_same(shop: Shop) -> None:
    """E183: who read it is gone, the job has its time."""
    shop.enqueue("nap", seconds=1.0)
    worker = shop.begin("--drain", "20")
    assert worker.stdout is not None
    assert worker.stderr is not None
    eventually((shop.command.folder / "begun-1.0").exists, 30, "it runs")
    worker.stdout.close()
    worker.send_signal(signal.SIGTERM)
    with worker.stderr:
        assert (worker.wait(timeout=30), worker.stderr.read()) == (0, "")
    assert [(row.state, row.result) for row in shop.rows()] == [(TaskState.COMPLETED, "1.0")]


def test_a_coroutine_that_does_not_end_does_not_keep_the_worker(shop: Shop) -> None:
    """E137: asyncio itself would wait for it for ever."""
    shop.enqueue("swallow")
    worker = shop.begin("--drain", "0")
    eventually(lambda: shop.states() == ["running"], 30, "it runs")
    worker.send_signal(signal.SIGTERM)
    out, _ = worker.communicate(timeout=40)
    assert worker.returncode == 0
    assert out.splitlines()[-2:] == ["drained: 1 given back", "1 coroutine will not end, and is left behind"]
    assert [(row.state, row.attempt) for row in shop.rows()] == [(TaskState.PENDING, 0)]


def test_what_a_killed_worker_held_the_next_one_rescues_and_says_so(shop: Shop) -> None:
    shop.enqueue("nap", seconds=60.0)
    killed = shop.begin()
    eventually(lambda: shop.states() == ["running"], 30, "it runs")
    killed.kill()
    killed.communicate(timeout=30)
    shop.store.write(lambda book, now: book.cancel(1, now)).result(20)  # so that the next one does not run it
    worker = shop.begin()
    eventually(lambda: shop.states() == ["cancelled"], 30, "it is rescued")
    worker.send_signal(signal.SIGTERM)
    _, err = worker.communicate(timeout=30)
    assert worker.returncode == 0
    assert err.count("\n") == 1
    assert f":{killed.pid}:worker" in err
