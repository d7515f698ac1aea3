"""``engine jobs stats``: how many jobs are where, who holds them, and what happened so far."""

import argparse
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from engine.jobs import HolderInfo, Jobs, Moment, QueueStatistics, Statistics, StoreError

from ..table import Column, output_width, table_lines
from ..units import age, plain
from .as_json import json_line, lease_left, statistics_as_dict

__all__ = ["stats_lines"]

_NUMBERS = tuple(field.name for field in fields(QueueStatistics) if field.type in (int, "int"))
_ALWAYS = ("ready", "running", "completed", "failed")
_HOLDERS = (
    Column("worker", least=16, keeps_end=True),
    Column("jobs", is_number=True),
    Column("since", is_number=True),
    Column("lease left", is_number=True),
)
_SCHEDULES = (Column("schedule", least=16, keeps_end=True), Column("last period", is_number=True))
_SCHEDULES_MOST = 1000


def stats_lines(jobs: Jobs, arguments: argparse.Namespace) -> Iterator[str]:
    """Yield what the command prints."""
    statistics, now = jobs.store.read(lambda book, now: (book.statistics(now), now)).result()
    if arguments.json:
        yield json_line({**statistics_as_dict(jobs.name, statistics, now), "schedules": _schedules(jobs)})
        return
    width = output_width()
    yield from _queue_lines(statistics, width)
    yield from _oldest_lines(statistics)
    yield ""
    if statistics.holders:
        rows = [_holder_row(holder, now) for holder in statistics.holders]
        yield from table_lines(_HOLDERS, rows, width)
    else:
        yield "no worker holds a lease"
    yield ""
    if schedules := _schedules(jobs):
        rows = [[each["name"], f"{age(now.wall - each['last_at'])} ago"] for each in schedules]
        yield from table_lines(_SCHEDULES, rows, width)
        yield ""
    counted = ", ".join(f"{name.replace('_', ' ')} {number:,}" for name, number in statistics.counters.items())
    yield f"so far: {plain(counted) or 'nothing was counted'}"


def _schedules(jobs: Jobs) -> list[dict[str, Any]]:
    """Return each schedule that a worker has looked at, with its last period; none where the store has no SQL."""
    try:
        reply = jobs.query("SELECT name, last_at FROM schedules ORDER BY name LIMIT ?", (_SCHEDULES_MOST,))
    except StoreError:  # a store in memory: nobody but its own process has one
        return []
    return reply.result()


def _queue_lines(statistics: Statistics, width: int) -> Iterator[str]:
    queues = statistics.queues
    if not queues:
        yield "No job is there"
        return
    shown = [name for name in _NUMBERS if name in _ALWAYS or any(getattr(queue, name) for queue in queues)]
    columns = [Column("queue", least=6), *(Column(name, is_number=True) for name in shown), Column("", least=6)]
    rows = [_queue_row(queue, shown) for queue in queues]
    if len(queues) > 1:
        totals = [_number(sum(getattr(queue, name) for queue in queues)) for name in shown]
        rows.append(["", *totals, ""])
    yield from table_lines(columns, rows, width)


def _queue_row(queue: QueueStatistics, shown: list[str]) -> list[str]:
    return [queue.queue, *(_number(getattr(queue, name)) for name in shown), "paused" if queue.paused else ""]


def _number(number: int) -> str:
    """Return a number in at most six characters or so; --json has it exactly."""
    if number < 100_000:
        return f"{number:,}"
    return f"{number / 1000:,.0f} k" if number < 10_000_000 else f"{number / 1e6:,.0f} M"


def _oldest_lines(statistics: Statistics) -> Iterator[str]:
    waiting = [(queue.oldest_ready, queue.queue) for queue in statistics.queues if queue.oldest_ready is not None]
    if waiting:
        oldest, queue = max(waiting)
        yield f"the oldest that is ready has waited {age(oldest)}, in {plain(queue)}"


def _holder_row(holder: HolderInfo, now: Moment) -> list[str]:
    left = lease_left(holder, now)
    return [holder.name, f"{holder.running:,}", age(now.wall - holder.started_at), age(left) if left else "over"]
