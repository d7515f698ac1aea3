"""A shared object as it is opened where it is needed: a read-only mapping, and the object over it.

The memory holds the raw buffers, each from a page boundary on, then the table of them, then the pickle (design/0010).

Guarantees
    Nothing is shared but that memory, which nobody can write. Callers: any thread of any process.
    A descriptor is opened only where its number leads to that very memory: one that was closed may mean a FIFO by
    now, whose opening would block. It is looked at again once it is open.
"""

import mmap
import os
import pickle
from typing import Any

from ..errors import ShareError

__all__ = ["Identity", "Layout", "attach", "identity_of", "load", "not_open"]

Identity = tuple[int, int, int]  #: device, inode and size of the memory
Layout = tuple[int, int, int]  #: where the table begins, where the pickle begins, and where it ends

_BYTES, _BYTEARRAY = 1, 2  #: as in ``pickling``, which a worker's initializer need not import
_CLOSED = "got one that was closed; keep the Shared, and close it when the tasks that it was given to are done"


def attach(pid: int, fd: int, identity: Identity, layout: Layout) -> Any:
    """Return the object in the memory behind descriptor ``fd`` of process ``pid``. About 50 µs, then as it is touched.

    Raises:
        ShareError: it is closed, or may not be opened here. What the rebuilding of the object raises is passed on.
    """
    return load(_mapped(pid, fd, identity), layout)


def load(memory: Any, layout: Layout) -> Any:
    """Rebuild the object in ``memory``, over read-only views of it; bytes and bytearrays are copied out."""
    table, start, end = layout
    view = memoryview(memory).toreadonly()
    spans = pickle.loads(view[table:start])
    buffers = [_buffer(kind, view[at : at + size]) for kind, at, size in spans]
    return pickle.loads(view[start:end], buffers=buffers)


def identity_of(stat: os.stat_result) -> Identity:
    """Return what tells one memory from another that came to have its descriptor's number."""
    return stat.st_dev, stat.st_ino, stat.st_size


def not_open(reason: str = _CLOSED) -> ShareError:
    """Build the error for a shared object that cannot be had; ``reason`` ends its message."""
    return ShareError(f"expected the shared object to be open, {reason}", reason=reason)


def _mapped(pid: int, fd: int, identity: Identity) -> mmap.mmap:
    path = f"/proc/{pid}/fd/{fd}"
    try:
        if identity_of(os.stat(path)) == identity:
            own = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
            try:
                if identity_of(os.fstat(own)) == identity:
                    return mmap.mmap(own, identity[2], mmap.MAP_SHARED, mmap.PROT_READ)
            finally:
                os.close(own)
    except (FileNotFoundError, ProcessLookupError):
        pass
    except PermissionError as error:
        if _is_dead(pid):  # a zombie, at whose descriptors root alone may look
            raise not_open() from None
        raise not_open(
            f"got {error}; pass the object itself where a process may not look at the descriptors of another"
            " (another user, prctl with PR_SET_DUMPABLE, a sandbox)"
        ) from error
    except OSError as error:
        raise not_open(
            f"got {error}; raise the limit on open files (ulimit -n) or on memory (ulimit -v) where it is used"
        ) from error
    raise not_open()


def _is_dead(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in (b"Z", b"X")
    except OSError as error:
        return not isinstance(error, PermissionError)


def _buffer(kind: int, view: memoryview) -> Any:
    return bytes(view) if kind == _BYTES else bytearray(view) if kind == _BYTEARRAY else view
