"""The file of a store: found or made, ours, and nobody else's to read.

An existing file is looked at, and never opened here: closing a descriptor of it would drop the locks that an SQLite in
this process has on it.
"""

import errno
import os
import stat

from .. import errors
from .guard import Key, key_of

__all__ = ["check_place", "make_ready"]

_PRIVATE = 0o600


def make_ready(path: str, *, make_directory: bool, any_owner: bool) -> tuple[str, Key]:
    """Make sure that ``path`` is a file that a store may use, new and empty if there was none.

    Returns its path without links, and what names it.

    Raises:
        StoreError: it is somebody else's, no file, or cannot be made; the message says what to do.
    """
    try:
        _check_link(path, any_owner)
        real = os.path.realpath(path)
        if make_directory:
            os.makedirs(os.path.dirname(real), mode=0o700, exist_ok=True)
        _make(real)
        _check_file(real, any_owner)
        return real, key_of(real)
    except OSError as error:
        raise _cannot(path, error) from error


def check_place(path: str, *, make_directory: bool) -> None:
    """Make sure that ``path`` is there or could be made, and make nothing.

    Raises:
        StoreError: it could not.
    """
    real = os.path.realpath(path)
    directory = os.path.dirname(real)
    while make_directory and not os.path.lexists(directory):
        directory = os.path.dirname(directory)
    if os.path.lexists(real):
        return
    number = 0 if os.path.isdir(directory) else errno.ENOTDIR if os.path.lexists(directory) else errno.ENOENT
    if not number and not os.access(directory, os.W_OK | os.X_OK):
        number = errno.EACCES
    if number:
        raise _cannot(path, OSError(number, os.strerror(number)))


def _make(path: str) -> None:
    """Make an empty private file, unless something is there: its -wal and -shm are given the same mode by SQLite."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), _PRIVATE)
    except FileExistsError:
        return
    try:
        os.chmod(path, _PRIVATE)  # a umask may have taken our own right to it
    finally:
        os.close(fd)


def _check_link(path: str, any_owner: bool) -> None:
    """Refuse a symbolic link that another user has put there: it could lead us to any file of ours."""
    if not hasattr(os, "geteuid") or not os.path.islink(path):
        return
    owner = os.lstat(path).st_uid
    if owner not in (0, os.geteuid()) and not any_owner:
        raise errors.StoreError(
            f"expected {path} to be a file or a link of this user (uid {os.geteuid()}), got a link of uid {owner}; "
            "give the path of the file itself", path=path,
        )  # fmt: skip


def _check_file(path: str, any_owner: bool) -> None:
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise errors.StoreError(f"expected {path} to be a file, got {_kind(status.st_mode)}", path=path)
    if hasattr(os, "geteuid") and status.st_uid != os.geteuid() and not any_owner:
        raise errors.StoreError(
            f"expected {path} to belong to this user (uid {os.geteuid()}), got a file of uid {status.st_uid}, who may "
            "have written any jobs into it; run as that user, or say SQLiteStore(path, any_owner=True)", path=path,
        )  # fmt: skip
    if status.st_size == 0 and hasattr(os, "geteuid") and status.st_uid == os.geteuid():
        os.chmod(path, _PRIVATE)  # nothing is in it yet: made by ``touch``, or by tempfile


def _kind(mode: int) -> str:
    return "a directory" if stat.S_ISDIR(mode) else "something else (a device, pipe or socket)"


def _cannot(path: str, error: OSError) -> errors.StoreError:
    directory = os.path.dirname(os.path.abspath(path))
    if isinstance(error, FileNotFoundError):
        return errors.StoreError(
            f"expected the directory {directory} to exist, got none; make it, or say "
            "Jobs(SQLiteStore(path, make_directory=True))", path=path,
        )  # fmt: skip
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return errors.StoreFull(f"expected room for {path}, got: {error.strerror}; make room on its disk", path=path)
    return errors.StoreError(
        f"expected {path} to be a file that this user can make or use, got: {error.strerror}; check the permissions of "
        f"{directory}", path=path,
    )  # fmt: skip
