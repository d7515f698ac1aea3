"""The file of a store: private, ours, a file, and nothing else is made or followed."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.jobs.errors import CorruptStore, StoreError
from tests.job_stores import PATIENCE, enqueue, ids_in, opened

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o000, 0o022, 0o777], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_all_three_files_are_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    """X13: umask 0, or one that takes everything."""
    with opened(tmp_path / "jobs.db") as store:
        store.write(enqueue).result(PATIENCE)
        names = sorted(path.name for path in tmp_path.iterdir())
        assert names == ["jobs.db", "jobs.db-shm", "jobs.db-wal"]  # and no temporary file
        assert {mode_of(path) for path in tmp_path.iterdir()} == {0o600}


def test_a_directory_is_made_when_asked_and_private(tmp_path: Path) -> None:
    """X13: no directory is made in passing."""
    path = tmp_path / "new" / "jobs.db"
    with opened(path) as store, pytest.raises(StoreError, match=r"expected the directory .*new to exist.*make_dir"):
        store.open()
    before = os.umask(0)
    try:
        with opened(path, make_directory=True) as store:
            store.open()
    finally:
        os.umask(before)
    assert mode_of(path.parent) == 0o700


def test_an_empty_file_becomes_private(tmp_path: Path) -> None:
    """X13: made by touch, with room for everybody."""
    path = tmp_path / "jobs.db"
    path.touch(0o666)
    path.chmod(0o666)
    with opened(path) as store:
        store.write(enqueue).result(PATIENCE)
        assert {mode_of(path) for path in tmp_path.iterdir()} == {0o600}


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((tmp_path, "a directory"), (tmp_path / "pipe", "something else")):
        with opened(path) as store, pytest.raises(StoreError, match=f"to be a file, got {kind}"):
            store.open()


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    """Q6: not a database."""
    path = tmp_path / "notes.txt"
    path.write_text("dear diary " * 500)
    with opened(path) as store, pytest.raises(CorruptStore, match=r"notes\.txt to be a file of jobs, got: "):
        store.open()
    assert path.read_text() == "dear diary " * 500


def test_a_link_of_ours_is_followed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "jobs.db").symlink_to(tmp_path / "data" / "real.db")
    with opened(tmp_path / "jobs.db") as store, opened(tmp_path / "data" / "real.db") as other:
        job_id = store.write(enqueue).result(PATIENCE)
        assert ids_in(other) == [job_id]


@needs_root
def test_a_link_that_another_user_made_is_refused(tmp_path: Path) -> None:
    """X13: a link that waits in a shared directory would lead to any file of ours."""
    (tmp_path / "jobs.db").symlink_to(tmp_path / "target.db")
    os.lchown(tmp_path / "jobs.db", 12345, 12345)
    with opened(tmp_path / "jobs.db") as store, pytest.raises(StoreError, match="got a link of uid 12345"):
        store.open()
    assert not (tmp_path / "target.db").exists()


@needs_root
def test_a_file_of_another_user_is_taken_only_where_that_is_said(tmp_path: Path) -> None:
    """X13: a file that waits in a shared directory may hold any jobs."""
    path = tmp_path / "jobs.db"
    with opened(path) as store:
        store.write(enqueue).result(PATIENCE)
    os.chown(path, 12345, 12345)
    with opened(path) as store, pytest.raises(StoreError, match="got a file of uid 12345, who may have written"):
        store.open()
    with opened(path, any_owner=True) as store:
        assert len(ids_in(store)) == 1


def test_importing_jobs_without_apsw_works_and_the_store_names_the_extra(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['apsw'] = None; import engine.jobs\n"
        "try: import engine.jobs._sqlite.store\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert "pip install 'hybrid-engine[jobs]'" in done.stdout, done.stderr
