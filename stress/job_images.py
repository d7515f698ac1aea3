"""Does a damaged file of jobs ever give a job that nobody enqueued, crash the interpreter, or hang?

    python -m stress job_images [--images N] [--seed S]

Expected: ``ok``, no fault, exit code 0. Each image is a file of jobs (closed, or copied in the middle of work with its
WAL) with one damage: bytes of its header, bytes anywhere, bits, a page of junk, sectors of zeros, sectors that changed
places, a piece cut off, a WAL that was damaged, cut or is junk, no database at all. A store works with it: it claims
what is there, ends it, enqueues, looks. It may say CorruptStore (or, where the header is damaged, that it is somebody
else's file), at any point; but each job that it gives must be exactly one that was enqueued and had not completed (but
for ends in a WAL: a damaged one counts up to the damage).
"""

import json
import os
import random
import select
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from engine.jobs._book import Book
from engine.jobs._moment import Moment
from engine.jobs._records import Claim, Claimed, End, Ending, Filter, NewHolder, NewJob
from engine.jobs._sqlite.store import SQLiteStore
from engine.jobs.errors import CorruptStore, StoreError
from stress._campaign import arguments, carry_out

__all__ = ["DAMAGES", "Damage", "Original", "main", "make_original", "use"]

PAGE = 4096
SECTOR = 512
PATIENCE = 30.0  #: seconds for one answer
BATCH = 50  #: images of one process
HOLDER = NewHolder(name="images", pid=os.getpid(), pid_started=0.0, namespace="", lease=1e6)

Damage = Callable[[bytearray, bytearray, random.Random], None]


@dataclass(frozen=True, slots=True)
class Original:
    """A sound file, before it is damaged."""

    content: bytes
    wal: bytes  #: of the same instant, empty if the file was closed
    jobs: dict[int, NewJob]  #: what may be claimed; of a live file those too whose ends are in the WAL alone


# -- the original


def make_original(folder: Path, *, is_live: bool) -> Original:
    """Make a file with jobs of every kind; take it when it is closed, or in the middle with its WAL."""
    path, copy = folder / "original.db", folder / "copy.db"
    store = SQLiteStore(path)
    try:
        jobs = {store.write(partial(_enqueue, job)).result(PATIENCE): job for job in map(_new_job, range(60))}
        holder_id = store.hold(HOLDER, lambda: None).result(PATIENCE)
        for job in _work(store, holder_id, 8):
            if not is_live:
                del jobs[job.id]
        for ending in ("", "-wal"):
            shutil.copy(f"{path}{ending}", f"{copy}{ending}")
    finally:
        store.close()
    source = copy if is_live else path
    wal = Path(f"{source}-wal")
    original = Original(source.read_bytes(), wal.read_bytes() if wal.exists() else b"", jobs)
    for each in (path, copy, Path(f"{copy}-wal")):
        each.unlink(missing_ok=True)
    return original


def _new_job(number: int) -> NewJob:
    pad = "y" * (number * (400 if number % 20 == 0 else 20))
    return NewJob(
        queue="q", name=f"task{number % 3}", args=json.dumps({"pad": pad}), priority=number % 2,
        lock="one" if number % 10 == 0 else None, delay=5.0 if number % 7 == 0 else None,
        expires_in=1e6 if number % 6 == 0 else None,
        then='[{"task": "after", "args": {}}]' if number % 4 == 0 else None,
    )  # fmt: skip


def _enqueue(job: NewJob, book: Book, now: Moment) -> int:
    return book.enqueue([job], now)[0]


def _work(store: SQLiteStore, holder_id: int, limit: int) -> tuple[Claimed, ...]:
    claim = Claim(holder=holder_id, queues={"q": limit}, limit=limit)
    claimed = store.write(lambda book, now: book.claim(claim, now)).result(PATIENCE).jobs
    endings = [Ending(job.id, job.token, End.COMPLETED, result="1") for job in claimed]
    store.write(lambda book, now: book.end(endings, now)).result(PATIENCE)
    return claimed


