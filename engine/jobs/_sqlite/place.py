"""Whether the file of a store is still where it was opened: what is written to one that is gone is lost."""

from __future__ import annotations

import contextlib
import logging

from ..errors import StoreError
from .guard import Key, key_of

__all__ = ["Place"]

_logger = logging.getLogger("engine.jobs")


class Place:
    """The file, its WAL and its shared memory, as a connection opened them. One thread uses it.

    SQLite goes on with a file that was deleted, moved or replaced, as the system does, and says nothing. Its locks are
    those of the ``-shm``: two processes that have another one each write over each other.
    """

    def __init__(self, path: str, key: Key) -> None:
        self._keys = {path: key}
        self._is_told = False
        for beside in (f"{path}-wal", f"{path}-shm"):
            with contextlib.suppress(OSError):  # there is none
                self._keys[beside] = key_of(beside)

    def look(self) -> StoreError | None:
        """Return the error for all who want something of the file, if it is gone; the log has it once. Quick."""
        for path, key in self._keys.items():
            try:
                found: Key | None = key_of(path)
            except FileNotFoundError:
                found = None
            except OSError:  # nobody can tell
                continue
            if found != key:
                return self._gone(path, found)
        self._is_told = False
        return None

    def _gone(self, path: str, found: Key | None) -> StoreError:
        what = "none" if found is None else "another one"
        error = StoreError(
            f"expected {path} to stay the file that was opened, got {what} in its place: it was deleted, moved or "
            "replaced while it was open, and what is written to it is lost; stop all that use it, then put it back, or "
            "remove what is left of its -wal and -shm before another is used in its place", path=path,
        )  # fmt: skip
        if not self._is_told:
            self._is_told = True
            _logger.error("%s", error)
        return error
