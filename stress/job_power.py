"""Is every acknowledged job there after a power failure at any instant, whatever part of the last writes is?

    python -m stress job_power [--images N] [--seed S]

Expected: ``ok``, no fault, exit code 0. Four threads enqueue; each write, truncation and synchronisation of the files
is noted. An image is what the disk may hold when the power fails at one instant: all that was synchronised, and of the
rest any part, whole or torn at a sector. Opened, it must be whole; with ``synchronous="full"`` it must have every job
that was acknowledged, with "normal" all of them up to some instant (``missing`` counts those that went).
"""

import contextlib
import itertools
import random
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from engine.jobs._records import Filter, NewJob
from engine.jobs._sqlite import checkpoints as _checkpoints
from engine.jobs._sqlite.store import SQLiteStore
from stress._campaign import arguments, carry_out

__all__ = ["Step", "check_image", "files_after", "main", "recording", "work"]

PATIENCE = 30.0
RUN = 100  #: images of one row of steps
VFS = "recording"
JOB = NewJob(queue="q", name="job", args="{}")
SECTOR = 512  #: what a disk writes whole
_RECORDED = apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL


@dataclass(frozen=True, slots=True)
class Step:
    """What happened to one file, or (``acknowledged``) to a caller."""

    what: str
    name: str = ""
    at: int = 0
    data: bytes = b""
    job_id: int = 0


class _RecordedFile(apsw.VFSFile):
    """A real file; what is written to it is noted."""

    def __init__(self, name: str | apsw.URIFilename | None, flags: list[int], log: list[Step]) -> None:
        super().__init__("", name, flags)
        path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        self._name = Path(path).name
        self._log = log if flags[0] & _RECORDED else []

    def xWrite(self, data: bytes, offset: int) -> None:
        super().xWrite(data, offset)
        self._log.append(Step("write", self._name, offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:
        super().xTruncate(newsize)
        self._log.append(Step("cut", self._name, newsize))

    def xSync(self, flags: int) -> None:
        super().xSync(flags)
        self._log.append(Step("sync", self._name))


class _Recording(apsw.VFS):
    """The system's files, recorded."""

    def __init__(self, name: str, log: list[Step]) -> None:
        super().__init__(name, base="")
        self._log = log

    def xDelete(self, filename: str, syncdir: bool) -> None:
        super().xDelete(filename, syncdir)
        self._log.append(Step("delete", Path(filename).name))

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return _RecordedFile(name, flags, self._log)


@contextlib.contextmanager
def recording() -> Iterator[list[Step]]:
    """Note in a list what is done to the files of ``VFS``; many checkpoints come in between."""
    pages, _checkpoints.PAGES = _checkpoints.PAGES, 15
    steps: list[Step] = []
    vfs = _Recording(VFS, steps)
    try:
        yield steps
    finally:
        vfs.unregister()
        _checkpoints.PAGES = pages


def work(path: Path, synchronous: str, log: list[Step]) -> list[Step]:
    """Have four threads enqueue; return what was done until the last answer."""
    store = SQLiteStore(path, synchronous, vfs=VFS)
    try:
        store.open()
        threads = [threading.Thread(target=_enqueue_some, args=(store, log)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return list(log)
    finally:
        store.close()


def _enqueue_some(store: SQLiteStore, log: list[Step]) -> None:
    for _ in range(40):
        added = store.write(lambda book, now: book.enqueue([JOB], now)[0])
        log.append(Step("acknowledged", job_id=added.result(PATIENCE)))


def files_after(steps: list[Step], rng: random.Random) -> dict[str, bytearray]:
    """Return the files as they may be found: of what was not synchronised, any part is there, or half of it."""
    files: dict[str, bytearray] = defaultdict(bytearray)
    pending: dict[str, list[Step]] = defaultdict(list)
    for step in steps:
        if step.what == "sync":
            for each in pending.pop(step.name, []):
                _apply(files[step.name], each, each.data)
        elif step.what == "delete":  # of the journal with which the file was made, long before the failure
            files.pop(step.name, None)
            pending.pop(step.name, None)
        elif step.what != "acknowledged":
            pending[step.name].append(step)
    for name, each in itertools.chain.from_iterable([(name, each) for each in some] for name, some in pending.items()):
        fate = rng.choice(["written", "lost", "torn"])
        if fate != "lost":
            kept = each.data if fate == "written" else each.data[: rng.randrange(0, len(each.data) + 1, SECTOR)]
            _apply(files[name], each, kept)
    return files


def _apply(content: bytearray, step: Step, data: bytes) -> None:
    if step.what == "cut":
        del content[step.at :]
        return
    if not data:
        return
    content.extend(bytes(max(0, step.at - len(content))))
    content[step.at : step.at + len(data)] = data


def check_image(folder: Path, steps: list[Step], rng: random.Random) -> tuple[list[str], int]:
    """Look at the files after a failure behind ``steps``; return the faults, and how many acknowledged jobs went."""
    for name, content in files_after(steps, rng).items():
        (folder / name).write_bytes(content)
    acknowledged = {step.job_id for step in steps if step.what == "acknowledged"}
    store = SQLiteStore(folder / "jobs.db")
    try:
        jobs = store.read(lambda book, now: book.find(Filter(limit=1000, oldest_first=True))).result(PATIENCE)
        (check,) = store.query("PRAGMA integrity_check").result(PATIENCE)
    finally:
        store.close()
    found = [job.id for job in jobs]
    faults = [] if check == {"integrity_check": "ok"} else [str(check)]
    if found != list(range(1, len(found) + 1)):
        faults.append(f"jobs with gaps between them: {found}")
    return faults, len(acknowledged - set(found))


def run(images: int, seed: int, folder: Path) -> dict[str, Any]:
    """Make so many images of each kind; return what is to be printed."""
    began = time.monotonic()
    faults: dict[str, list[str]] = {}
    missing = {"full": 0, "normal": 0}
    for start in range(0, images, RUN):
        synchronous = ("full", "normal")[start // RUN % 2]
        (folder / str(start)).mkdir()
        with recording() as log:
            steps = work(folder / str(start) / "jobs.db", synchronous, log)
        first = next(index for index, step in enumerate(steps) if step.what == "acknowledged")
        for number in range(start, min(start + RUN, images)):
            rng = random.Random(f"{seed} {number}")
            with tempfile.TemporaryDirectory(dir=folder) as image:
                wrong, went = check_image(Path(image), steps[: rng.randrange(first, len(steps))], rng)
            missing[synchronous] += went
            if wrong or (went and synchronous == "full"):
                faults[str(number)] = [*wrong, f"{went} acknowledged jobs are missing"]
    return {
        "ok": not faults, "images": images, "faults": dict(list(faults.items())[:5]), "missing": missing,
        "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip


def main(argv: list[str]) -> int:
    """Run the script; return 0 if nothing that was acknowledged was lost, but for the end with "normal"."""
    parser = arguments("job_power", __doc__)
    parser.add_argument("--images", type=int, default=5000, help="power failures (default: 5000)")
    options = parser.parse_args(argv)
    return carry_out(
        "job_power", options.seed, lambda folder: run(options.images, options.seed, Path(folder)),
        counts="images", noun="power failures",
    )  # fmt: skip
