"""How an object gets into shared memory: pickled once, its buffers written where they stay.

Guarantees
    Callers: any thread; nothing is kept here. The memory is sealed before anybody else can see it.
    A Shared owns its descriptor from the moment that it is open, so an exception at any point leaves none behind.
"""

from __future__ import annotations

import errno
import mmap
import os
import pickle
from typing import Any, NamedTuple, TypeVar

from . import _checks, _shared
from ._records import named
from ._shared import Shared
from ._system import fill_standard_descriptors
from ._wire.attach import Layout, identity_of
from ._wire.pickling import Packed, Packer, lift
from .errors import PayloadTooLarge, PickleError, ShareError

__all__ = ["share"]

T = TypeVar("T")

_PIECE_BYTES = 16 << 20  #: written at once: a signal waits 6 ms at most
_NO_MEMFD = (errno.ENOSYS, errno.EPERM, errno.EACCES)  #: an old kernel, a sandbox


class _Plan(NamedTuple):
    pieces: list[tuple[int, Any]]  #: where each goes, and its bytes
    layout: Layout


def share(obj: T, sizes: dict[object, int]) -> Shared[T]:
    """Put ``obj`` into shared memory; note its size in ``sizes`` while it is open. See ``Engine.share``."""
    if type(obj) is Shared:
        raise _checks.wrong("the object to share", "an object", obj, "give the Shared that you have to the tasks")
    plan = _plan(_pack(obj))
    shared: Shared[T] = Shared(type(obj).__name__, plan.layout, sizes)
    try:
        if not _fill_memfd(shared, plan):
            shared.close()
            shared = Shared(type(obj).__name__, plan.layout, sizes)
            _fill_copy(shared, plan)
        sizes[shared._token] = shared.size_bytes
        _shared.is_used = True
    except BaseException as error:
        shared.close()
        if isinstance(error, OSError) and error.errno is not None:  # else a signal's handler raised it
            raise _no_room(shared.size_bytes, error) from error
        raise
    return shared


def _pack(obj: Any) -> Packed:
    try:
        return Packer(is_bounded=False).pack(lift(obj))
    except (PayloadTooLarge, ShareError):
        raise
    except Exception as error:  # __reduce__ is user code
        try:
            text = named(type(error).__name__, str(error)[:1000])
        except Exception:  # so is its error's __str__
            text = type(error).__name__
        remedy = "share plain data and open files, locks and connections inside the function"
        if isinstance(error, RecursionError):
            remedy = "share less deeply nested data"
        raise PickleError(
            f"expected the shared object to be picklable, got {text}; {remedy}", what="shared object"
        ) from error


def _plan(packed: Packed) -> _Plan:
    pieces: list[tuple[int, Any]] = []
    spans: list[tuple[int, int, int]] = []
    at = 0
    for kind, buffer in packed.buffers:
        pieces.append((at, buffer))
        spans.append((kind, at, buffer.nbytes))
        at += -(-buffer.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    table = pickle.dumps(spans, 5)
    start = at + len(table)
    pieces += [(at, table), (start, packed.payload)]
    return _Plan(pieces, (at, start, start + len(packed.payload)))


def _fill_memfd(shared: Shared[Any], plan: _Plan) -> bool:
    """Write ``plan`` into a new memfd, and seal it. False: there is none, or no way for others to open it."""
    if not _has_memfd() or not _may_be_looked_at():
        return False
    import fcntl

    fill_standard_descriptors()  # it must not become one of them
    store = shared._store
    try:  # in one call, so that no Ctrl-C comes between the opening and its owner
        store.extend(map(os.memfd_create, ("engine-shared",), (os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING,)))
    except OSError as error:
        if error.errno in _NO_MEMFD:
            return False
        raise
    fd = store[0]
    assert isinstance(fd, int)
    os.ftruncate(fd, shared.size_bytes)
    shared._identity = identity_of(os.fstat(fd))
    for at, piece in plan.pieces:
        _write(fd, memoryview(piece), at)
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return True


def _has_memfd() -> bool:
    return hasattr(os, "memfd_create")


def _may_be_looked_at() -> bool:
    """Say whether processes of our own may open our descriptors.

    Not where there is no /proc, and not where this process is not dumpable, as after ``os.setuid``: they are root's.
    """
    try:
        return os.stat(f"/proc/{os.getpid()}/fd").st_uid == os.geteuid()
    except OSError:
        return False


def _write(fd: int, piece: memoryview, at: int) -> None:
    done = 0
    while done < len(piece):
        done += os.pwrite(fd, piece[done : done + _PIECE_BYTES], at + done)


def _fill_copy(shared: Shared[Any], plan: _Plan) -> None:
    memory = bytearray(shared.size_bytes)
    for at, piece in plan.pieces:
        memory[at : at + memoryview(piece).nbytes] = piece
    shared._store.append(memory)


def _no_room(size_bytes: int, error: OSError) -> ShareError:
    remedy = "free some memory, or share less at once"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        remedy = "raise the limit on open files (ulimit -n), or close what you have shared"
    elif error.errno == errno.EFBIG:
        remedy = "raise the limit on file sizes (ulimit -f)"
    reason = f"got {error}; {remedy}"
    return ShareError(
        f"expected the system to have room for a shared object of {size_bytes:,} bytes, {reason}", reason=reason
    )
