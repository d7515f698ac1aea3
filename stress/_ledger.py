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

__all__ = ["Execution", "Promise", "Verdict", "append", "check", "read"]

BEGUN, ENDED = "begun", "ended"


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


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong, by kind; nothing, if all is well."""

    faults: dict[str, list[int]]  #: kind → the calls concerned
    executed: int

    @property
    def is_good(self) -> bool:
        """Say whether no promise was broken."""
        return not any(self.faults.values())


def check(promises: Iterable[Promise], executions: Iterable[Execution]) -> Verdict:
    """Compare what was promised with what was done.

    ``lost``: COMPLETED, but never executed to its end · ``unexpected``: executed, but not accepted, or with another's
    token · ``duplicated``: begun more often than attempts were made or allowed · ``overlapped``: two executions of one
    call at once · ``ghost``: CANCELLED before it started, and executed all the same · ``hung``: accepted, and no
    terminal state · ``double_terminal``: two terminal states, or not one round of callbacks · ``resurrected``:
    ``cancel`` answered True and the call COMPLETED · ``wrong``: COMPLETED with another call's value.
    """
    faults: dict[str, list[int]] = defaultdict(list)
    by_number: dict[int, list[Execution]] = defaultdict(list)
    known: dict[int, Promise] = {promise.number: promise for promise in promises}
    count = 0
    for execution in executions:
        count += execution.step == BEGUN
        promise = known.get(execution.number)
        if promise is None or not promise.accepted or promise.token != execution.token:
            faults["unexpected"].append(execution.number)
        else:
            by_number[execution.number].append(execution)
    for number, promise in known.items():
        if promise.accepted:
            for kind in _faults_of(promise, by_number.get(number, [])):
                faults[kind].append(number)
    return Verdict(dict(faults), count)


def _faults_of(promise: Promise, executions: list[Execution]) -> list[str]:
    steps = Counter(execution.step for execution in executions)
    found = []
    if promise.state is None:
        return ["hung"]
    if promise.state == "completed" and not steps[ENDED]:
        found.append("lost")
    if steps[BEGUN] > promise.most_attempts or steps[BEGUN] > promise.attempts:
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
