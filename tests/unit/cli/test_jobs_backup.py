"""``engine jobs backup``: a copy of a file that others use."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from engine import TaskState
from engine.cli import main
from engine.jobs import Filter

from .conftest import File, Run

Jobs = Callable[..., Run]


def test_a_copy_of_a_file_in_use_has_all_that_was_acknowledged(
    file: File, jobs: Jobs, tmp_path: Path
) -> None:  # fmt: skip
    """E165: it is whole, private, and a file of jobs of its own; ids go on where they were."""
    copy = tmp_path / "copy.db"
    file.add(3)
    file.complete(file.claim(1))
    [told] = jobs("backup", copy, "--json").objects
    assert told == {"target": str(copy), "bytes": copy.stat().st_size}
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    file.add()  # the copied file is still in use
    other = File(copy)
    try:
        rows = other.do(lambda book, now: book.find(Filter(oldest_first=True)))
        assert [row.state for row in rows] == [TaskState.COMPLETED, TaskState.PENDING, TaskState.PENDING]
        assert other.add() == [4]
    finally:
        other.store.close()
    assert not list(tmp_path.glob("*.partial"))


def test_a_copy_has_no_unused_room(file: File, jobs: Jobs, tmp_path: Path) -> None:
    """E166: what pruned jobs leave is used again, and not in the copy."""
    file.add(300, args='{"a": "' + "x" * 5000 + '"}')
    file.complete(file.claim(300))
    assert jobs("prune", "--older-than", "0s").code == 0
    file.store.close()
    jobs("backup", tmp_path / "copy.db")
    assert (tmp_path / "copy.db").stat().st_size < 200_000 < file.path.stat().st_size


def test_a_copy_takes_the_place_of_nothing(file: File, jobs: Jobs, tmp_path: Path) -> None:
    """E165."""
    (tmp_path / "there").write_text("mine")
    run = jobs("backup", tmp_path / "there")
    assert run.code == 1
    assert "expected COPY to be a path where nothing is" in run.err
    assert (tmp_path / "there").read_text() == "mine"
    assert "expected COPY to be" in jobs("backup", file.path).err
    run = jobs("backup", tmp_path / "nowhere" / "copy.db")
    assert (run.code, "No such file or directory" in run.err) == (1, True)


def test_what_a_copy_that_was_cut_off_left_is_in_nobodys_way(file: File, jobs: Jobs, tmp_path: Path) -> None:
    """E165."""
    (tmp_path / "copy.db.partial").write_text("half of it")
    assert jobs("backup", tmp_path / "copy.db").code == 0
    assert sorted(os.listdir(tmp_path)) == ["copy.db", "jobs.db", "jobs.db-shm", "jobs.db-wal"]


def test_a_store_in_memory_has_no_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    (tmp_path / "shop_in_memory.py").write_text("from engine.jobs import *\njobs = Jobs(MemoryStore())\n")
    monkeypatch.chdir(tmp_path)
    assert main(["jobs", "backup", "shop_in_memory:jobs", "copy.db"]) == 1
    assert capsys.readouterr().err.startswith("engine jobs backup: ")
    assert not list(tmp_path.glob("copy*"))
