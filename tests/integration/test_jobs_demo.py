"""``engine demo --jobs``: real trees, real kills; what one run leaves, the next one finishes."""

import json
import os
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import TaskState
from engine.jobs import Filter, JobInfo, SQLiteStore
from tests.integration.commands import Command, Terminal
from tests.integration.trees import make_bad_files, make_long_work, make_tree
from tests.support import eventually


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    command = Command(tmp_path, "demo")
    yield command
    eventually(lambda: not command.processes(), 5, "no process of the demo is left")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    """Give the file of jobs to look at, from the moment on at which the demo has made it."""
    store = SQLiteStore(tmp_path / "demo.db")
    yield store
    store.close()


def rows_in(store: SQLiteStore) -> list[JobInfo]:
    return store.read(lambda book, now: book.find(Filter(limit=1000, oldest_first=True))).result(20)


def states_in(store: SQLiteStore) -> Counter[TaskState]:
    return Counter(row.state for row in rows_in(store))


def begin_and_kill(command: Command, store: SQLiteStore, *, completed: int) -> int:
    """Start the demo, and kill all of it at once when so many files are done; return how many it had in hand."""
    demo = subprocess.Popen(
        command.line("tree", "--jobs", "demo.db", "--processes", "2"), cwd=command.folder, env=command.environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        eventually(Path(store.name).exists, 30, "it has made the file")
        eventually(lambda: states_in(store)[TaskState.COMPLETED] >= completed, 30, f"{completed} files are done")
    finally:
        demo.kill()
        demo.wait(10)
    eventually(lambda: not command.processes(), 5, "its workers die with it")
    return states_in(store)[TaskState.RUNNING]


SUM = re.compile(
    r"^left by earlier runs: (\d+) of 40 files; rescued from one that died: (\d+) jobs?; repeated: (\d+)$", re.MULTILINE
)


def test_what_killed_runs_leave_the_next_one_finishes(command: Command, store: SQLiteStore, tmp_path: Path) -> None:
    """E138: kill -9, twice, each in the middle of the work."""
    make_long_work(tmp_path, 40)
    first = begin_and_kill(command, store, completed=3)
    second = begin_and_kill(command, store, completed=12)
    states = states_in(store)
    left, held = 40 - states[TaskState.COMPLETED], states[TaskState.RUNNING]
    assert left > 0
    run = command.run("--jobs", "demo.db", "--json", "result.json", "--processes", "2")
    assert run.returncode == 0
    assert f"goes on with demo.db: {left} of 40 files left" in run.stdout
    assert f"Measured 40 files, the last {left} in " in run.stdout
    told = SUM.search(run.stdout)
    assert told
    result = json.loads((tmp_path / "result.json").read_text())
    assert sorted(file["path"] for file in result["files"]) == [f"{number:03}.py" for number in range(40)]
    assert result["failures"] == []
    assert result["jobs"] == {"file": "demo.db", "left": left, "rescued": held, "repeated": int(told[3])}
    assert told.groups() == (str(left), str(held), told[3])
    rows = rows_in(store)
    assert {row.state for row in rows} == {TaskState.COMPLETED}
    assert sum(row.token > 1 for row in rows) == int(told[3])
    assert held <= int(told[3]) <= first + second  # and nothing else is done again


def test_the_tables_are_those_of_the_ordinary_demo(command: Command, tmp_path: Path) -> None:
    files, bad = make_tree(tmp_path / "tree"), make_bad_files(tmp_path / "tree")
    run = command.run("tree", "--jobs", "demo.db", "--json", "first.json")
    assert (run.returncode, run.stderr) == (0, "")
    assert "17 .py files below " in run.stdout
    assert "Not measured: 12 files (7 unparsable, 3 unreadable, 1 not UTF-8, 1 too large)" in run.stdout
    first = json.loads((tmp_path / "first.json").read_text())
    assert [file["path"] for file in first["files"]] == sorted(files)
    assert {failure["path"]: failure["kind"] for failure in first["failures"]} == bad
    again = command.run("--jobs", "demo.db", "--json", "again.json")
    assert "nothing is left to do in demo.db: these are its results" in again.stdout
    second = json.loads((tmp_path / "again.json").read_text())
    assert (second["files"], second["failures"]) == (first["files"], first["failures"])


def test_ctrl_c_drains_and_says_how_to_go_on(command: Command, store: SQLiteStore, tmp_path: Path) -> None:
    make_long_work(tmp_path, 100)
    with Terminal(command, "tree", "--jobs", "demo.db", "--processes", "2") as terminal:
        eventually(lambda: re.search(r"\b[1-9]\d* of 100 files", terminal.read()), 30)
        terminal.interrupt()
        assert terminal.end() == 130
    assert "Traceback" not in terminal.text
    assert re.search(r"^Interrupted after ([1-9]\d*) of 100 files; what was done so far:$", terminal.text, re.MULTILINE)
    assert "go on with: engine demo --jobs demo.db" in terminal.text
    rows = rows_in(store)
    assert {row.state for row in rows} == {TaskState.COMPLETED, TaskState.PENDING}  # nothing is held any more
    assert {row.attempt for row in rows if row.state is TaskState.PENDING} == {0}


def test_two_ctrl_c_end_it_at_once_and_lose_nothing(command: Command, store: SQLiteStore, tmp_path: Path) -> None:
    make_long_work(tmp_path, 15)
    with Terminal(command, "tree", "--jobs", "demo.db", "--processes", "2") as terminal:
        eventually(lambda: re.search(r"\b[1-9]\d* of 15 files", terminal.read()), 30)
        os.kill(terminal.process.pid, signal.SIGINT)
        os.kill(terminal.process.pid, signal.SIGINT)
        assert terminal.end() == 130
    assert "Traceback" not in terminal.text
    run = command.run("tree", "--jobs", "demo.db")
    assert run.returncode == 0
    assert {row.state for row in rows_in(store)} == {TaskState.COMPLETED}
