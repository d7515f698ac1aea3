"""The rows that a command is about, a page at a time: what they hold may be large."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

from engine import TaskState
from engine.jobs import Book, Failure, Filter, JobInfo, Jobs, Moment

__all__ = ["Seen", "ids_of", "look", "look_at"]

_PAGE = 50  #: rows in memory at once: each may hold a megabyte of arguments and one of result


@dataclass(frozen=True, slots=True)
class Seen:
    """One row, and when it was looked at."""

    row: JobInfo
    now: float  #: UTC, by the clock of the store


def look(jobs: Jobs, wanted: Filter) -> Iterator[Seen]:
    """Yield what ``wanted`` describes, in its order; each row once, also while others come and go."""
    left, below = wanted.limit, wanted.below
    while left > 0:
        page = replace(wanted, below=below, limit=min(left, _PAGE))
        rows, now = jobs.store.read(partial(_find, page)).result()
        for row in rows:
            yield Seen(row, now)
        if len(rows) < page.limit:
            return
        left -= len(rows)
        below = rows[-1].id


def _find(wanted: Filter, book: Book, now: Moment) -> tuple[list[JobInfo], float]:
    return book.find(wanted), now.wall


def look_at(jobs: Jobs, job_id: int) -> tuple[Seen, list[Failure]] | None:
    """Return one row, and why runs of it did not complete; None if there is no such job."""
    wanted = Filter(ids=(job_id,), limit=1)
    rows, failures, now = jobs.store.read(
        lambda book, now: (book.find(wanted), book.failures(job_id), now.wall)
    ).result()
    return (Seen(rows[0], now), failures) if rows else None


def ids_of(jobs: Jobs, states: tuple[TaskState, ...], queues: tuple[str, ...], names: tuple[str, ...]) -> list[int]:
    """Return the ids of all rows that match, newest first."""
    wanted = Filter(states=states, queues=queues, names=names, limit=10**9)
    return [seen.row.id for seen in look(jobs, wanted)]
