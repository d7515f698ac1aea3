"""``engine jobs cancel``, ``requeue``, ``pause`` and ``resume``: what changes jobs from outside."""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from engine import TaskState
from engine.jobs import Book, Cancelled, Jobs, Moment

from ..refusals import Refused
from ..units import count, plain
from .as_json import json_line
from .rows import ids_of

__all__ = ["cancel", "pause", "requeue", "resume"]

_BATCH = 200  #: jobs in one transaction: others wait for as long as it takes

_CANCELLED = {
    Cancelled.NOW: "cancelled",
    Cancelled.ASKED: "asked to stop",
    Cancelled.TOO_LATE: "ended already",
    Cancelled.UNKNOWN: "not there",
}
_REQUEUED = {None: "requeued", "unknown": "not there", "not ended": "not ended"}  #: by why it was not


def cancel(jobs: Jobs, arguments: argparse.Namespace) -> int:
    """Cancel jobs that wait, and ask for those that run; return the exit code."""
    ids = _chosen(jobs, arguments, "cancel", default=(TaskState.PENDING, TaskState.RUNNING))
    told = _Told(arguments, _CANCELLED, lambda found: {"outcome": found})
    _each(jobs, ids, lambda book, job_id, now: book.cancel(job_id, now), told)
    return told.end(done=(Cancelled.NOW, Cancelled.ASKED))


def requeue(jobs: Jobs, arguments: argparse.Namespace) -> int:
    """Have jobs that ended run anew; return the exit code."""
    ids = _chosen(jobs, arguments, "requeue", default=(TaskState.FAILED,))
    told = _Told(arguments, _REQUEUED, lambda why_not: {"requeued": why_not is None, "reason": why_not})
    _each(jobs, ids, _requeue, told)
    return told.end(done=(None,))


def _requeue(book: Book, job_id: int, now: Moment) -> str | None:
    """Requeue one job; return why not, if not."""
    if book.requeue(job_id, now):
        return None
    return "not ended" if book.states([job_id]) else "unknown"


def pause(jobs: Jobs, arguments: argparse.Namespace) -> int:
    """Have workers claim nothing from some queues; return the exit code."""
    return _set_paused(jobs, arguments, True)


def resume(jobs: Jobs, arguments: argparse.Namespace) -> int:
    """Have workers claim from some queues again; return the exit code."""
    return _set_paused(jobs, arguments, False)


def _set_paused(jobs: Jobs, arguments: argparse.Namespace, paused: bool) -> int:
    queues: list[str] = arguments.queues

    def change(book: Book, now: Moment) -> set[str]:
        known = {queue.queue for queue in book.statistics(now).queues}
        for queue in queues:
            book.pause(queue, paused)
        return known

    known = jobs.store.write(change).result()
    if arguments.json:
        print(json_line({"queues": queues, "paused": paused}))
        return 0
    for queue in queues:
        state = "is paused: workers claim nothing from it" if paused else "is not paused"
        print(f"{plain(queue)} {state}{'' if queue in known else '; no job is in it so far'}")
    return 0


# -- which jobs, and whether that is meant


def _chosen(jobs: Jobs, arguments: argparse.Namespace, verb: str, *, default: tuple[TaskState, ...]) -> Sequence[int]:
    """Return the ids that were given, or those that the filter finds and somebody has confirmed.

    Raises:
        Refused: both were given, or neither; or nobody is there to confirm.
    """
    is_filter = bool(arguments.state or arguments.queue or arguments.name)
    if bool(arguments.ids) == is_filter:
        raise Refused(f"expected either IDs or a filter such as --state {default[0].value} --name NAME, "
                      f"got {'both' if is_filter else 'neither'}")  # fmt: skip
    if not is_filter:
        return list(dict.fromkeys(arguments.ids))
    states = tuple(TaskState(state) for state in arguments.state) or default
    ids = ids_of(jobs, states, tuple(arguments.queue), tuple(arguments.name))
    if ids and not arguments.yes:
        _confirm(f"{verb} {count(len(ids), f'{_either(states)} job')}{_of(arguments)}?")
    return ids


def _either(states: tuple[TaskState, ...]) -> str:
    return " or ".join(state.value for state in states)


def _of(arguments: argparse.Namespace) -> str:
    names = f" of {' or '.join(arguments.name)}" if arguments.name else ""
    queues = f" in {' or '.join(arguments.queue)}" if arguments.queue else ""
    return plain(names + queues)


def _confirm(question: str) -> None:
    """Ask whoever sits at the terminal.

    Raises:
        Refused: nobody does, or the answer is no.
    """
    if not sys.stdin or not sys.stdin.isatty():
        raise Refused(f"expected --yes, for nobody can be asked here: {question}")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Refused("nothing was changed")


# -- doing it


class _Told:
    """Prints what became of jobs: of each that was named, and in sum of those that a filter found."""

    def __init__(
        self, arguments: argparse.Namespace, texts: Mapping[Any, str], as_json: Callable[[Any], dict[str, Any]]
    ) -> None:  # fmt: skip
        self._is_json = arguments.json
        self._is_filter = not arguments.ids
        self._as_json = as_json
        self._texts = texts
        self._found: Counter[Any] = Counter()

    def tell(self, job_id: int, found: Any) -> None:
        """Print what became of one job."""
        self._found[found] += 1
        if self._is_json:
            print(json_line({"id": job_id, **self._as_json(found)}))
        elif not self._is_filter:
            print(f"job {job_id}: {self._texts[found]}")

    def end(self, *, done: Sequence[Any]) -> int:
        """Print the sum; return 0 if all were ``done``. Where others were faster than a filter, that is no failure."""
        if self._is_filter and not self._is_json:
            for found, number in self._found.items():
                print(f"{count(number, 'job')}: {self._texts[found]}")
            if not self._found:
                print("No such job")
        return 0 if self._is_filter or all(found in done for found in self._found) else 1


def _each(jobs: Jobs, ids: Sequence[int], change: Callable[[Book, int, Moment], Any], told: _Told) -> None:
    """Do ``change`` with each of ``ids``, and have told how it went."""
    for start in range(0, len(ids), _BATCH):
        batch = ids[start : start + _BATCH]

        def change_all(book: Book, now: Moment, batch: Sequence[int] = batch) -> list[Any]:
            return [change(book, job_id, now) for job_id in batch]

        for job_id, found in zip(batch, jobs.store.write(change_all).result(), strict=True):
            told.tell(job_id, found)
