"""Jobs for scripts: one JSON object a line, in ASCII, with keys that stay."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from engine.jobs import Failure, HolderInfo, JobInfo, Moment, Statistics

__all__ = ["job_as_dict", "json_line", "lease_left", "statistics_as_dict"]

_ROOM = 24  #: levels that a value may lie deeper in what is printed than alone


def json_line(content: dict[str, Any]) -> str:
    """Return ``content`` on one line, all of it ASCII."""
    return json.dumps(content, allow_nan=False)


def job_as_dict(row: JobInfo, failures: Sequence[Failure] | None = None) -> dict[str, Any]:
    """Return a row as ``schema.SCHEMA`` describes it; with its history where ``failures`` is given."""
    content = {name: value for name, value in asdict(row).items() if name != "token"}
    content["gate"] = None if row.gate is None else row.gate.name.lower()
    content["claims"] = row.token
    for name in ("args", "result", "progress"):
        content[name] = _value_of(content[name])
    if failures is not None:
        content["failures"] = [_failure_as_dict(failure) for failure in failures]
    return content


def _failure_as_dict(failure: Failure) -> dict[str, Any]:
    content = asdict(failure)
    content["claim"] = content.pop("token")
    return content


def statistics_as_dict(name: str, statistics: Statistics, now: Moment) -> dict[str, Any]:
    """Return what ``engine jobs stats`` tells, as ``schema.SCHEMA`` describes it."""
    holders = [
        {
            "id": holder.id,
            "name": holder.name,
            "pid": holder.pid,
            "running": holder.running,
            "lease": holder.lease,
            "lease_left": lease_left(holder, now),
            "started_at": holder.started_at,
        }
        for holder in statistics.holders
    ]
    return {
        "name": name,
        "queues": [asdict(queue) for queue in statistics.queues],
        "holders": holders,
        "counters": dict(statistics.counters),
    }


def lease_left(holder: HolderInfo, now: Moment) -> float:
    """Return how many seconds a lease holds; 0 if it is over, also with the boot of the machine that it counts on."""
    return max(holder.lease_until - now.steady, 0.0) if holder.boot == now.boot else 0.0


def _value_of(text: str | None) -> Any:
    """Return the value of a JSON text; the text itself where it is none that could be printed again."""
    if text is None:
        return None
    try:
        value = json.loads(text, parse_constant=_refuse)
        deep = value
        for _ in range(_ROOM):
            deep = [deep]
        json.dumps(deep, allow_nan=False)
    except (ValueError, RecursionError):  # somebody else wrote it, or means to harm the reader
        return text
    return value


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")
