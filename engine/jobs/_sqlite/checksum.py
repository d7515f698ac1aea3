"""The checksum of a row: of what decides what runs, which nobody changes once it is enqueued.

A page of SQLite has none. So a byte that changes within a text would give another job, and no error.
"""

from __future__ import annotations

import zlib

from .._records import NewJob

__all__ = ["NEVER", "begin", "begin_of", "goes_on"]

NEVER = -1  #: what a row has that was found damaged; no texts have it


def begin(queue: bytes, name: bytes, lock: bytes | None, then: bytes | None) -> int:
    """Return the checksum of all but the arguments."""
    return zlib.crc32(b"\0".join((queue, name, lock or b"", then or b"", b"")))


def begin_of(job: NewJob) -> int:
    """Return the same of a job that is enqueued."""
    lock = None if job.lock is None else job.lock.encode()
    then = None if job.then is None else job.then.encode()
    return begin(job.queue.encode(), job.name.encode(), lock, then)


#: ``goes_on(args, begun)``: the whole checksum.
goes_on = zlib.crc32
