"""SQLite as ``apsw`` brings it, and what may be done with the version that it is.

The ``sqlite3`` module would be another SQLite in the same process. Two of them drop each other's locks (``_guard``),
and the one in CPython 3.11 to 3.13 is often older than 3.51.3, the first without the WAL-reset bug.
"""

try:
    import apsw
except ImportError:  # pragma: no cover  # the extra is there in every environment that runs these tests
    raise ImportError(
        "expected apsw to be installed, got no such module; jobs in a file need an extra: "
        "pip install 'hybrid-engine[jobs]'"
    ) from None

__all__ = ["apsw", "is_wal_safe", "version"]

#: The first release without the bug, and the older series that were given the fix.
_FIXED = (3, 51, 3)
_FIXED_IN_SERIES: dict[tuple[int, ...], int] = {(3, 50): 7, (3, 44): 6}


def version(text: str) -> tuple[int, ...]:
    """Return the numbers of a version of SQLite as ``3.51.3``."""
    return tuple(int(number) for number in text.split("."))


def is_wal_safe(numbers: tuple[int, ...]) -> bool:
    """Say whether several connections may write and checkpoint one WAL with this version of SQLite.

    Before 3.51.3 a checkpoint that meets a reset of the WAL could skip frames, and so lose what was committed. Such a
    version is given the rollback journal, which has no such thing.
    """
    fixed_at = _FIXED_IN_SERIES.get(numbers[:2])
    return numbers >= _FIXED or (fixed_at is not None and numbers[2:] >= (fixed_at,))
