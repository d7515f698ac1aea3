"""``engine jobs list``: a line for each job, the newest first."""

import argparse
from collections.abc import Iterator

from engine import TaskState
from engine.jobs import Filter, Gate, JobInfo, Jobs

from ..table import Column, output_width, table_lines
from ..units import age, count
from .as_json import job_as_dict, json_line
from .rows import Seen, look

__all__ = ["list_lines", "wait_of"]

_COLUMNS = (
    Column("id", is_number=True),
    Column("state", least=9),
    Column("queue", least=4),
    Column("name", least=10, keeps_end=True),
    Column("tries", is_number=True),
    Column("when", least=9),
    Column("what", least=6),
)


def list_lines(jobs: Jobs, arguments: argparse.Namespace) -> Iterator[str]:
    """Yield what the command prints."""
    wanted = Filter(
        states=tuple(TaskState(state) for state in arguments.state),
        queues=tuple(arguments.queue),
        names=tuple(arguments.name),
        below=arguments.before,
        limit=arguments.limit,
    )
    if arguments.json:
        yield from (json_line(job_as_dict(seen.row)) for seen in look(jobs, wanted))
        return
    rows, last = [], 0
    for seen in look(jobs, wanted):
        rows.append(_row(seen))
        last = seen.row.id
    if not rows:
        yield "No such job" if _is_narrowed(wanted) else "No job is there"
        return
    yield from table_lines(_COLUMNS, rows, output_width())
    if len(rows) == wanted.limit:
        yield f"the newest {count(len(rows), 'job')}; older ones: --before {last}"


def _is_narrowed(wanted: Filter) -> bool:
    return bool(wanted.states or wanted.queues or wanted.names or wanted.below is not None)


def _row(seen: Seen) -> list[str]:
    row = seen.row
    since = row.completed_at or row.started_at if row.state is not TaskState.PENDING else row.created_at
    when = "" if since is None else f"{age(seen.now - since)} ago"
    what = _cut(_what(seen))
    return [str(row.id), row.state.value, row.queue, row.name, str(row.attempt), when, what]


def _cut(text: str) -> str:
    """Return as much of ``text`` as any terminal could show: it may be a megabyte long."""
    return text[:500]


def _what(seen: Seen) -> str:
    row = seen.row
    if row.state is TaskState.PENDING:
        return "; ".join(filter(None, [wait_of(row, seen.now), _cut(row.error or "")]))
    if row.state is TaskState.RUNNING:
        asked = "to be cancelled" if row.cancel_requested else ""
        return ", ".join(filter(None, [asked, _progress(row), row.holder]))
    if row.state is TaskState.COMPLETED:
        return "" if row.result in (None, "null") else str(row.result)
    return row.error or ""


def _progress(row: JobInfo) -> str:
    return "" if row.progress is None else _cut(row.progress)


def wait_of(row: JobInfo, now: float) -> str:
    """Say what a PENDING job waits for, where that is more than its turn."""
    if row.gate is Gate.LATER:
        return "due" if row.due_at is None or row.due_at <= now else f"due in {age(row.due_at - now)}"
    if row.gate is Gate.LOCKED:
        return f"waits for the lock {row.lock}"
    if row.gate is Gate.ALONE:
        return "a suspect: its engine died under it, so it runs alone"
    return ""
