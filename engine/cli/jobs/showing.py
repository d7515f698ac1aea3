"""``engine jobs show``: all that is known of one job."""

import argparse
import json
from collections.abc import Iterator
from datetime import UTC, datetime

from engine import TaskState
from engine.jobs import Failure, JobInfo, Jobs

from ..refusals import Failed
from ..units import age, count, plain
from .as_json import job_as_dict, json_line
from .listing import wait_of
from .rows import look_at

__all__ = ["show_lines"]


def show_lines(jobs: Jobs, arguments: argparse.Namespace) -> Iterator[str]:
    """Yield what the command prints.

    Raises:
        Failed: there is no such job.
    """
    found = look_at(jobs, arguments.id)
    if found is None:
        raise Failed(f"expected the id of a job, got {arguments.id}, which is not there; it may have been pruned")
    seen, failures = found
    if arguments.json:
        yield json_line(job_as_dict(seen.row, failures))
        return
    yield f"job {seen.row.id}: {plain(seen.row.name)}"
    for title, text in _facts(seen.row, seen.now):
        if text:
            yield f"  {title:14} {plain(text)}"
    yield from _value_lines("arguments", seen.row.args)
    yield from _value_lines("progress", seen.row.progress)
    yield from _value_lines("result", seen.row.result)
    yield from _history_lines(failures, seen.now)


def _facts(row: JobInfo, now: float) -> Iterator[tuple[str, str]]:
    yield "state", ", ".join(filter(None, [row.state.value, _more_of_state(row, now)]))
    yield "queue", row.queue
    yield "priority", str(row.priority) if row.priority else ""
    yield "attempt", f"{row.attempt} ({count(row.token, 'claim')})"
    yield "crashes", f"{row.crashes} of at most {row.max_crashes}" if row.crashes else ""
    yield "enqueued", _instant(row.created_at, now)
    yield "started", _instant(row.started_at, now)
    yield "ended", _instant(row.completed_at, now)
    yield "expires", _instant(row.expires_at, now)
    yield "held by", _holder(row, now)
    yield "lock", row.lock or ""
    yield "queueing lock", row.queueing_lock or ""
    yield "follows", f"job {row.parent}" if row.parent is not None else ""
    yield "schedule", row.schedule or ""


def _more_of_state(row: JobInfo, now: float) -> str:
    if row.state is TaskState.PENDING:
        return wait_of(row, now)
    return "to be cancelled" if row.cancel_requested else ""


def _holder(row: JobInfo, now: float) -> str:
    if row.holder is None or row.lease_until is None:
        return row.holder or ""
    left = row.lease_until - now
    return f"{row.holder}, " + (f"lease {age(left)} more" if left > 0 else f"its lease is over since {age(-left)}")


def _instant(at: float | None, now: float) -> str:
    """Return an instant for people, in UTC, with how far away it is."""
    if at is None:
        return ""
    try:
        text = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):  # a row may say any number
        text = f"{at:g} s since 1970"
    return f"{text} ({age(now - at)} ago)" if at <= now else f"{text} (in {age(at - now)})"


def _value_lines(title: str, text: str | None) -> Iterator[str]:
    if text is None:
        return
    yield f"  {title}"
    for line in _pretty(text).split("\n"):
        yield f"    {plain(line)}"


def _pretty(text: str) -> str:
    """Return a JSON text with a line for each item; as it is where it is no JSON, or none that can be taken apart."""
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def _history_lines(failures: list[Failure], now: float) -> Iterator[str]:
    if failures:
        yield "  history"
    for failure in failures:
        where = f" on {failure.worker}" if failure.worker else ""
        head = f"attempt {failure.attempt}, claim {failure.token}: {failure.kind}{where}, {_instant(failure.at, now)}"
        yield f"    {plain(head)}"
        for line in (failure.traceback.rstrip() or failure.error).split("\n"):
            yield f"      {plain(line)}"
