"""``engine doctor``: what this machine offers the engine and what it lacks, with a remedy for each lack."""

import asyncio
import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict

from engine import __version__

from .backend import BACKEND_CHECKS
from .durable import JOBS_CHECKS
from .findings import Check, Finding, checks, good, lack
from .kernel import KERNEL_CHECKS
from .machine import MACHINE_CHECKS
from .units import count, duration, plain

__all__ = ["CHECKS", "run_doctor"]

_START_TIMEOUT = 20.0  #: seconds in which a worker must be there


@checks(
    "worker", "mend what this line says, or the lacks above; if neither helps, report it with: engine doctor --json"
)
def _worker() -> Finding:
    return asyncio.run(_start_worker())


async def _start_worker() -> Finding:
    """Start one worker through an engine, run two tasks in it, and stop."""
    from engine import Engine  # here, so that a library that is missing is a lack of the machine and no traceback

    began = time.perf_counter()
    async with Engine(processes=1, threads=1, worker_start_timeout=_START_TIMEOUT) as engine:
        remote = engine.options(lane="process")
        pid = await asyncio.wait_for(remote.run(os.getpid), _START_TIMEOUT + 5)
        first = time.perf_counter()
        await remote.run(os.getpid)
        second = time.perf_counter()
    stopped = time.perf_counter()
    if pid == os.getpid():
        return lack("worker", "the task ran in this process", "report it: this cannot be")
    return good(
        "worker",
        f"first result after {duration(first - began)}, the next after {duration(second - first)}, "
        f"stopped in {duration(stopped - second)}",
    )


CHECKS: tuple[Check, ...] = (*MACHINE_CHECKS, *KERNEL_CHECKS, *BACKEND_CHECKS, *JOBS_CHECKS, _worker)


def run_doctor(*, as_json: bool, checks: Iterable[Check] = CHECKS) -> int:
    """Print what ``checks`` find; return 0 if nothing is lacking, else 1."""
    if as_json:
        findings = [check() for check in checks]
        ok = _is_enough(findings)
        print(json.dumps({"ok": ok, "engine": __version__, "findings": [asdict(f) for f in findings]}, indent=1))
        return 0 if ok else 1
    findings = []
    print(f"engine {__version__}")
    for check in checks:
        findings.append(check())
        print("\n".join(_lines(findings[-1])), flush=True)
    print(_verdict(findings))
    return 0 if _is_enough(findings) else 1


def _is_enough(findings: list[Finding]) -> bool:
    return not any(finding.state == "LACK" for finding in findings)


def _lines(finding: Finding) -> Iterator[str]:
    yield f"{finding.state:5} {finding.name:15} {plain(finding.value)}"
    if finding.remedy:
        yield f"{'':5} {'':15} -> {plain(finding.remedy)}"


def _verdict(findings: list[Finding]) -> str:
    lacks = sum(finding.state == "LACK" for finding in findings)
    if lacks:
        return f"\n{count(lacks, 'thing')} that the engine needs {'is' if lacks == 1 else 'are'} missing; see -> above"
    return "\nAll that the engine needs is there"
