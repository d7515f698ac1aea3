"""``engine jobs backup``: a whole copy of a file of jobs that others may be using."""

import argparse
import contextlib
import os
from typing import Any

from engine.jobs import Jobs

from ..refusals import Failed
from ..units import plain, size
from .as_json import json_line

__all__ = ["backup"]

_UNDONE = ".partial"  #: what the copy is called until it is whole and on the disk


def backup(jobs: Jobs, arguments: argparse.Namespace) -> int:
    """Copy the file as it is at one instant; return the exit code.

    Others read and write meanwhile. A copy has its name once it is whole; one that was cut off leaves ``.partial``.

    Raises:
        Failed: something has that name, or the copy cannot be written.
    """
    target: str = arguments.copy
    if os.path.lexists(target):
        raise Failed(f"expected COPY to be a path where nothing is, got {target!r}; remove it, or say another")
    undone = target + _UNDONE
    try:
        with contextlib.closing(jobs.connect()) as connection:
            _copy(connection, undone)
        _save(undone)
        os.rename(undone, target)
        _save(os.path.dirname(os.path.abspath(target)))
    except (OSError, ValueError) as error:  # ValueError: a null character
        raise Failed(f"expected to write {target!r}, got: {getattr(error, 'strerror', None) or error}") from error
    written = os.stat(target).st_size
    print(json_line({"target": target, "bytes": written}) if arguments.json else f"{size(written)} in {plain(target)}")
    return 0


def _copy(connection: Any, path: str) -> None:
    """Write what is committed now to ``path``."""
    import apsw  # here, for a store in memory needs none, and has given no connection

    _make_private(path)
    try:
        connection.execute("VACUUM INTO ?", (path,))
    except apsw.Error as error:
        os.unlink(path)
        raise Failed(f"expected a whole copy in {path!r}, got: {error}") from error


def _make_private(path: str) -> None:
    """Make ``path`` an empty file for this user alone; one that an earlier copy left half done is begun anew."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _save(path: str) -> None:
    """Wait until ``path`` is on the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
