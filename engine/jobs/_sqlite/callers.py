"""The connections that somebody outside has open in this process, by file: whichever store gave them.

Guarantees
    Shared: ``_connections``.  Guarded by: ``_lock``, held while it is replaced. Who reads it takes none: it is never
    changed.  Callers: any thread.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING

from .guard import Key

if TYPE_CHECKING:
    from .connection import CallersConnection

__all__ = ["add", "callers_of", "forget_all"]

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


def forget_all() -> None:
    """In a forked child: what was inherited open is not to be touched, not even to ask it something."""
    global _lock, _connections
    _lock, _connections = threading.Lock(), ()
