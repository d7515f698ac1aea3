"""The power fails: files as they may be found after it, made of what was written and synchronised until then."""

import itertools
import random
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import apsw
import pytest

from engine.jobs._sqlite import _checkpoints
from engine.jobs._sqlite._store import SQLiteStore
from tests.job_stores import PATIENCE, enqueue, ids_in, opened

IMAGES = 25
SEED = 11
SECTOR = 512  #: what a disk writes whole
RECORDED = apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL


@dataclass(frozen=True, slots=True)
class Step:
    """What happened to one file, or (``acknowledged``) to a caller."""

    what: str
    name: str = ""
    at: int = 0
    data: bytes = b""
    job_id: int = 0


class RecordedFile(apsw.VFSFile):
    """A real file; what is written to it is noted."""

    def __init__(self, name: str | apsw.URIFilename | None, flags: list[int], log: list[Step]) -> None:
        super().__init__("", name, flags)
        path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        self._name = Path(path).name
        self._log = log if flags[0] & RECORDED else []

    def xWrite(self, data: bytes, offset: int) -> None:
        super().xWrite(data, offset)
        self._log.append(Step("write", self._name, offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:
        super().xTruncate(newsize)
        self._log.append(Step("cut", self._name, newsize))

    def xSync(self, flags: int) -> None:
        super().xSync(flags)
        self._log.append(Step("sync", self._name))


class Recording(apsw.VFS):
    """The system's files, recorded."""

    def __init__(self, name: str, log: list[Step]) -> None:
        super().__init__(name, base="")
        self._log = log

    def xDelete(self, filename: str, syncdir: bool) -> None:
        super().xDelete(filename, syncdir)
        self._log.append(Step("delete", Path(filename).name))

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return RecordedFile(name, flags, self._log)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Step]]:
    """Record the files of the file system "recording"."""
    monkeypatch.setattr(_checkpoints, "PAGES", 15)  # so that many checkpoints come in between
    steps: list[Step] = []
    vfs = Recording("recording", steps)
    yield steps
    vfs.unregister()


def work(path: Path, synchronous: str, log: list[Step]) -> list[Step]:
    """Have four threads enqueue; return what was done until the last answer."""
    with opened(path, synchronous=synchronous, vfs="recording") as store:
        store.open()
        threads = [threading.Thread(target=enqueue_some, args=(store, log)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return list(log)


def enqueue_some(store: SQLiteStore, log: list[Step]) -> None:
    for _ in range(40):
        log.append(Step("acknowledged", job_id=store.write(enqueue).result(PATIENCE)))


def files_after(steps: list[Step], rng: random.Random) -> dict[str, bytearray]:
    """Return the files as they may be found: of what was not synchronised, any part is there, or half of it."""
    files: dict[str, bytearray] = defaultdict(bytearray)
    pending: dict[str, list[Step]] = defaultdict(list)
    for step in steps:
        if step.what == "sync":
            for each in pending.pop(step.name, []):
                apply(files[step.name], each, each.data)
        elif step.what == "delete":  # of the journal with which the file was made, long before the failure
            files.pop(step.name, None)
            pending.pop(step.name, None)
        elif step.what != "acknowledged":
            pending[step.name].append(step)
    for name, each in itertools.chain.from_iterable([(name, each) for each in some] for name, some in pending.items()):
        fate = rng.choice(["written", "lost", "torn"])
        if fate != "lost":
            kept = each.data if fate == "written" else each.data[: rng.randrange(0, len(each.data) + 1, SECTOR)]
            apply(files[name], each, kept)
    return files


def apply(content: bytearray, step: Step, data: bytes) -> None:
    if step.what == "cut":
        del content[step.at :]
        return
    if not data:
        return
    content.extend(bytes(max(0, step.at - len(content))))
    content[step.at : step.at + len(data)] = data


@pytest.mark.parametrize("synchronous", ["full", "normal"])
def test_what_was_acknowledged_survives_a_power_failure(tmp_path: Path, synchronous: str, log: list[Step]) -> None:
    """Q3: seeded instants; with FULL all that was acknowledged is there, with NORMAL a whole beginning of it."""
    steps = work(tmp_path / "jobs.db", synchronous, log)
    assert any(step.what == "write" and step.name == "jobs.db-wal" for step in steps)
    rng = random.Random(SEED)
    first = next(index for index, step in enumerate(steps) if step.what == "acknowledged")
    assert any(step.what == "write" and step.name == "jobs.db" for step in steps[first:])  # a checkpoint
    missing = 0
    for number in range(IMAGES):
        until = rng.randrange(first, len(steps))
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, content in files_after(steps[:until], rng).items():
            (folder / name).write_bytes(content)
        acknowledged = {step.job_id for step in steps[:until] if step.what == "acknowledged"}
        with opened(folder / "jobs.db") as store:
            found = ids_in(store)
            assert store.query("PRAGMA integrity_check").result(PATIENCE) == [{"integrity_check": "ok"}], number
        assert found == list(range(1, len(found) + 1)), number
        missing += len(acknowledged - set(found))
    assert missing == 0 if synchronous == "full" else missing > 0, missing
