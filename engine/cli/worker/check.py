"""``engine worker --check``: what is wrong before anything has run."""

import os
import sys
from collections.abc import Iterable, Mapping

from engine.jobs import Finding, Jobs, MemoryStore, SQLiteStore

from ..refusals import Refused
from ..units import count, plain

__all__ = ["check", "in_memory", "print_findings"]


def check(jobs: Jobs, queues: Mapping[str, int | None] | None = None) -> int:
    """Print what is wrong with ``jobs``, and what waits in its file that nobody here runs; return the exit code.

    A file that is not there is not made for it. ``queues`` are those that a worker is to serve, None for all.

    Raises:
        Refused: no worker could serve ``queues``.
    """
    try:
        findings = [*jobs.check(queues), *in_memory(jobs)]
    except ValueError as error:  # of the queues
        raise Refused(str(error)) from error
    if isinstance(jobs.store, SQLiteStore):
        jobs.store.check_place()
    if os.path.exists(jobs.name):
        findings += jobs.check_store().result()
    print_findings(findings)
    if not findings:
        tasks, schedules = count(len(jobs.tasks), "task"), count(len(jobs.schedules), "schedule")
        print(f"{plain(jobs.name)}: {tasks}, {schedules}, nothing wrong was found")
    return 1 if any(finding.level == "error" for finding in findings) else 0


def in_memory(jobs: Jobs) -> list[Finding]:
    """Return what a command has to say of jobs in memory, which no other process can enqueue."""
    if not isinstance(jobs.store, MemoryStore):
        return []
    what = "the jobs are in memory, and are those of this process: nobody else can enqueue any"
    return [Finding("warning", what, 'say Jobs("jobs.db"); it is meant if schedules alone enqueue them')]


def print_findings(findings: Iterable[Finding]) -> None:
    """Print each with its remedy, to stderr."""
    for finding in findings:
        print(f"{finding.level:7}  {plain(finding.what)}\n{'':7}  -> {plain(finding.remedy)}", file=sys.stderr)
