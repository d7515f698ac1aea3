"""Files that are damaged, read-only, copied, held open: an error that says so, or all is as it was."""

import logging
import os
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from engine import TaskState
from engine.jobs._records import End, Ending, Filter
from engine.jobs._sqlite.store import SQLiteStore
from engine.jobs.errors import CorruptStore
from stress import job_images
from tests.integration.exits import environment
from tests.job_stores import JOB, PATIENCE, claim_all, enqueue, holder, ids_in, opened
from tests.support import eventually

SEED = 20
IMAGES = 8  #: of each kind; ``python -m stress job_images`` has more


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> list[job_images.Original]:
    """Make a file that was closed, and one that was copied in the middle with its WAL."""
    folder = tmp_path_factory.mktemp("originals")
    return [job_images.make_original(folder, is_live=is_live) for is_live in (False, True)]


@pytest.mark.parametrize("damage", job_images.DAMAGES)
def test_a_damaged_file_says_so_or_works_and_no_job_is_another_than_was_enqueued(
    tmp_path: Path, originals: list[job_images.Original], damage: job_images.Damage
) -> None:
    """Q6, E141: seeded images; each job that is claimed is exactly one that waited, whatever else is said."""
    for number in range(IMAGES):
        original = originals[number % 2]
        path = tmp_path / f"{number}.db"
        job_images.write_image(path, original, damage, random.Random(f"{SEED} {damage.__name__} {number}"))
        how, faults = job_images.use(path, original.jobs)
        assert faults == [], (number, how)


