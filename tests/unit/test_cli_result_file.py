"""The result file: refused early where it cannot be, replaced at once or not at all."""

import json
import os
import stat
from pathlib import Path

import pytest

from engine.cli.result_file import ResultFile


def test_what_is_written_is_read_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    file = ResultFile(str(path))
    file.check()
    assert list(tmp_path.iterdir()) == []
    file.write({"path": "\udce9\n\u00fc"})
    assert json.loads(path.read_bytes()) == {"path": "\udce9\n\u00fc"}
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_was_there_keeps_its_mode_and_a_link_stays_a_link(tmp_path: Path) -> None:
    path, link = tmp_path / "result.json", tmp_path / "link.json"
    path.touch(mode=0o600)
    link.symlink_to(path)
    ResultFile(str(link)).write({"a": 1})
    assert link.is_symlink()
    assert json.loads(path.read_text()) == {"a": 1}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_was_there_stays_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text("before")
    with pytest.raises(ValueError, match="JSON"):
        ResultFile(str(path)).write({"a": float("nan")})
    with pytest.raises(TypeError):
        ResultFile(str(path)).write({"a": object()})
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        file = ResultFile(str(path))
        file.check()
        file.write({"a": 1})
        assert json.loads(os.read(reader, 100)) == {"a": 1}
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(path.stat().st_mode)


@pytest.mark.parametrize("name", ["", "gone/result.json", "file/result.json"])
def test_a_place_where_no_file_can_be_is_found_before_the_work(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="directory"):
        ResultFile(str(tmp_path / name)).check()
