"""What truly ran, and whether it agrees with what was promised.

Each execution appends a line (id, token, pid, monotonic time) to an O_APPEND file that no engine knows of; one write of
less than PIPE_BUF bytes, so lines of many processes never mix. The checker below compares them with what was attempted
and acknowledged. It never imports ``engine``: what it says does not depend on what it judges.
"""

import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["BEGUN", "DOOMED", "ENDED", "Execution", "Promise", "Verdict", "append", "check", "doomed", "read"]

BEGUN, ENDED = "begun", "ended"
DOOMED = "doomed"  #: the process that wrote it is about to die by our hand

REUSE_SECONDS = 5.0  #: a pid comes again only after all others have; on a busy machine that takes minutes
DEATH_SECONDS = 60.0  #: from a kill to the end of the task that is charged with it, however busy the machine is

CRASH = "WorkerCrashed"  #: the type name of the error of a task whose worker died


def append(path: str, number: int, token: str, step: str) -> None:
    """Write down that call ``number`` has begun or ended here and now."""
    line = f"{number} {token} {step} {os.getpid()} {time.monotonic()!r}\n".encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Execution:
    """One line of the ledger."""

    number: int
    token: str
    step: str
    pid: int
    at: float


def read(path: str) -> list[Execution]:
    """Return the lines of the ledger; a missing file is an empty one."""
    if not Path(path).exists():
        return []
    rows = [line.split() for line in Path(path).read_text().splitlines()]
    return [Execution(int(number), token, step, int(pid), float(at)) for number, token, step, pid, at in rows]


def doomed(executions: Iterable[Execution]) -> list[tuple[int, float]]:
    """Return the processes that wrote that they die by our hand, and when."""
    return [(line.pid, line.at) for line in executions if line.step == DOOMED]


