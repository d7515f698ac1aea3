"""What became of every durable job, and whether it is what the queue promises. Never imports ``engine``.

A job's lines in the ledger carry ``token:pid``: the fence of that run, and the engine that ran it (``_jobs_tasks``).
"""

import itertools
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from stress._ledger import BEGUN, DOOMED, ENDED, Execution

__all__ = ["Fault", "JobPromise", "JobVerdict", "Row", "check_jobs"]

#: Seconds in which an engine that goes on may begin what it had claimed before it was held still, and has lost.
LATE = 2.0
MAX_CRASHES = 3  #: deaths of engines under a job that runs alone, after which it is FAILED: whoever killed them


@dataclass(frozen=True, slots=True)
class Fault:
    """What we did to an engine: killed it at ``begin``, or held it still from ``begin`` to ``end``."""

    pid: int
    begin: float  #: monotonic
    end: float | None = None  #: None for a death


@dataclass(frozen=True, slots=True)
class Row:
    """What the database says at the end."""

    number: int
    state: str
    token: int  #: claims
    result_token: str | None  #: of the run whose result was recorded
    lock: str | None
    kind: str


@dataclass(frozen=True, slots=True)
class JobPromise:
    """What an enqueuer was told."""

    number: int
    outcomes: frozenset[str]  #: in which states it may end
    acknowledged: bool = False
    is_follow_up: bool = False  #: it is there exactly if the one with the number -number has completed
    reruns: bool = False  #: it raises, or kills what runs it, by itself


@dataclass(slots=True)
class JobVerdict:
    """What is wrong, by kind; nothing, if all is well."""

    faults: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    executed: int = 0
    explained: int = 0  #: runs beyond the first, each with a fault of ours that says why
    recovered: int = 0  #: rows whose enqueuer was killed before it heard of the commit
    unlucky: int = 0  #: jobs that failed because we struck so often while they ran that they were taken for the culprit


def check_jobs(
    promises: Iterable[JobPromise], rows: Iterable[Row], executions: Iterable[Execution], done: Iterable[Fault]
) -> JobVerdict:
    """Compare what was acknowledged with the rows and with what ran.

    ``lost``: acknowledged, and no row; or COMPLETED and no run of it came to its end · ``invented``: a row, or a run,
    that nobody tried to enqueue · ``doubled``: two rows of one job · ``hung``: no terminal state · ``wrong``: a state
    in which it may not end · ``stale``: the recorded result is of a run that was not the last claim ·
    ``unexplained``: it ran again, and no fault of ours says why · ``overlapped``: two runs with one lock at a time,
    though nobody was held still · ``parted``: completed without its follow-up, or a follow-up without that.
    """
    verdict = JobVerdict()
    known = {promise.number: promise for promise in promises}
    by_number: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        by_number[row.number].append(row)
    runs: dict[int, list[Execution]] = defaultdict(list)
    faults: dict[int, list[Fault]] = defaultdict(list)
    for fault in done:
        faults[fault.pid].append(fault)
    for line in executions:
        verdict.executed += line.step == BEGUN
        if line.step == DOOMED:
            faults[_engine_of(line)].append(Fault(_engine_of(line), line.at))
        runs[line.number].append(line)
    for number in {*by_number, *runs} - known.keys():
        verdict.faults["invented"].append(number)
    for number, promise in known.items():
        for kind in _faults_of(promise, by_number, runs[number], faults, verdict):
            verdict.faults[kind].append(number)
    for number in _overlaps(by_number, runs, faults):
        verdict.faults["overlapped"].append(number)
    return verdict


def _faults_of(
    promise: JobPromise, by_number: dict[int, list[Row]], lines: list[Execution], faults: dict[int, list[Fault]],
    verdict: JobVerdict,
) -> list[str]:  # fmt: skip
    rows = by_number.get(promise.number, [])
    if promise.is_follow_up:
        before = by_number.get(-promise.number, [])
        if (len(before) == 1 and before[0].state == "completed") != bool(rows):
            return ["parted"]
    if not rows:
        return ["lost"] if promise.acknowledged else ["invented"] if lines else []
    verdict.recovered += not promise.acknowledged and not promise.is_follow_up
    found = ["doubled"] if len(rows) > 1 else []
    row = rows[0]
    if row.state in ("pending", "running"):
        return [*found, "hung"]
    begun = [line for line in lines if line.step == BEGUN]
    if row.state == "failed" and sum(_was_struck(line, faults) for line in begun) >= MAX_CRASHES:
        verdict.unlucky += "failed" not in promise.outcomes
    elif row.state not in promise.outcomes:
        found.append("wrong")
    if row.state == "completed":
        if not any(line.step == ENDED and line.token == row.result_token for line in lines):
            found.append("lost")
        if row.result_token is None or int(row.result_token.partition(":")[0]) != row.token:
            found.append("stale")
    if not promise.reruns:
        again = _unexplained(begun, faults)
        verdict.explained += len(begun) - 1 - again if begun else 0
        if again:
            found.append("unexplained")
    return found


def _unexplained(begun: list[Execution], faults: dict[int, list[Fault]]) -> int:
    """Count the runs that were not the last though nothing was done to their engine after they had begun."""
    ordered = sorted(begun, key=lambda line: line.at)
    return sum(not _was_struck(line, faults) for line in ordered[:-1])


def _was_struck(run: Execution, faults: dict[int, list[Fault]]) -> bool:
    """Say whether anything was done to the engine of a run after that had begun, or just before."""
    return any(fault.end is None or fault.end + LATE > run.at for fault in faults[_engine_of(run)])


def _overlaps(
    by_number: dict[int, list[Row]], runs: dict[int, list[Execution]], faults: dict[int, list[Fault]]
) -> list[int]:
    """Return the jobs that began while another one with their lock ran in an engine that was not held still."""
    spans: dict[str, list[tuple[float, float, int]]] = defaultdict(list)
    for number, rows in by_number.items():
        if rows[0].lock is None:
            continue
        ends = {(line.token, line.pid): line.at for line in runs[number] if line.step == ENDED}
        for line in runs[number]:
            stopped = any(fault.end is not None for fault in faults[_engine_of(line)])
            if line.step == BEGUN and (line.token, line.pid) in ends and not stopped:
                spans[rows[0].lock].append((line.at, ends[line.token, line.pid], number))
    found = []
    for held in spans.values():
        held.sort()
        found += [
            later[2] for earlier, later in itertools.pairwise(held) if later[0] < earlier[1]
        ]  # fmt: skip
    return found


def _engine_of(line: Execution) -> int:
    return int(line.token.partition(":")[2])
