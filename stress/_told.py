"""What the engine says of the calls that it was given, written into their promises for the checker."""

import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

from engine import Snapshot, Task, TaskState
from engine.errors import WorkerCrashed
from stress._ledger import Execution, Promise

__all__ = ["describe_faults", "miscounted", "note_end", "note_now"]


def note_end(promise: Promise, task: Task[Any]) -> None:
    """Note how ``task`` ended, when its done callback says so."""
    promise.rounds += 1
    promise.states_seen.append(task.state.value)
    if task.state is TaskState.FAILED:
        error = task.exception()
        promise.error = type(error).__name__
        if isinstance(error, WorkerCrashed):
            promise.blamed_pid, promise.blamed_at = error.pid, time.monotonic()


def note_now(pairs: Iterable[tuple[Promise, Task[Any]]]) -> list[Promise]:
    """Note what the engine says of each of them now, and return the promises."""
    found = []
    for promise, task in pairs:
        promise.state = task.state.value if task.done() else None
        promise.started = task.started_at is not None
        promise.attempts = task.attempt
        found.append(promise)
    return found


def miscounted(snapshot: Snapshot, promises: list[Promise]) -> list[str]:
    """Return a line for each terminal state that the engine counts otherwise than we do."""
    ours = Counter(promise.state for promise in promises)
    return [
        f"{state.value}: the engine counts {snapshot.count(state)}, we {ours[state.value]}"
        for state in (TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED)
        if snapshot.count(state) != ours[state.value]
    ]


def describe_faults(
    faults: dict[str, list[int]], promises: list[Promise], executions: Iterable[Execution] = ()
) -> dict[str, list[str]]:
    """Return the first calls of each kind of fault, with all that is known of them, their lines in the ledger too."""
    by_number = {promise.number: promise for promise in promises}
    lines = list(executions)
    return {
        kind: [*[_described(by_number.get(number), number, lines) for number in numbers[:5]], f"{len(numbers)} in all"]
        for kind, numbers in faults.items()
        if numbers
    }


def _described(promise: Promise | None, number: int, lines: list[Execution]) -> str:
    if promise is None:
        return str(number)
    own = [line for line in lines if line.number == number]
    there = [line for line in lines if line.pid == promise.blamed_pid and line.at <= promise.blamed_at]
    last = sorted(there, key=lambda line: line.at)[-6:]
    return f"{promise}; its lines: {_shown(own)}; the last of its worker: {_shown(last)}"


def _shown(lines: list[Execution]) -> str:
    return ", ".join(f"{line.number} {line.step} in {line.pid} at {line.at:.6f}" for line in lines) or "none"
