"""``engine worker --check``: what is wrong before anything has run."""

import os
import sys
from collections.abc import Iterable

from engine.jobs import Finding, Jobs

from ..units import count, plain

__all__ = ["check", "print_findings"]


def check(jobs: Jobs) -> int:
    """Print what is wrong with ``jobs``, and what waits in its file that nobody here runs; return the exit code.

    A file that is not there is not made for it.
    """
    findings = list(jobs.check())
    if os.path.exists(jobs.name):
        findings += jobs.check_store().result()
    print_findings(findings)
    if not findings:
        tasks, schedules = count(len(jobs.tasks), "task"), count(len(jobs.schedules), "schedule")
        print(f"{plain(jobs.name)}: {tasks}, {schedules}, nothing wrong was found")
    return 1 if any(finding.level == "error" for finding in findings) else 0


def print_findings(findings: Iterable[Finding]) -> None:
    """Print each with its remedy, to stderr."""
    for finding in findings:
        print(f"{finding.level:7}  {plain(finding.what)}\n{'':7}  -> {plain(finding.remedy)}", file=sys.stderr)
