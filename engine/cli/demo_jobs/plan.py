"""What is to be done, as the file of jobs remembers it: written in the transaction that enqueues the jobs.

It is a table of the demo's own in the same file, which ``jobs.connect`` is for: either both are there, or neither.
"""

import contextlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

from engine import __version__
from engine.jobs import Jobs, JobTask

from ..metrics import Failure
from ..refusals import Refused
from .work import text_of_path

__all__ = ["Plan", "enqueue_once", "load_plan"]

_TABLE = "engine_demo"
_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One tree of files to measure."""

    root: str
    only: str | None = None  #: the one file in ``root`` that was named
    limit: int | None = None
    files: int = 0  #: how many jobs were enqueued
    failures: list[Failure] = field(default_factory=list)  #: directories that could not be listed
    engine: str = __version__
    format: int = _FORMAT


def load_plan(jobs: Jobs) -> Plan | None:
    """Return what the file says is to be done; None if nobody has said it yet.

    Raises:
        Refused: the file is not the demo's, or another version's.
    """
    found = jobs.query(
        "SELECT (SELECT count(*) FROM sqlite_schema WHERE name = ?) AS plans, EXISTS (SELECT 1 FROM jobs) AS jobs",
        (_TABLE,),
    ).result()[0]
    if not found["plans"]:
        if found["jobs"]:
            raise Refused(
                f"expected --jobs to be a file of its own for the demo, got {jobs.name!r}, which holds other jobs"
            )
        return None
    return _read(jobs, jobs.query(f"SELECT plan FROM {_TABLE}").result()[0]["plan"])


def _read(jobs: Jobs, text: str) -> Plan:
    try:
        content: dict[str, Any] = json.loads(text)
        made_by = content["engine"]
        if (content["format"], made_by) == (_FORMAT, __version__):
            return Plan(**content)
    except (ValueError, TypeError, LookupError):
        made_by = "another program"
    raise Refused(
        f"expected {jobs.name!r} to be made by engine demo of {__version__}, got one of {made_by}; begin a new file"
    )


def enqueue_once(jobs: Jobs, task: JobTask[..., Any], plan: Plan, paths: list[str]) -> None:
    """Write ``plan`` and a job for each of ``paths``, all or nothing; nothing if another run has done it meanwhile."""
    with contextlib.closing(jobs.connect()) as connection, connection:  # a transaction
        connection.execute(f"CREATE TABLE IF NOT EXISTS {_TABLE} (plan TEXT NOT NULL) STRICT")
        if connection.execute(f"SELECT count(*) FROM {_TABLE}").get:
            return
        connection.execute(f"INSERT INTO {_TABLE} VALUES (?)", (json.dumps(asdict(plan)),))
        into = task.options(connection=connection)
        for path in paths:
            into.enqueue(root=plan.root, path=text_of_path(path))
