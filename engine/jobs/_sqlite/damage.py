"""Rows that are not as they were written: damage that SQLite does not see, such as another byte in a text."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from ..errors import CorruptStore

if TYPE_CHECKING:
    import apsw

__all__ = ["check_kinds", "corrupt", "reads"]

P = ParamSpec("P")
T = TypeVar("T")

_KINDS: dict[str, type] = {"int": int, "text": str, "real": float, "blob": bytes}


def reads(fn: Callable[Concatenate[apsw.Connection, P], T]) -> Callable[Concatenate[apsw.Connection, P], T]:
    """Have ``fn``, which reads rows and calls nobody outside, raise CorruptStore where a value cannot be ours."""

    @functools.wraps(fn)
    def read(connection: apsw.Connection, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return fn(connection, *args, **kwargs)
        except UnicodeEncodeError:  # of what was asked for, not of what was read
            raise
        except (TypeError, ValueError, LookupError, ArithmeticError) as error:
            raise corrupt(connection.filename, str(error)) from error

    return read


def corrupt(path: str, why: str) -> CorruptStore:
    """Build the error that says that rows of ``path`` are not what anybody wrote."""
    return CorruptStore(
        f"expected the rows of {path} to be as they were written, got: {why}; "
        "restore it from a copy, or move it away with its -wal and begin a new one",
        path=path,
    )


def check_kinds(row: Iterable[Any], columns: str) -> None:
    """Look whether the values of ``row`` are of the kinds in ``columns``, as "int text real?"; a ? may be NULL.

    Raises:
        TypeError: one is not, which SQLite itself sees only where it writes the row.
    """
    if (wrong := _wrong(tuple(map(type, row)), columns)) is not None:
        raise TypeError(wrong)


@functools.lru_cache(maxsize=1024)  # nearly all rows of a kind are alike
def _wrong(found: tuple[type, ...], columns: str) -> str | None:
    for kind, column in zip(found, columns.split(), strict=True):
        if kind is not _KINDS[column.rstrip("?")] and not (column.endswith("?") and kind is type(None)):
            return f"a value of type {kind.__name__} where {column} was written"
    return None
