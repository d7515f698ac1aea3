"""When the WAL is copied into the database, and who hears that it cannot be."""

import logging

from .library import apsw

__all__ = ["Checkpoints"]

PAGES = 1000  #: that gather in the WAL before it is copied: what SQLite itself takes

_logger = logging.getLogger("engine.jobs")


class Checkpoints:
    """Copies the WAL of one connection's file when it has grown, after the answers are out. One thread uses it.

    A reader that holds a snapshot keeps the WAL from being used anew: it grows. Writers go on; past ``warn_bytes`` the
    log says so, once, and when the reader is gone the file is cut back.
    """

    def __init__(self, connection: apsw.Connection, path: str, warn_bytes: int) -> None:
        self._connection = connection
        self._path = path
        self._warn_bytes = warn_bytes
        self._page_bytes = int(connection.pragma("page_size"))
        self._pages = 0
        self._next = PAGES
        self.is_held_up = False  #: a reader keeps the WAL large
        connection.set_wal_hook(self._committed)  # instead of SQLite's own checkpoint, inside the commit

    def _committed(self, connection: apsw.Connection, name: str, pages: int) -> int:
        self._pages = pages
        return apsw.SQLITE_OK

    def seen(self, pages: int) -> None:
        """Note that another connection of this process committed, and that the WAL has ``pages`` now."""
        self._pages = max(self._pages, pages)

    def tidy(self) -> None:
        """Copy what can be copied, if it is time."""
        if self._pages < self._next and not self.is_held_up:
            return
        try:
            pages, copied = self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            if copied >= pages:
                self._all_copied()
            else:
                self._next = max(pages, 0) + PAGES
                self._warn(pages)
        except apsw.Error:  # busy, or no room: the commits stand, and the next time will do
            self._next = self._pages + PAGES

    def _all_copied(self) -> None:
        self._pages, self._next = 0, PAGES
        if self.is_held_up:
            self.is_held_up = False
            _logger.warning("the WAL of %s could be copied again: the next commit cuts it back", self._path)

    def _warn(self, pages: int) -> None:
        size_bytes = pages * self._page_bytes
        if size_bytes > self._warn_bytes and not self.is_held_up:
            self.is_held_up = True
            _logger.warning(
                "the WAL of %s has grown to %d MiB: somebody keeps a read transaction open, and so it cannot be used "
                "anew; end it (a query, a backup, a connection of jobs.connect())", self._path, size_bytes >> 20,
            )  # fmt: skip
