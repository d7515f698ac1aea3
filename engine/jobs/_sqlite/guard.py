"""No second SQLite on a file that is open here.

SQLite's locks are POSIX locks, which belong to the process: when another SQLite library in it closes the same file, the
system drops ours with it, and two writers write at once. ``sqlite3`` is another library than apsw's. So one audit hook
refuses ``sqlite3.connect`` on a file that a store of this process has open.

Guarantees
    Shared: ``_open``.  Guarded by: ``_lock``, held for a few dict operations.  Callers: any thread; the hook reads
    ``_open`` without the lock, a dict whose keys come and go whole, and is told by a missing key that it may pass.
    A file is known by device and inode, so it does not matter by which path somebody comes to it.
"""

import os
import sys
import threading
import urllib.parse
from collections.abc import Iterable
from typing import Any

from ..errors import StoreError

__all__ = ["Key", "check_unspoiled", "forget_all", "key_of", "protect", "release", "spoil"]

Key = tuple[int, int]  #: device and inode

_lock = threading.Lock()
_open: dict[Key, tuple[str, int]] = {}  #: -> what people see, and how often it is open
_spoiled: set[Key] = set()  #: in a forked child, what was in use at the fork
_is_hooked = False


def key_of(path: str) -> Key:
    """Return what names the file behind ``path``."""
    status = os.stat(path)
    return status.st_dev, status.st_ino


def protect(key: Key, path: str) -> None:
    """Have ``sqlite3.connect`` refuse the file ``key`` until it was released as often as it was protected."""
    global _is_hooked
    with _lock:
        _open[key] = path, _open.get(key, ("", 0))[1] + 1
        must_hook, _is_hooked = not _is_hooked, True
    if must_hook:
        sys.addaudithook(_hook)  # for ever: there is no way to take one back


def release(key: Key) -> None:
    """Take one ``protect`` back."""
    with _lock:
        path, times = _open.get(key, ("", 0))
        if times > 1:
            _open[key] = path, times - 1
        else:
            _open.pop(key, None)


def forget_all() -> None:
    """In a forked child: nothing is open here yet."""
    global _lock
    _lock = threading.Lock()
    _open.clear()


def spoil(keys: Iterable[Key]) -> None:
    """In a forked child: refuse these files to every store: SQLite takes its parent's locks for its own."""
    _spoiled.update(keys)


def check_unspoiled(key: Key, path: str) -> None:
    """Refuse a file that was in use at the fork.

    Raises:
        StoreError: it was.
    """
    if key in _spoiled:
        raise StoreError(
            f"expected {path} to be opened in a process that was not forked while it was in use, got one that was: "
            "SQLite cannot be used there; close the connections of connect() before the fork, or start the process "
            "with spawn", path=path,
        )  # fmt: skip


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if event == "sqlite3.connect" and _open:
        _refuse(args[0])


def _refuse(database: Any) -> None:
    for path in _paths(database):
        try:
            found = _open.get(key_of(path))
        except (OSError, ValueError):  # no such file: it cannot be ours
            continue
        if found is not None:
            raise StoreError(
                f"expected sqlite3.connect to be given another file, got {found[0]}, which is open here as a store of "
                "jobs, and which a second SQLite in one process would damage; read it with jobs.query(), write to it "
                "through jobs.connect()", path=found[0],
            )  # fmt: skip


def _paths(database: Any) -> list[str]:
    """Return the paths that ``database`` may mean. Whether it is taken as a URI, an audit event does not tell."""
    if not isinstance(database, str | bytes | os.PathLike):
        return []
    path = os.fsdecode(database)
    if not path.startswith("file:"):
        return [path]
    rest = path[len("file:") :].partition("#")[0].partition("?")[0]
    if rest.startswith("//"):
        rest = "/" + rest[2:].partition("/")[2]  # without the authority, which is empty or localhost
    return [path, urllib.parse.unquote(rest)]
