"""The pipeline of the demo on a real engine: bounded, and never ended by a file."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, TaskState
from engine.cli import survey
from engine.cli.metrics import Failure, Metrics, measure
from engine.cli.sources import read_source
from engine.cli.survey import MEASURE_WINDOW, READ_WINDOW, Survey
from engine.cli.totals import Totals
from tests.support import eventually_async


def make_files(root: Path, names: list[str]) -> list[str]:
    for name in names:
        (root / name).write_text("def f():\n    return 1\n")
    return names


@contextlib.asynccontextmanager
async def surveyed(root: Path, totals: Totals, **options: Any) -> AsyncIterator[Survey]:
    async with Engine(processes=2, threads=4) as engine:
        yield Survey(engine, str(root), totals, **options)


async def test_every_file_is_measured_in_order(tmp_path: Path) -> None:
    paths = make_files(tmp_path, [f"{number:03}.py" for number in range(300)])
    totals, calls = Totals(), []
    async with surveyed(tmp_path, totals, on_file=lambda: calls.append(totals.done)) as files:
        await files.run([*paths, "gone.py"])
    assert [file["path"] for file in totals.files] == paths
    assert [failure["path"] for failure in totals.failures] == ["gone.py"]
    assert len(calls) == 301


async def test_a_file_that_kills_its_worker_is_named_and_the_others_are_measured(tmp_path: Path) -> None:
    paths = make_files(tmp_path, [*(f"{number:02}.py" for number in range(40)), "exit.py", "kill.py"])
    paths.sort(key=lambda path: path[::-1])  # the bad ones in the middle of the others

    def dangerous(source: tuple[str, bytes]) -> Metrics | Failure:
        if source[0] == "exit.py":
            os._exit(3)
        if source[0] == "kill.py":
            os.kill(os.getpid(), signal.SIGKILL)
        return measure(source)

    totals = Totals()
    async with surveyed(tmp_path, totals, measure=dangerous) as files:
        await files.run(paths)
    assert sorted(file["path"] for file in totals.files) == sorted(set(paths) - {"exit.py", "kill.py"})
    assert sorted((f["path"], f["kind"], f["reason"]) for f in totals.failures) == [
        ("exit.py", "crashed", "its worker process died (exit code 3)"),
        ("kill.py", "crashed", "its worker process died (SIGKILL)"),
    ]


async def test_a_file_that_takes_too_long_is_named_and_the_others_are_measured(tmp_path: Path) -> None:
    paths = make_files(tmp_path, ["a.py", "slow.py", "z.py"])

    def slow(source: tuple[str, bytes]) -> Metrics | Failure:
        while source[0] == "slow.py":
            time.sleep(1)
        return measure(source)

    totals = Totals()
    async with surveyed(tmp_path, totals, measure=slow, file_timeout=0.5) as files:
        await files.run(paths)
    assert [file["path"] for file in totals.files] == ["a.py", "z.py"]
    assert totals.failures == [{"path": "slow.py", "kind": "timed out", "reason": "not measured within 0.5 s"}]


def gated(gate: str) -> Callable[[tuple[str, bytes]], Metrics | Failure]:
    def wait(source: tuple[str, bytes]) -> Metrics | Failure:
        while not os.path.exists(gate):
            time.sleep(0.005)
        return measure(source)

    return wait


async def test_reading_does_not_run_ahead_of_measuring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = make_files(tmp_path, [f"{number:03}.py" for number in range(300)])
    reads: list[str] = []

    def counted(root: str, path: str) -> tuple[str, bytes] | Failure:
        reads.append(path)
        return read_source(root, path)

    monkeypatch.setattr(survey, "read_source", counted)
    totals, gate = Totals(), tmp_path / "open"
    async with Engine(processes=2, threads=4) as engine:
        files = Survey(engine, str(tmp_path), totals, measure=gated(str(gate)))
        running = asyncio.create_task(files.run(paths))
        await eventually_async(lambda: len(reads) >= READ_WINDOW + MEASURE_WINDOW - 1)
        for _ in range(50):  # turns of the loop and of the threads in which more could be read
            await engine.options(lane="thread").run(int)
        assert len(reads) <= READ_WINDOW + MEASURE_WINDOW
        gate.touch()
        await running
    assert len(totals.files) == len(reads) == 300


async def test_a_cancelled_run_keeps_what_was_merged_and_cancels_the_rest(tmp_path: Path) -> None:
    paths = make_files(tmp_path, [f"{number:03}.py" for number in range(300)])
    totals = Totals()

    def last_is_slow(source: tuple[str, bytes]) -> Metrics | Failure:
        while source[0] >= "100.py":
            time.sleep(1)
        return measure(source)

    async with Engine(processes=2, threads=4) as engine:
        files = Survey(engine, str(tmp_path), totals, measure=last_is_slow)
        running = asyncio.create_task(files.run(paths))
        await eventually_async(lambda: totals.done == 100)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await eventually_async(lambda: not engine.snapshot().count(TaskState.RUNNING))
    assert [file["path"] for file in totals.files] == paths[:100]
