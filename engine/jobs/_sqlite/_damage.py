"""Rows that are not as they were written: damage that SQLite does not see, such as another byte in a text."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from ..errors import CorruptStore

if TYPE_CHECKING:
    import apsw

__all__ = ["reads"]

P = ParamSpec("P")
T = TypeVar("T")


def reads(fn: Callable[Concatenate[apsw.Connection, P], T]) -> Callable[Concatenate[apsw.Connection, P], T]:
    """Have ``fn``, which reads rows and calls nobody outside, raise CorruptStore where a value cannot be ours."""

    @functools.wraps(fn)
    def read(connection: apsw.Connection, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return fn(connection, *args, **kwargs)
        except UnicodeEncodeError:  # of what was asked for, not of what was read
            raise
        except (TypeError, ValueError) as error:
            path = connection.filename
            raise CorruptStore(
                f"expected the rows of {path} to be as they were written, got: {error}; "
                "restore it from a copy, or move it away with its -wal and begin a new one",
                path=path,
            ) from error

    return read
