"""Random rows of verbs on a book of jobs, drawn on the model, so that all that they name is there."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from engine import TaskState
from engine.jobs._book import Book
from engine.jobs._memory.book import MemoryBook
from engine.jobs._moment import Moment
from engine.jobs._records import Claim, Claimed, Claims, End, Ending, Failure, Filter, NewHolder, NewJob

__all__ = ["Step", "make_script", "state_of"]

QUEUES = ("default", "mail")


@dataclass(frozen=True, slots=True)
class Step:
    """One verb with its arguments, at its moment; the store's own moment is not looked at."""

    name: str
    now: Moment
    verb: Callable[[Book, Moment], Any]

    def act(self, book: Book, _: Moment) -> Any:
        """Do it."""
        return self.verb(book, self.now)


def state_of(book: Book, now: Moment) -> object:
    """Return all that can be seen of ``book``."""
    jobs = book.find(Filter(limit=10**6, oldest_first=True))
    return jobs, [book.failures(job.id) for job in jobs], book.statistics(now)


def make_script(seed: str, length: int = 16) -> list[Step]:
    """Return the row of ``length`` verbs that ``seed`` stands for."""
    return _Author(random.Random(seed)).write(length)


class _Author:
    """Writes a script, doing it on a model as it goes."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._book = MemoryBook()
        self._time = 1_000_000.0
        self._held: list[Claimed] = []
        self._holders: list[int] = []

    def write(self, length: int) -> list[Step]:
        script = [self._do("enqueue", self._enqueue()), self._do("hold", self._hold())]
        verbs = [
            self._enqueue, self._enqueue_many, self._hold, self._claim, self._claim, self._end, self._end, self._rescue,
            self._cancel, self._requeue, self._tick, self._pause, self._prune, self._let_go,
        ]  # fmt: skip
        while len(script) < length:
            verb = self._rng.choice(verbs)
            script.append(self._do(verb.__name__[1:], verb()))
        return script

    def _do(self, name: str, verb: Callable[[Book, Moment], Any]) -> Step:
        self._time += self._rng.choice([0.0, 0.5, 3.0])
        step = Step(name, Moment(self._time, self._time, "boot"), verb)
        answer = step.act(self._book, step.now)
        if name == "hold":
            self._holders.append(answer)
        elif isinstance(answer, Claims):
            self._held += answer.jobs
        return step

    # -- one verb each; what is drawn is drawn here, so that doing it again draws nothing

    def _job(self) -> NewJob:
        draw = self._rng.random
        return NewJob(
            queue=self._rng.choice(QUEUES), name="task", args=f'{{"n": {self._rng.randrange(100)}}}',
            priority=self._rng.randrange(3), delay=2.0 if draw() < 0.2 else None,
            expires_in=5.0 if draw() < 0.2 else None, lock=self._rng.choice([None, None, "a", "b"]),
        )  # fmt: skip

    def _enqueue(self) -> Callable[[Book, Moment], Any]:
        jobs = [self._job() for _ in range(self._rng.randrange(1, 4))]
        return lambda book, now: book.enqueue(jobs, now)

    def _enqueue_many(self) -> Callable[[Book, Moment], Any]:
        like, args = self._job(), [f'{{"n": {number}}}' for number in range(5)]
        return lambda book, now: book.enqueue_many(like, args, now)

    def _hold(self) -> Callable[[Book, Moment], Any]:
        holder = NewHolder(name="holder", pid=1, pid_started=1.0, namespace="", lease=4.0)
        return lambda book, now: book.hold(holder, now)

    def _claim(self) -> Callable[[Book, Moment], Any]:
        holder, alone = self._rng.choice(self._holders), self._rng.random() < 0.2
        claim = Claim(holder=holder, queues=dict.fromkeys(QUEUES, 3), limit=4, alone=alone)
        return lambda book, now: book.claim(claim, now)

    def _end(self) -> Callable[[Book, Moment], Any]:
        if not self._held:
            return self._claim()
        count = min(len(self._held), self._rng.randrange(1, 4))
        chosen = [self._held.pop(self._rng.randrange(len(self._held))) for _ in range(count)]
        endings = [self._ending(job) for job in chosen]
        return lambda book, now: book.end(endings, now)

    def _ending(self, job: Claimed) -> Ending:
        end = End.COMPLETED if self._rng.random() < 0.4 else self._rng.choice(list(End))
        failure = (
            Failure(self._time, job.attempt, job.token, "error", "ValueError: no") if end is not End.COMPLETED else None
        )
        follow_ups = (NewJob(queue="mail", name="next", args="{}", parent=job.id),) if self._rng.random() < 0.5 else ()
        result, delay = ("1" if end is End.COMPLETED else None), self._rng.choice([0.0, 1.0])
        if end is not End.COMPLETED:
            follow_ups = ()
        return Ending(job.id, job.token, end, result, failure, delay, follow_ups)

    def _rescue(self) -> Callable[[Book, Moment], Any]:
        return lambda book, now: book.rescue(now, lambda holder: False)

    def _some_id(self) -> int:
        jobs = self._book.find(Filter(limit=100))
        return self._rng.choice(jobs).id if jobs else 1

    def _cancel(self) -> Callable[[Book, Moment], Any]:
        job_id = self._some_id()
        return lambda book, now: book.cancel(job_id, now)

    def _requeue(self) -> Callable[[Book, Moment], Any]:
        job_id = self._some_id()
        return lambda book, now: book.requeue(job_id, now)

    def _tick(self) -> Callable[[Book, Moment], Any]:
        at, job = self._time - self._time % 2, self._job()
        return lambda book, now: book.tick("schedule", at, job, now)

    def _pause(self) -> Callable[[Book, Moment], Any]:
        queue, paused = self._rng.choice(QUEUES), self._rng.random() < 0.5
        return lambda book, now: book.pause(queue, paused)

    def _prune(self) -> Callable[[Book, Moment], Any]:
        before = self._time - self._rng.choice([0.0, 3.0])
        states = (TaskState.COMPLETED, TaskState.CANCELLED)
        return lambda book, now: book.prune(states, before, 2)

    def _let_go(self) -> Callable[[Book, Moment], Any]:
        if len(self._holders) < 2:
            return self._claim()
        holder = self._holders.pop()
        return lambda book, now: book.let_go(holder, now)