# -- damages


def header(content: bytearray, wal: bytearray, rng: random.Random) -> None:
    """Change bytes of the header."""
    for _ in range(rng.randint(1, 4)):
        content[rng.randrange(100)] = rng.randrange(256)


def some_bytes(content: bytearray, wal: bytearray, rng: random.Random) -> None:
    """Change bytes behind the header."""
    for _ in range(rng.randint(1, 10)):
        content[rng.randrange(100, len(content))] = rng.randrange(256)


def bits(content: bytearray, wal: bytearray, rng: random.Random) -> None:
    """Turn bits over, all in one page."""
    start = rng.randrange(0, len(content), PAGE)
    for _ in range(rng.randint(1, 40)):
        content[rng.randrange(start, min(start + PAGE, len(content)))] ^= 1 << rng.randrange(8)


def page(content: bytearray, wal: bytearray, rng: random.Random) -> None:
    """Put junk in the place of a page."""
    start = rng.randrange(0, len(content), PAGE)
    content[start : start + PAGE] = rng.randbytes(PAGE)


def zeros(content: bytearray, wal: bytearray, rng: random.Random) -> None:
    """Put zeros in the place of sectors."""
    for _ in range(rng.randint(1, 3)):
        start = rng.randrange(0, len(content), SECTOR)
        content[start : start + SECTOR] = bytes(SECTOR)


def misplaced(content: bytearray, wal: bytearray, rng: random.Random) -> None:
    """Write a sector or a page where another belongs."""
    size = rng.choice((SECTOR, PAGE))
    source, target = (rng.randrange(0, len(content), size) for _ in range(2))
    content[target : target + size] = content[source : source + size]


def cut(content: bytearray, wal: bytearray, rng: random.Random) -> None:
    """Cut the file."""
    del content[rng.randrange(len(content)) :]


def log(content: bytearray, wal: bytearray, rng: random.Random) -> None:
    """Damage the WAL: bits, its length, or all of it."""
    if not wal:
        wal.extend(rng.randbytes(rng.randrange(1, 20_000)))
    for _ in range(rng.randint(1, 5)):
        wal[rng.randrange(len(wal))] ^= 1 << rng.randrange(8)
    if rng.randrange(2):
        del wal[rng.randrange(len(wal)) :]


def none(content: bytearray, wal: bytearray, rng: random.Random) -> None:
    """Have no database: nothing, text, junk."""
    content[:] = rng.choice((b"", b"SQLite format 3\0", b"jobs\n" * 1000, rng.randbytes(20_000)))


DAMAGES: tuple[Damage, ...] = (header, some_bytes, bits, page, zeros, misplaced, cut, log, none)


# -- one image


def use(path: Path, jobs: dict[int, NewJob]) -> tuple[str, list[str]]:
    """Work with a file; return how it went ("intact", or the error that says so) and the faults."""
    ran: list[Claimed] = []
    try:
        store = SQLiteStore(path)
        try:
            holder_id = store.hold(HOLDER, lambda: None).result(PATIENCE)
            for _ in range(3):
                ran += _work(store, holder_id, 40)
            store.write(partial(_enqueue, _new_job(1))).result(PATIENCE)
            store.read(lambda book, now: book.find(Filter(limit=1000))).result(PATIENCE)
            store.read(lambda book, now: book.statistics(now)).result(PATIENCE)
        finally:
            store.close()
    except CorruptStore:
        return "CorruptStore", _invented(ran, jobs)
    except StoreError as error:
        return type(error).__name__, _invented(ran, jobs)
    except Exception as error:
        return "error", [f"{type(error).__name__}: {error}", *_invented(ran, jobs)]
    return "intact", _invented(ran, jobs)


