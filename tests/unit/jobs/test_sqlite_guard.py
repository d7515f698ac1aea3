"""A second SQLite on an open file is refused, by whatever path it comes."""

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.jobs._sqlite import guard as _guard
from engine.jobs.errors import StoreError
from tests.job_stores import PATIENCE, enqueue, opened


def _linked(path: Path, link: Callable[[Path, Path], None]) -> Path:
    other = path.with_name("link.db")
    link(path, other)
    return other


WAYS: dict[str, tuple[Callable[[Path], Any], bool]] = {
    "text": (str, False),
    "bytes": (lambda path: str(path).encode(), False),
    "path": (lambda path: path, False),
    "relative": (lambda path: os.path.relpath(path), False),
    "dots": (lambda path: f"{path.parent}/../{path.parent.name}/{path.name}", False),
    "symbolic link": (lambda path: _linked(path, lambda old, new: new.symlink_to(old)), False),
    "hard link": (lambda path: _linked(path, lambda old, new: new.hardlink_to(old)), False),
    "uri": (lambda path: path.as_uri(), True),
    "uri of one slash": (lambda path: f"file:{path}", True),
    "uri of a host": (lambda path: f"file://localhost{path}?mode=ro&immutable=1#x", True),
    "escaped uri": (lambda path: "file:" + "".join(f"%{byte:02x}" for byte in str(path).encode()), True),
    "relative uri": (lambda path: f"file:{os.path.relpath(path)}", True),
}


@pytest.mark.parametrize(("way", "is_uri"), WAYS.values(), ids=WAYS)
def test_sqlite3_is_refused_while_the_store_is_open(tmp_path: Path, way: Callable[[Path], Any], is_uri: bool) -> None:
    """E111: another SQLite library in the process would drop our locks with its first close."""
    with opened(tmp_path / "jobs.db") as store:
        store.open()
        with pytest.raises(StoreError, match=r"open here as a store of jobs.*jobs\.query\(\).*jobs\.connect\(\)"):
            sqlite3.connect(way(tmp_path / "jobs.db"), uri=is_uri)
        store.write(enqueue).result(PATIENCE)
    with_us_gone = sqlite3.connect(tmp_path / "jobs.db")
    assert with_us_gone.execute("SELECT count(*) FROM jobs").fetchone() == (1,)
    with_us_gone.close()


def test_what_is_no_file_of_ours_is_let_through(tmp_path: Path) -> None:
    """E111: other databases are nobody's business."""
    with opened(tmp_path / "jobs.db") as store:
        store.open()
        for other in (":memory:", "", tmp_path / "other.db", "file:x?mode=memory"):
            sqlite3.connect(other, uri=True).close()
        with pytest.raises(TypeError):
            sqlite3.connect(7.5)  # type: ignore[call-overload]  # what is refused


def test_the_file_is_free_when_the_last_store_and_connection_on_it_are_closed(tmp_path: Path) -> None:
    """E111: two stores on one file, and a caller's connection that outlives them."""
    path = tmp_path / "jobs.db"
    with opened(path) as first, opened(path) as second:
        first.open()
        connection = second.connect()
        second.close()
        first.close()
        with pytest.raises(StoreError):
            sqlite3.connect(path)
        connection.close()
        connection.close()
        sqlite3.connect(path).close()
    assert _guard._open == {}