def test_a_sound_file_is_found_intact_and_a_job_that_changed_is_found(
    tmp_path: Path, originals: list[job_images.Original], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Q6: who looks is looked at. Without the checksum a byte in the arguments gives another job."""
    original = originals[0]
    job_images.write_image(tmp_path / "sound.db", original, lambda *_: None, random.Random(SEED))
    assert job_images.use(tmp_path / "sound.db", original.jobs) == ("intact", [])
    monkeypatch.setattr("engine.jobs._sqlite.candidates._is_whole", lambda row: True)
    job_images.write_image(tmp_path / "other.db", original, in_the_arguments, random.Random(SEED))
    how, faults = job_images.use(tmp_path / "other.db", original.jobs)
    assert how == "intact"
    assert [fault for fault in faults if "is another one" in fault] == faults != []


def in_the_arguments(content: bytearray, wal: bytearray, rng: random.Random) -> None:
    content[:] = content.replace(b'{"pad": "yyyy', b'{"pad": "yyzy')


@pytest.mark.parametrize("with_wal", [True, False], ids=["with its WAL", "without"])
def test_a_copy_of_a_live_file_is_whole_or_refused(tmp_path: Path, with_wal: bool) -> None:
    """Q15: somebody copies the file while it is used."""
    path, copy = tmp_path / "jobs.db", tmp_path / "copy.db"
    with opened(path) as store:
        ids = [store.write(enqueue).result(PATIENCE) for _ in range(300)]
        for ending in ("", "-wal") if with_wal else ("",):
            shutil.copy(f"{path}{ending}", f"{copy}{ending}")
        store.write(enqueue).result(PATIENCE)
    with opened(copy) as store:
        found = ids_in(store)
        assert found == ids if with_wal else found == ids[: len(found)]
        assert store.query("PRAGMA integrity_check").result(PATIENCE) == [{"integrity_check": "ok"}]
        store.write(enqueue).result(PATIENCE)


def test_damage_that_is_met_while_the_store_is_open_is_an_error_each_time(tmp_path: Path) -> None:
    """Q6: pages go bad under an open store; its threads live."""
    path = tmp_path / "jobs.db"
    with opened(path) as store:
        store.write(lambda book, now: book.enqueue_many(JOB, ["{}"] * 500, now)).result(PATIENCE)
    with opened(path) as store:
        store.open()
        size = path.stat().st_size
        os.truncate(path, size // 2)  # not opened here: a close would drop the locks
        for _ in range(3):
            with pytest.raises(CorruptStore, match="sound database"):
                ids_in(store)


READ_ONLY = """
import os, sys
from pathlib import Path
from engine.jobs.errors import StoreError
from tests.job_stores import PATIENCE, enqueue, holder, opened

holder()  # this user's Python may not be readable for another: whatever is imported late is imported here
os.seteuid(12345)
path = Path(sys.argv[1])
try:
    with opened(path) as store:
        store.write(enqueue).result(PATIENCE)
except StoreError as error:
    print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(("file_mode", "folder_mode"), [(0o444, 0o777), (0o666, 0o555), (0o000, 0o777), (0o444, 0o555)])
def test_what_may_not_be_written_is_one_clear_error(tmp_path: Path, file_mode: int, folder_mode: int) -> None:
    """Q5: a file or directory that this user may not write, at the first use."""
    folder = tmp_path / "data"
    folder.mkdir()
    path = folder / "jobs.db"
    with opened(path) as store:
        store.write(enqueue).result(PATIENCE)
    os.chown(path, 12345, 12345)
    path.chmod(file_mode)
    folder.chmod(folder_mode)
    for parent in [tmp_path, *tmp_path.parents][:3]:
        parent.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", READ_ONLY, str(path)], env=environment("store"), capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout.startswith(f"expected {path} "), done.stdout + done.stderr
    assert "permission" in done.stdout
    assert done.stdout.count("\n") == 1


def test_a_reader_that_holds_a_snapshot_stops_nobody_and_the_log_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Q9: a read transaction is left open; the WAL grows past its bound, and is cut back afterwards."""
    path = tmp_path / "jobs.db"
    wal = tmp_path / "jobs.db-wal"
    args = ['{"a": "' + "x" * 2000 + '"}'] * 1000

    def grow(store: SQLiteStore, until_bytes: int) -> None:
        while wal.stat().st_size < until_bytes:
            store.write(lambda book, now: book.enqueue_many(JOB, args, now)).result(PATIENCE)

    with (
        opened(path, warn_bytes=8 << 20, synchronous="normal") as store,
        caplog.at_level(logging.WARNING, "engine.jobs"),
    ):
        store.write(enqueue).result(PATIENCE)
        reader = store.connect()
        reader.execute("BEGIN DEFERRED")
        before = reader.execute("SELECT count(*) FROM jobs").get
        grow(store, 20 << 20)
        assert reader.execute("SELECT count(*) FROM jobs").get == before
        said = [record for record in caplog.records if "keeps a read transaction open" in record.message]
        assert len(said) == 1
        reader.execute("COMMIT")
        reader.close()
        store.listen(lambda: None)
        eventually(lambda: "could be copied again" in caplog.text)
        store.write(enqueue).result(PATIENCE)
        assert wal.stat().st_size <= 8 << 20


def change(store: SQLiteStore, what: str) -> None:
    """Change rows behind the back of the store."""
    connection = store.connect()
    connection.execute(f"UPDATE jobs SET {what}")
    connection.close()


def test_an_operation_that_meets_damaged_text_leaves_no_statement_in_the_way(tmp_path: Path) -> None:
    """E113: a look inside a write reads rows, and the third is no UTF-8: the statement is cut short."""
    with opened(tmp_path / "jobs.db") as store:
        for _ in range(5):
            store.write(enqueue).result(PATIENCE)
        change(store, "args = CAST(x'7b84ff7d' AS TEXT) WHERE id = 3")
        for _ in range(2):
            with pytest.raises(CorruptStore, match="as they were written"):
                store.write(lambda book, now: book.find(Filter())).result(PATIENCE)
            store.write(enqueue).result(PATIENCE)
        assert store.query("SELECT count(*) AS n FROM jobs WHERE state = 'pending'").result(PATIENCE) == [{"n": 7}]


@pytest.mark.parametrize(
    "what",
    [
        "args = '{\"a\": 2}'", "name = 'jobs'", "name = CAST(x'ff' AS TEXT)", "args = CAST(x'7b84ff7d' AS TEXT)",
        "lock = 'other'", "follow_ups = '[]'", "checksum = checksum + 1", "token = 1000000000000000000", "attempt = -1",
        "state = 'pendinh'",
    ],
)  # fmt: skip
def test_a_job_that_is_not_as_it_was_enqueued_fails_without_a_run_and_the_others_go_on(
    tmp_path: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """E141: the reason is in its history and once in the log; enqueued again it does not run either."""
    with opened(tmp_path / "jobs.db") as store, caplog.at_level(logging.ERROR, "engine.jobs"):
        holder_id = store.hold(holder(), lambda: None).result(PATIENCE)
        ids = [store.write(enqueue).result(PATIENCE) for _ in range(5)]
        change(store, f"{what} WHERE id = {ids[2]}")
        assert [job.id for job in claim_all(store, holder_id)] == ids[:2] + ids[3:]
        (failed,) = store.read(lambda book, now: book.find(Filter(states=(TaskState.FAILED,)))).result(PATIENCE)
        (failure,) = store.read(lambda book, now: book.failures(ids[2])).result(PATIENCE)
        assert (failed.id, failure.kind) == (ids[2], "damaged")
        assert failure.error == failed.error
        assert str(failure.error).startswith("CorruptStore: expected the rows of ")
        assert [record.message for record in caplog.records if f"FAILED without a run: {ids[2]};" in record.message]
        assert len(caplog.records) == 1
        assert store.write(lambda book, now: book.requeue(ids[2], now)).result(PATIENCE)
        assert claim_all(store, holder_id) == ()


def test_who_waited_behind_the_lock_of_a_damaged_job_has_its_turn(tmp_path: Path) -> None:
    """E141: which lock that was nobody knows any more."""
    with opened(tmp_path / "jobs.db") as store:
        holder_id = store.hold(holder(), lambda: None).result(PATIENCE)
        job = replace(JOB, lock="one")
        ids = store.write(lambda book, now: book.enqueue([job] * 3, now)).result(PATIENCE)
        (first,) = claim_all(store, holder_id)
        store.write(lambda book, now: book.end([Ending(first.id, first.token, End.COMPLETED)], now)).result(PATIENCE)
        change(store, f"lock = 'onf' WHERE id = {ids[1]}")
        ran = [job.id for _ in range(2) for job in claim_all(store, holder_id)]
        assert ran == [ids[2]]


def test_a_job_in_the_place_of_another_in_an_index_is_damage(tmp_path: Path) -> None:
    """E142: an index says that a job is ready that has completed; it does not run again."""
    path = tmp_path / "jobs.db"
    with opened(path) as store:
        holder_id = store.hold(holder(), lambda: None).result(PATIENCE)
        store.write(enqueue).result(PATIENCE)
        (first,) = claim_all(store, holder_id)
        store.write(lambda book, now: book.end([Ending(first.id, first.token, End.COMPLETED)], now)).result(PATIENCE)
        store.write(enqueue).result(PATIENCE)
    connection = apsw.Connection(str(path))
    root = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'jobs_ready'").get
    connection.close()
    image = bytearray(path.read_bytes())
    entry = image.index(b"q\x02", (root - 1) * 4096, root * 4096)  # the queue; a priority of 0 takes no byte; the id
    image[entry + 1] = 1
    path.write_bytes(image)
    with opened(path) as store:
        holder_id = store.hold(holder(), lambda: None).result(PATIENCE)
        with pytest.raises(CorruptStore):
            claim_all(store, holder_id)


def test_a_damaged_holder_stops_no_thread_of_the_store(tmp_path: Path) -> None:
    """E143: the look for holders that are gone meets a row that is nobody's."""
    with opened(tmp_path / "jobs.db") as store:
        store.hold(holder(), lambda: None).result(PATIENCE)
        other = store.hold(holder(), lambda: None).result(PATIENCE)
        connection = store.connect()
        connection.execute("UPDATE holders SET name = CAST(x'ff' AS TEXT) WHERE id = ?", (other,))
        connection.close()
        with pytest.raises(CorruptStore, match="as they were written"):
            store.read(lambda book, now: book.statistics(now)).result(PATIENCE)
        with pytest.raises(CorruptStore, match="as they were written"):
            store.write(lambda book, now: book.rescue(now, lambda each: False)).result(PATIENCE)
        looks = []
        store.listen(lambda: looks.append(1))
        store.write(enqueue).result(PATIENCE)
        eventually(lambda: looks)
        assert store.write(enqueue).result(PATIENCE) == 2
