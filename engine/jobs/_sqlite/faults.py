"""What an error of SQLite means for a store: full, busy, damaged, or one operation's own."""

import enum
import errno

from ..errors import CorruptStore, StoreError, StoreFull
from .library import apsw

__all__ = ["Fault", "fault_of", "told"]

#: A write that met one of these is a matter of room. SQLite itself calls only the first one "full".
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

#: A write that met one of these, with a file that was writable when it was opened.
_NO_RIGHT = frozenset({errno.EROFS, errno.EPERM, errno.EACCES})


class Fault(enum.Enum):
    """What went wrong, by what is to be done about it."""

    FULL = "full"  #: nothing of the transaction is done; it may go again when there is room
    BUSY = "busy"  #: another process holds the file
    CORRUPT = "corrupt"
    BROKEN = "broken"  #: the file cannot be read or written for another reason
    OWN = "own"  #: one operation's: the rest of its transaction is none the worse


def fault_of(error: BaseException, system_errno: int = 0) -> Fault:
    """Tell the kind of ``error``; ``system_errno`` is the connection's, read right after it."""
    if isinstance(error, apsw.FullError):
        return Fault.FULL
    if isinstance(error, apsw.IOError):
        return Fault.FULL if system_errno in _NO_ROOM else Fault.BROKEN
    if _is_undecodable(error):
        return Fault.CORRUPT
    if isinstance(error, apsw.BusyError) and "in progress" in str(error):  # our own statement, cut short by an error
        return Fault.BROKEN
    if isinstance(error, apsw.BusyError | apsw.LockedError | apsw.ProtocolError):
        return Fault.BUSY
    if isinstance(error, apsw.CorruptError | apsw.NotADBError | apsw.FormatError):
        return Fault.CORRUPT
    broken = apsw.ReadOnlyError | apsw.CantOpenError | apsw.PermissionsError | apsw.NoMemError | apsw.InterruptError
    if isinstance(error, broken | apsw.ConnectionClosedError):
        return Fault.BROKEN
    return Fault.OWN


def _is_undecodable(error: BaseException | None) -> bool:
    """Say whether text was read that is no UTF-8, which was never written; what undoes a savepoint may fail upon it."""
    while error is not None and not isinstance(error, UnicodeDecodeError):
        error = error.__context__
    return error is not None


def told(error: BaseException, path: str, system_errno: int = 0) -> BaseException:
    """Return the error that users are given for ``error``; one that is not SQLite's stays what it is."""
    if not isinstance(error, apsw.Error | UnicodeDecodeError):  # not SQLite's
        return error
    return _told(fault_of(error, system_errno), error, path, system_errno)


def _told(fault: Fault, error: BaseException, path: str, system_errno: int) -> StoreError:
    why = (str(error) or type(error).__name__) + (
        f" ({errno.errorcode.get(system_errno, '?')})" if system_errno else ""
    )
    if fault is Fault.FULL:
        return _from(error, StoreFull(
            f"expected room for {path}, got: {why}; make room on its disk (or raise the limit on its size): what waits "
            "there to be recorded goes on by itself", path=path,
        ))  # fmt: skip
    if isinstance(error, apsw.NotADBError):
        return _from(error, CorruptStore(
            f"expected {path} to be a file of jobs, got: {why}; give the path of another, or, if it was one, restore "
            "it from a copy", path=path,
        ))  # fmt: skip
    if fault is Fault.CORRUPT or _is_of_damage(error):
        return _from(error, CorruptStore(
            f"expected {path} to be a sound database, got: {why}; restore it from a copy, or move it away with its "
            "-wal and begin a new one", path=path,
        ))  # fmt: skip
    if fault is Fault.BUSY:
        return _from(error, StoreError(
            f"expected {path} to become free, got: {why}; another process holds a transaction open", path=path
        ))  # fmt: skip
    is_refused = isinstance(error, apsw.ReadOnlyError | apsw.CantOpenError | apsw.PermissionsError)
    if is_refused or system_errno in _NO_RIGHT:
        return _from(error, StoreError(
            f"expected {path} and its directory to be readable and writable, got: {why}; check their permissions, and "
            "that the file system is not mounted read-only", path=path,
        ))  # fmt: skip
    return _from(error, StoreError(f"expected {path} to answer, got: {why}", path=path))


def _is_of_damage(error: BaseException) -> bool:
    """Say whether SQLite refuses one of our statements, which only tables or values that are not ours have it do."""
    is_unknown = isinstance(error, apsw.SQLError) and any(
        what in str(error) for what in ("no such ", " has no column ")
    )
    return is_unknown or isinstance(error, apsw.ConstraintError)


def _from(cause: BaseException, error: StoreError) -> StoreError:
    error.__cause__ = cause
    return error
