"""Files that are damaged, read-only, copied, held open: an error that says so, or all is as it was."""

import logging
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.jobs._records import End, Ending, NewJob
from engine.jobs._sqlite._store import SQLiteStore
from engine.jobs.errors import CorruptStore, StoreError
from tests.integration.exits import environment
from tests.job_stores import JOB, PATIENCE, claim_all, enqueue, holder, ids_in, opened
from tests.support import eventually

PAGE = 4096
SEED = 20
IMAGES = 30  #: of each kind


def make_files(folder: Path) -> set[int]:
    """Make ``base.db``, closed, and ``live.db`` with its WAL, copied in the middle; return the ids of their jobs."""
    with opened(folder / "base.db") as store:
        holder_id = store.hold(holder(), lambda: None).result(PATIENCE)
        ids = [enqueue_padded(store, number) for number in range(60)]
        run_all(store, holder_id, 5)
        for ending in ("", "-wal"):
            shutil.copy(folder / f"base.db{ending}", folder / f"live.db{ending}")
    return set(ids)


def enqueue_padded(store: SQLiteStore, number: int) -> int:
    job = NewJob(
        queue="q", name=f"task{number % 3}", args='{"pad": "' + "y" * number * 20 + '"}',
        lock="one" if number % 10 == 0 else None, delay=5.0 if number % 7 == 0 else None,
    )  # fmt: skip
    return store.write(lambda book, now: book.enqueue([job], now)[0]).result(PATIENCE)


def run_all(store: SQLiteStore, holder_id: int, limit: int) -> list[int]:
    jobs = claim_all(store, holder_id, limit)
    endings = [Ending(job.id, job.token, End.COMPLETED, result="1") for job in jobs]
    store.write(lambda book, now: book.end(endings, now)).result(PATIENCE)
    return [job.id for job in jobs]


def damage_header(image: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 4)):
        image[rng.randrange(100)] = rng.randrange(256)


def damage_bytes(image: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 10)):
        image[rng.randrange(100, len(image))] = rng.randrange(256)


def damage_page(image: bytearray, rng: random.Random) -> None:
    start = rng.randrange(0, len(image), PAGE)
    image[start : start + PAGE] = rng.randbytes(PAGE)


def damage_sector(image: bytearray, rng: random.Random) -> None:
    start = rng.randrange(0, len(image), 512)
    image[start : start + 512] = bytes(512)


def cut(image: bytearray, rng: random.Random) -> None:
    del image[rng.randrange(len(image)) :]


DAMAGES: list[Callable[[bytearray, random.Random], None]] = [
    damage_header, damage_bytes, damage_page, damage_sector, cut,
]  # fmt: skip


def use(path: Path) -> list[int] | None:
    """Work with a file; return the ids of the jobs that it gave, None if it said that it is damaged."""
    ran: list[int] = []
    try:
        with opened(path) as store:
            holder_id = store.hold(holder(), lambda: None).result(PATIENCE)
            ran = run_all(store, holder_id, 100)
            store.write(enqueue).result(PATIENCE)
            ids_in(store)
            store.read(lambda book, now: book.statistics(now)).result(PATIENCE)
    except StoreError:
        return None
    except (KeyError, ValueError, TypeError):  # a row whose text means nothing
        return None
    return ran


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_says_so_or_works_and_no_job_is_invented(
    tmp_path: Path, damage: Callable[[bytearray, random.Random], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Q6: header, bytes, pages, sectors, truncation; seeded images."""
    known = make_files(tmp_path)
    base = (tmp_path / "base.db").read_bytes()
    rng = random.Random(SEED)
    refused = 0
    for number in range(IMAGES):
        image = bytearray(base)
        damage(image, rng)
        path = tmp_path / f"{number}.db"
        path.write_bytes(image)
        ran = use(path)
        refused += ran is None
        assert set(ran or ()) <= known, number
        assert len(set(ran or ())) == len(ran or ())
    assert refused > 0


def test_a_damaged_wal_is_used_up_to_the_damage(tmp_path: Path) -> None:
    """Q6: bits of the WAL, its length, and a WAL that is junk."""
    known = make_files(tmp_path)
    live, wal = (tmp_path / "live.db").read_bytes(), (tmp_path / "live.db-wal").read_bytes()
    rng = random.Random(SEED)
    for number in range(IMAGES):
        log = bytearray(wal)
        log[rng.randrange(len(log))] ^= 1 << rng.randrange(8)
        if number % 2:
            cut(log, rng)
        if number % 5 == 0:
            log = bytearray(rng.randbytes(rng.randrange(1, 20_000)))
        path = tmp_path / f"{number}.db"
        path.write_bytes(live)
        Path(f"{path}-wal").write_bytes(log)
        ran = use(path)
        assert ran is not None, number  # checksums end the WAL at the damage: what came before is whole
        assert set(ran) <= known


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
    make_files(tmp_path)
    path = tmp_path / "base.db"
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


def test_an_operation_that_meets_damaged_text_leaves_no_statement_in_the_way(tmp_path: Path) -> None:
    """E113: a claim reads its rows back, and the third is no UTF-8: the statement is cut short."""
    path = tmp_path / "jobs.db"
    with opened(path) as store:
        holder_id = store.hold(holder(), lambda: None).result(PATIENCE)
        for _ in range(5):
            store.write(enqueue).result(PATIENCE)
        connection = store.connect()
        connection.execute("UPDATE jobs SET args = CAST(x'7b84ff7d' AS TEXT) WHERE id = 3")
        connection.close()
        for _ in range(2):
            with pytest.raises(CorruptStore, match="sound database"):
                claim_all(store, holder_id)
            store.write(enqueue).result(PATIENCE)
        assert store.query("SELECT count(*) AS n FROM jobs WHERE state = 'pending'").result(PATIENCE) == [{"n": 7}]