@dataclass(slots=True)
class Promise:
    """What was asked for, and what the one who asked was told."""

    number: int
    token: str  #: drawn at submission; an execution with another one is not of this call
    accepted: bool = False
    state: str | None = None  #: the terminal state seen at the end; None if there was none
    started: bool = False  #: whether the engine says that an attempt had started
    attempts: int = 0  #: attempts that the engine says were made
    most_attempts: int = 1  #: attempts that were allowed
    rounds: int = 0  #: rounds of done callbacks
    states_seen: list[str] = field(default_factory=list)  #: terminal states seen at different times
    cancel_answers: list[bool] = field(default_factory=list)
    right_value: bool = True  #: a completed call gave what its function returns
    outcomes: frozenset[str] | None = None  #: how it may end of itself: "completed", type names; None: not judged
    error: str | None = None  #: the type name of what it failed with
    blamed_pid: int | None = None  #: the process whose death it was charged with
    blamed_at: float = 0.0  #: when we heard of that, monotonic


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong, by kind; nothing, if all is well."""

    faults: dict[str, list[int]]  #: kind → the calls concerned
    executed: int
    recovered: int = 0  #: calls that COMPLETED although one of their executions had been cut short

    @property
    def is_good(self) -> bool:
        """Say whether no promise was broken."""
        return not any(self.faults.values())


def check(
    promises: Iterable[Promise], executions: Iterable[Execution], killed: Iterable[tuple[int, float]] = ()
) -> Verdict:
    """Compare what was promised with what was done; ``killed`` are the processes that died by our hand, and when.

    ``lost``: COMPLETED, but never executed to its end · ``unexpected``: executed, but not accepted, or with another's
    token · ``duplicated``: begun more often than attempts were made or allowed, or more attempts made than allowed ·
    ``overlapped``: two executions of one call at once · ``ghost``: CANCELLED before it started, and executed all the
    same · ``hung``: accepted, and no terminal state · ``double_terminal``: two terminal states, or not one round of
    callbacks · ``resurrected``: ``cancel`` answered True and the call COMPLETED · ``wrong``: COMPLETED with another
    call's value, or though it cannot · ``unexplained``: FAILED or CANCELLED, and nobody asked for that ·
    ``misblamed``: charged with a death that was another's, or that another was charged with too.
    """
    faults: dict[str, list[int]] = defaultdict(list)
    by_number: dict[int, list[Execution]] = defaultdict(list)
    by_pid: dict[int, list[Execution]] = defaultdict(list)
    known: dict[int, Promise] = {promise.number: promise for promise in promises}
    count = recovered = 0
    for execution in executions:
        count += execution.step == BEGUN
        promise = known.get(execution.number)
        if promise is None or not promise.accepted or promise.token != execution.token:
            faults["unexpected"].append(execution.number)
        elif execution.step != DOOMED:
            by_number[execution.number].append(execution)
            by_pid[execution.pid].append(execution)
    by_our_hand: dict[int, list[float]] = defaultdict(list)
    for pid, at in killed:
        by_our_hand[pid].append(at)
    for number, promise in known.items():
        if promise.accepted:
            mine = by_number.get(number, [])
            recovered += promise.state == "completed" and len(mine) > 2
            for kind in [*_faults_of(promise, mine), *_unexplained(promise, by_our_hand)]:
                faults[kind].append(number)
    charged = [promise for promise in known.values() if promise.blamed_pid is not None]
    if misblamed := [
        promise.number for promise in charged if _is_misblamed(promise, charged, by_pid, known, by_number)
    ]:
        faults["misblamed"] = misblamed
    return Verdict(dict(faults), count, recovered)


def _faults_of(promise: Promise, executions: list[Execution]) -> list[str]:
    steps = Counter(execution.step for execution in executions)
    found = []
    if promise.state is None:
        return ["hung"]
    if promise.state == "completed" and not steps[ENDED]:
        found.append("lost")
    if max(steps[BEGUN], promise.attempts) > promise.most_attempts or steps[BEGUN] > promise.attempts:
        found.append("duplicated")
    if _overlap(executions):
        found.append("overlapped")
    if promise.state == "cancelled" and not promise.started and steps[BEGUN]:
        found.append("ghost")
    if promise.rounds != 1 or len({promise.state, *promise.states_seen}) > 1:
        found.append("double_terminal")
    if promise.state == "completed" and any(promise.cancel_answers):
        found.append("resurrected")
    if promise.state == "completed" and not promise.right_value:
        found.append("wrong")
    return found


def _overlap(executions: list[Execution]) -> bool:
    """Say whether one begins in a process while another of the same call, which ends later, is under way."""
    open_since: dict[int, float] = {}
    spans: list[tuple[float, float]] = []
    for execution in sorted(executions, key=lambda execution: execution.at):
        if execution.step == BEGUN:
            open_since[execution.pid] = execution.at
        elif execution.pid in open_since:
            spans.append((open_since.pop(execution.pid), execution.at))
    starts = sorted([*[begun for begun, _ in spans], *open_since.values()])
    return any(begun < start < ended for begun, ended in spans for start in starts)


def _unexplained(promise: Promise, killed: dict[int, list[float]]) -> list[str]:
    """Judge how a call ended, if it was said how it may."""
    if promise.outcomes is None or promise.state is None:
        return []
    if promise.state == "completed":
        return [] if "completed" in promise.outcomes else ["wrong"]
    if promise.state == "cancelled":
        return [] if any(promise.cancel_answers) else ["unexplained"]
    kills = killed.get(promise.blamed_pid or 0, ()) if promise.error == CRASH else ()
    if promise.error in promise.outcomes or any(promise.blamed_at - at < DEATH_SECONDS for at in kills):
        return []
    return ["unexplained"]


def _is_misblamed(
    promise: Promise,
    charged: list[Promise],
    by_pid: dict[int, list[Execution]],
    known: dict[int, Promise],
    by_number: dict[int, list[Execution]],
) -> bool:
    """Say whether a call was charged with a death that was another's, by the ledger, or that another is charged with.

    A worker runs one call at a time. So at its death it was in the one that it began last; if that one had not ended,
    it is to blame. If it had, the worker may have died in the answer, or in taking the next one, which left no line.
    A pid may come again: of what an earlier process of that number was in when it died, that call gives account.
    One that was tried again may have been in the same worker before: if it has fewer lines than attempts, the last
    attempt may have died before it could write its own.
    """
    if not promise.started:
        return True
    pid = promise.blamed_pid
    assert pid is not None
    same = [each for each in charged if each.blamed_pid == pid]
    if any(each is not promise and abs(each.blamed_at - promise.blamed_at) < REUSE_SECONDS for each in same):
        return True
    lines = sorted([line for line in by_pid.get(pid, []) if line.at <= promise.blamed_at], key=lambda line: line.at)
    began = [line.at for line in lines if line.number == promise.number and line.step == BEGUN]
    lines_of_its_own = sum(line.step == BEGUN for line in by_number[promise.number])
    if began and lines_of_its_own >= promise.attempts:
        return any(line.step == BEGUN and line.at > began[-1] for line in lines if line.number != promise.number)
    if not lines or lines[-1].step != BEGUN:
        return False
    other = known[lines[-1].number]
    gives_account = (
        other.blamed_pid == pid
        or other.state == "cancelled"
        or other.error == "TaskTimeout"
        or any(line.at > lines[-1].at for line in by_number[other.number])
    )
    return not gives_account
