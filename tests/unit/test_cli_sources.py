"""Finding and reading source files, of which any may be anything."""

import os
from pathlib import Path

import pytest

from engine.cli import sources
from engine.cli.metrics import Failure


def refused(root: Path, path: str) -> Failure:
    outcome = sources.read_source(str(root), path)
    assert isinstance(outcome, dict)
    assert outcome["path"] == path
    return outcome


def test_all_source_files_are_found_in_order_and_nothing_else(tmp_path: Path) -> None:
    for name in ("b/z.py", "b/a.py", "a.py", "c.txt", "d.pyc", ".hidden/e.py", "dir.py/f.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    paths, failures = sources.find_sources(str(tmp_path))
    assert paths == [".hidden/e.py", "a.py", "b/a.py", "b/z.py", "dir.py/f.py"]
    assert failures == []


def test_directories_can_be_left_out_at_any_depth(tmp_path: Path) -> None:
    for name in ("a.py", "site-packages/b.py", "c/site-packages/d.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    assert sources.find_sources(str(tmp_path), frozenset({"site-packages"}))[0] == ["a.py"]


def test_links_to_directories_are_not_followed_and_links_to_files_are(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.py").touch()
    (tmp_path / "real" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "other.py").symlink_to(tmp_path / "real", target_is_directory=True)
    (tmp_path / "link.py").symlink_to("real/a.py")
    (tmp_path / "loop.py").symlink_to("loop.py")
    assert sources.find_sources(str(tmp_path))[0] == ["link.py", "loop.py", "real/a.py"]
    assert "symbolic links" in refused(tmp_path, "loop.py")["reason"]


def test_a_directory_that_vanished_is_a_failure(tmp_path: Path) -> None:
    paths, failures = sources.find_sources(str(tmp_path / "gone"))
    assert paths == []
    assert [(f["path"], f["kind"], f["reason"]) for f in failures] == [
        (".", "unreadable", "directory: No such file or directory")
    ]


def test_a_file_is_read_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(b"x\xff")
    assert sources.read_source(str(tmp_path), "a.py") == ("a.py", b"x\xff")


def test_a_link_to_nowhere_and_a_file_that_vanished_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "link.py").symlink_to("nowhere.py")
    assert refused(tmp_path, "link.py")["reason"] == "dangling link"
    assert refused(tmp_path, "gone.py")["reason"] == "gone since it was listed"


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    assert refused(tmp_path, "pipe.py")["reason"] == "not a regular file"


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_and_a_directory_without_permission_are_failures(tmp_path: Path) -> None:
    (tmp_path / "a.py").touch(mode=0)
    (tmp_path / "dir").mkdir(mode=0)
    assert refused(tmp_path, "a.py")["reason"] == "Permission denied"
    assert [f["path"] for f in sources.find_sources(str(tmp_path))[1]] == ["dir"]


def test_a_huge_file_is_refused_by_its_size(tmp_path: Path) -> None:
    for name, size in (("most.py", sources.LARGEST_BYTES), ("more.py", sources.LARGEST_BYTES + 1)):
        with open(tmp_path / name, "wb") as file:
            file.truncate(size)
    assert isinstance(sources.read_source(str(tmp_path), "most.py"), tuple)
    failure = refused(tmp_path, "more.py")
    assert (failure["kind"], failure["reason"]) == ("too large", "8,000,001 bytes, expected at most 8,000,000")