def _invented(ran: list[Claimed], jobs: dict[int, NewJob]) -> list[str]:
    faults = [f"job {job.id} twice" for job, times in Counter(ran).items() if times > 1]
    for job in ran:
        known = jobs.get(job.id)
        if known is None:
            faults.append(f"job {job.id} had completed, or never was")
        elif (job.queue, job.name, job.args, job.lock, job.then) != (
            known.queue, known.name, known.args, known.lock, known.then,
        ):  # fmt: skip
            faults.append(f"job {job.id} is another one: {str(job)[:500]}")
    return faults


def write_image(path: Path, original: Original, damage: Damage, rng: random.Random) -> None:
    """Write a damaged copy of ``original``."""
    content, wal = bytearray(original.content), bytearray(original.wal)
    damage(content, wal, rng)
    path.write_bytes(content)
    if wal:
        Path(f"{path}-wal").write_bytes(wal)


# -- many


def use_batch(folder: Path, originals: list[Original], numbers: range, seed: int) -> dict[str, Any]:
    """Use images in a process of their own; return how each went, and the faults by image."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            for number in numbers:
                os.write(writing, json.dumps([number, *_use_one(folder, originals, number, seed)]).encode() + b"\n")
        finally:
            os._exit(0)
    os.close(writing)
    lines = _read_all(reading, pid)
    _, status = os.waitpid(pid, 0)
    faults = {number: wrong for number, _, _, wrong in lines if wrong}
    if len(lines) < len(numbers):  # it ended in the middle, or had to be ended
        faults[numbers[len(lines)]] = [f"the process ended: {os.waitstatus_to_exitcode(status)}"]
    return {"went": Counter(f"{damage}: {how}" for _, damage, how, _ in lines), "faults": faults}


def _use_one(folder: Path, originals: list[Original], number: int, seed: int) -> tuple[str, str, list[str]]:
    rng = random.Random(f"{seed} {number}")
    damage, original = DAMAGES[number % len(DAMAGES)], originals[number // len(DAMAGES) % len(originals)]
    path = folder / f"{number}.db"
    write_image(path, original, damage, rng)
    how, faults = use(path, original.jobs)
    for ending in ("", "-wal", "-shm", "-journal"):
        Path(f"{path}{ending}").unlink(missing_ok=True)
    return damage.__name__, how, [fault[:600] for fault in faults[:3]]


def _read_all(fd: int, pid: int) -> list[Any]:
    """Return the lines of a pipe up to its end; end who writes it if nothing comes for long."""
    text = b""
    with os.fdopen(fd, "rb", buffering=0) as pipe:
        while True:
            if not select.select([pipe], [], [], 5 * PATIENCE)[0]:
                os.kill(pid, signal.SIGKILL)
            if not (piece := pipe.read(1 << 16)):
                return [json.loads(line) for line in text.splitlines()]
            text += piece


def run(images: int, seed: int, folder: Path) -> dict[str, Any]:
    """Use so many images; return what is to be printed."""
    began = last = time.monotonic()
    originals = [make_original(folder, is_live=is_live) for is_live in (False, True)]
    went: Counter[str] = Counter()
    faults: dict[int, list[str]] = {}
    for start in range(0, images, BATCH):
        batch = use_batch(folder, originals, range(start, min(start + BATCH, images)), seed)
        went.update(batch["went"])
        faults.update(batch["faults"])
        if time.monotonic() - last > 10:
            last = time.monotonic()
            print(f"{start + BATCH} images, {len(faults)} faults", file=sys.__stderr__, flush=True)
    return {
        "ok": not faults, "images": images, "faults": dict(list(faults.items())[:5]),
        "went": dict(sorted(went.items())), "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip


def main(argv: list[str]) -> int:
    """Run the script; return 0 if no damage led to a job that nobody had enqueued, a crash or a hang."""
    parser = arguments("job_images", __doc__)
    parser.add_argument("--images", type=int, default=10_000, help="damaged files (default: 10000)")
    options = parser.parse_args(argv)
    return carry_out(
        "job_images", options.seed, lambda folder: run(options.images, options.seed, Path(folder)),
        counts="images", noun="images",
    )  # fmt: skip
