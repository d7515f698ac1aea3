"""Reading SQL that somebody writes by hand: it cannot write, take for ever, or fill the memory."""

from __future__ import annotations

import time
from typing import Any

from ..errors import StoreError
from .library import apsw

__all__ = ["MAX_ROWS", "Query", "set_limits"]

MAX_ROWS = 100_000  #: that one query may return
_STEPS = 10_000  #: of SQLite's machine, between two looks at the clock: about a millisecond
_MAX_VALUE_BYTES = 64 << 20

_READS = frozenset({apsw.SQLITE_SELECT, apsw.SQLITE_READ, apsw.SQLITE_FUNCTION, apsw.SQLITE_RECURSIVE})
#: Those that tell something, and take no argument that changes it.
_PRAGMAS = frozenset({
    "table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo", "foreign_key_list",
    "page_count", "page_size", "freelist_count", "user_version", "application_id", "data_version", "integrity_check",
    "quick_check", "compile_options", "database_list",
})  # fmt: skip
_PRAGMAS_WITH_ARGUMENT = frozenset({name for name in _PRAGMAS if name.endswith(("_info", "_list", "_xinfo", "_check"))})


def set_limits(connection: apsw.Connection) -> None:
    """Keep one value from filling the memory, and other files from being reached."""
    connection.limit(apsw.SQLITE_LIMIT_LENGTH, _MAX_VALUE_BYTES)
    connection.limit(apsw.SQLITE_LIMIT_ATTACHED, 0)


def _authorize(action: int, first: str | None, second: str | None, database: str | None, inner: str | None) -> int:
    if action in _READS:
        return apsw.SQLITE_OK
    if action == apsw.SQLITE_PRAGMA:
        allowed = _PRAGMAS if second is None else _PRAGMAS_WITH_ARGUMENT
        return apsw.SQLITE_OK if first in allowed else apsw.SQLITE_DENY
    return apsw.SQLITE_DENY


class Query:
    """One statement, with a limit on its time."""

    def __init__(self, sql: str, parameters: Any, seconds: float) -> None:
        self._sql = sql
        self._parameters = parameters
        self._seconds = seconds
        self._statements = 0

    def __call__(self, connection: apsw.Connection) -> list[dict[str, Any]]:
        """Return its rows by the names of the columns.

        Raises:
            StoreError: it is wrong, writes, takes too long, or gives too many rows.
        """
        end = time.monotonic() + self._seconds
        connection.set_progress_handler(lambda: time.monotonic() >= end, _STEPS)
        connection.authorizer = _authorize
        try:
            return self._rows(connection)
        except apsw.InterruptError as error:
            raise StoreError(
                f"expected the query to end within {self._seconds} s, got one that does not; ask for less"
            ) from error
        except apsw.AuthError as error:
            raise StoreError(
                f"expected a query that only reads, got {self._shown()}: {error}; write through jobs.connect()"
            ) from error
        except (apsw.SQLError, apsw.BindingsError, apsw.TooBigError, TypeError) as error:
            raise StoreError(f"expected a query that SQLite understands, got {self._shown()}: {error}") from error
        finally:
            connection.authorizer = None
            connection.set_progress_handler(None)

    def _rows(self, connection: apsw.Connection) -> list[dict[str, Any]]:
        cursor = connection.cursor()
        cursor.exec_trace = self._one_statement
        rows: list[dict[str, Any]] = []
        names: list[str] = []
        for row in cursor.execute(self._sql, self._parameters):
            names = names or self._names(cursor)
            if len(rows) >= MAX_ROWS:
                raise StoreError(f"expected at most {MAX_ROWS} rows, got more from {self._shown()}; add a LIMIT")
            rows.append(dict(zip(names, row, strict=True)))
        return rows

    def _one_statement(self, cursor: apsw.Cursor, sql: str, bindings: Any) -> bool:
        self._statements += 1
        if self._statements > 1:
            raise StoreError(f"expected one statement, got several: {self._shown()}")
        return True

    def _names(self, cursor: apsw.Cursor) -> list[str]:
        names = [column[0] for column in cursor.get_description()]
        if len(set(names)) < len(names):
            raise StoreError(f"expected columns of different names, got {', '.join(names)}; rename with AS")
        return names

    def _shown(self) -> str:
        return ascii(self._sql if len(self._sql) <= 200 else self._sql[:197] + "...")
