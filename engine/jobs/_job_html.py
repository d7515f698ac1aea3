"""What a notebook shows of a job: a small table that stands by itself. Every text in it is escaped."""

from __future__ import annotations

import datetime
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._job import Job

__all__ = ["html_of_job"]

_MOST = 300  #: characters of one text
_SHOWN = ("queue", "state", "attempt", "priority", "created_at", "due_at", "started_at", "completed_at", "holder",
          "lock", "queueing_lock", "parent", "schedule", "error")  # fmt: skip


def html_of_job(job: Job) -> str:
    """Show what ``job`` is and how it stands; its arguments and result are not shown, they may be secret."""
    rows = [(name, value) for name in _SHOWN if (value := getattr(job, name)) is not None]
    cells = "".join(f"<tr><th style='text-align:left'>{name}</th><td>{_text(value)}</td></tr>" for name, value in rows)
    return f"<div><b>Job {job.id}</b> {_text(job.name)}<table>{cells}</table></div>"


def _text(value: object) -> str:
    shown = value.isoformat(" ", "milliseconds") if isinstance(value, datetime.datetime) else str(value)
    shown = "".join(each if each.isprintable() else " " for each in shown[: _MOST + 1])
    return escape(shown if len(shown) <= _MOST else shown[: _MOST - 3] + "...")
