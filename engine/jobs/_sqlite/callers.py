"""The connections that somebody outside has open in this process, by file: whichever store gave them.

Guarantees
    Shared: ``_connections``.  Guarded by: ``_lock``, held while it is replaced. Who reads it takes none: it is never
    changed.  Callers: any thread.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from typing import TYPE_CHECKING

from .guard import Key

if TYPE_CHECKING:
    from .connection import CallersConnection

__all__ = ["add", "callers_of", "leave_alone", "never_close"]

_lock = threading.Lock()
_connections: tuple[tuple[Key, weakref.ref[CallersConnection]], ...] = ()


def add(key: Key, connection: CallersConnection) -> None:
    """Note a connection to the file ``key``, until it is closed or dropped."""
    global _connections
    with _lock:
        left = tuple(each for each in _connections if (other := each[1]()) is not None and other.is_open)
        _connections = (*left, (key, weakref.ref(connection)))


def callers_of(key: Key) -> list[CallersConnection]:
    """Return the connections to the file ``key`` that are open."""
    if not _connections:  # as nearly always, before each enqueue
        return []
    found = [reference() for other, reference in _connections if other == key]
    return [connection for connection in found if connection is not None and connection.is_open]


def leave_alone() -> set[Key]:
    """In a forked child: forget what was inherited open, and never close it; return which files that were."""
    global _lock, _connections
    inherited, _lock, _connections = _connections, threading.Lock(), ()
    files = set()
    for key, reference in inherited:
        if (connection := reference()) is not None and connection.is_open:
            files.add(key)
            never_close(connection)
    return files


def never_close(inherited: object) -> None:
    """In a forked child: keep something for ever. To close it could take a transaction, or a WAL, from the parent."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))
