"""All books of jobs, driven at random with the same verbs at the same moments, answer and look alike after every step.

The one in memory is the model; what must hold of any book is checked on it, so on all. ``ENGINE_PROPERTY=long`` runs
for many minutes.
"""

import contextlib
import os
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, initialize, invariant, multiple, rule

from engine import TaskState
from engine.jobs._book import Book
from engine.jobs._moment import Moment
from engine.jobs._records import (
    Cancelled,
    Claim,
    Claimed,
    Claims,
    End,
    Ending,
    Failure,
    Filter,
    Gate,
    JobInfo,
    NewHolder,
    NewJob,
)
from engine.jobs.errors import AlreadyEnqueued
from tests.contracts.job_books import HOUR, KITS, START, YEAR, Desk

LONG = os.environ.get("ENGINE_PROPERTY") == "long"
LIVE = (TaskState.PENDING, TaskState.RUNNING)

QUEUES, NAMES = ["a", "b", "c"], ["f", "g"]
ALL_ROOMS: dict[str, int] = dict.fromkeys(QUEUES, 9)
#: Few of each, so that they meet.
locks = st.sampled_from([None, None, "l", "m"])
queues = st.sampled_from(QUEUES)
names = st.sampled_from(NAMES)
ends = st.sampled_from([*End, End.COMPLETED, End.RETRY])
waits = st.sampled_from([0.5, 1.0, 5.0, 30.0])
delays = st.sampled_from([0.0, 0.0, 1.0, 5.0])
jumps = st.sampled_from([HOUR, -HOUR, 10 * YEAR, -10 * YEAR])


@st.composite
def new_jobs(draw: st.DrawFn, queueing_locks: tuple[str | None, ...] = (None, None, "u", "v")) -> dict[str, Any]:
    """Draw a job; ``at`` and ``expires_at`` are seconds from the wall's present."""
    job: dict[str, Any] = {
        "queue": draw(queues),
        "name": draw(names),
        "args": "{}",
        "priority": draw(st.integers(-1, 1)),
        "lock": draw(locks),
        "queueing_lock": draw(st.sampled_from(queueing_locks)),
        "max_crashes": draw(st.integers(1, 2)),
    }
    time = draw(st.sampled_from([None, None, None, "delay", "at", "expires_in", "expires_at"]))
    if time is not None:
        job[time] = draw(waits if time in ("delay", "expires_in") else st.sampled_from([-5.0, 1.0, 5.0, 30.0]))
    return job


@st.composite
def claims(draw: st.DrawFn) -> dict[str, Any]:
    """Draw what is claimed: mostly all there is."""
    return {
        "queues": draw(st.one_of(st.just(ALL_ROOMS), st.just(ALL_ROOMS), st.dictionaries(queues, st.integers(0, 2)))),
        "limit": draw(st.sampled_from([9, 9, 2, 1, 0])),
        "passed_over": frozenset(draw(st.sampled_from(["", "", "f"]))),
        "look_ahead": draw(st.sampled_from([1000, 2, 1])),
        "alone": draw(st.booleans()),
    }


class Books(RuleBasedStateMachine):
    """Every verb on every book; ``do`` compares what they answer, and ``all_look_alike`` what they show."""

    jobs: Bundle[int] = Bundle("jobs")
    holders: Bundle[int] = Bundle("holders")
    runs: Bundle[Claimed] = Bundle("runs")  # also those that have ended, or are stale

    def __init__(self) -> None:
        super().__init__()
        self._stack = contextlib.ExitStack()
        self.desks: list[Desk] = []
        for kit in KITS.values():
            folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="engine-books-")))
            self.desks.append(Desk(self._stack.enter_context(kit(folder))))
        self.model = self.desks[0]
        self.seen: dict[int, JobInfo] = {}  # after the step before
        self.requeued: set[int] = set()  # in the step that was just done
        self.pruned = 0

    @property
    def now(self) -> Moment:
        """Say what time it is."""
        return self.model.now

    def do(self, operation: Callable[[Book, Moment], Any]) -> Any:
        """Do ``operation`` on all books; return what all of them answered."""
        answers = [_answer(desk, operation) for desk in self.desks]
        for name, answer in zip(KITS, answers, strict=True):
            assert answer == answers[0], f"{name} answered {answer}, the model {answers[0]}"
        return answers[0]

    def job(self, drawn: dict[str, Any], **more: Any) -> NewJob:
        """Make a job of what was drawn."""
        instants = {name: self.now.wall + drawn[name] for name in ("at", "expires_at") if name in drawn}
        return NewJob(**(drawn | instants | more))

    # -- verbs

    @initialize(target=jobs)
    def begin_with_a_job(self) -> int:
        (job,) = self.do(lambda book, now: book.enqueue([NewJob(queue="a", name="f", args="{}", lock="l")], now))
        return int(job)

    @initialize(target=holders)
    def begin_with_a_holder(self) -> int:
        return self._hold(YEAR)

    @rule(target=jobs, drawn=st.lists(new_jobs(), min_size=1, max_size=3))
    def enqueue(self, drawn: list[dict[str, Any]]) -> MultipleResults[int]:
        new = [self.job(each) for each in drawn]
        answer = self.do(lambda book, now: book.enqueue(new, now))
        return multiple(*answer) if isinstance(answer, list) else multiple()

    @rule(target=jobs, drawn=new_jobs(queueing_locks=(None,)), number=st.integers(0, 4))
    def enqueue_many(self, drawn: dict[str, Any], number: int) -> MultipleResults[int]:
        args = [f"[{n}]" for n in range(number)]
        return multiple(*self.do(lambda book, now: book.enqueue_many(self.job(drawn), args, now)))

    @rule(target=holders, lease=st.sampled_from([4.0, 40.0, YEAR]))
    def hold(self, lease: float) -> int:
        return self._hold(lease)

    def _hold(self, lease: float) -> int:
        new = NewHolder(name="w", pid=1, pid_started=0.0, namespace="", lease=lease)
        added: int = self.do(lambda book, now: book.hold(new, now))
        return added

    @rule(some=st.lists(holders, max_size=3))
    def renew(self, some: list[int]) -> None:
        self.do(lambda book, now: book.renew(some, now))

    @rule(holder=holders)
    def let_go(self, holder: int) -> None:
        self.do(lambda book, now: book.let_go(holder, now))

    @rule(dead=st.lists(holders, max_size=2))
    def rescue(self, dead: list[int]) -> None:
        self.do(lambda book, now: book.rescue(now, lambda holder: holder.id in dead))

    @rule(target=runs, holder=holders, drawn=claims())
    def claim(self, holder: int, drawn: dict[str, Any]) -> MultipleResults[Claimed]:
        return multiple(*self._claim_it(Claim(holder=holder, **drawn)))

    @rule(target=runs, alone=st.booleans())
    def claim_all(self, alone: bool) -> MultipleResults[Claimed]:
        """Claim by a holder that lives, whatever becomes of the others."""
        return multiple(*self._claim_it(Claim(holder=self._hold(40.0), queues=ALL_ROOMS, limit=9, alone=alone)))

    @rule(end=ends, delay=delays, asks_to_cancel=st.booleans())
    def end_one_that_runs(self, end: End, delay: float, asks_to_cancel: bool) -> None:
        """End the run of the oldest job that runs."""
        run = next((job for job in self.seen.values() if job.state is TaskState.RUNNING), None)
        if run is None:
            return
        if asks_to_cancel:
            assert self.do(lambda book, now: book.cancel(run.id, now)) is Cancelled.ASKED
        ending = Ending(run.id, run.token, end, delay=delay)
        (state,) = self.do(lambda book, now: book.end([ending], now))
        if asks_to_cancel:
            assert state is (TaskState.COMPLETED if end is End.COMPLETED else TaskState.CANCELLED)

    @rule(
        first=runs, second=st.one_of(st.none(), runs), end=ends, delay=delays, has_failure=st.booleans(),
        follow_ups=st.lists(new_jobs(), max_size=1),
    )  # fmt: skip
    def end(
        self, first: Claimed, second: Claimed | None, end: End, delay: float, has_failure: bool,
        follow_ups: list[dict[str, Any]],
    ) -> None:  # fmt: skip
        some = [first, second] if second else [first]
        endings = [
            Ending(
                run.id, run.token, end, result=f"{run.token}", delay=delay,
                failure=Failure(self.now.wall, run.attempt, run.token, "error", f"E: {end}") if has_failure else None,
                follow_ups=tuple(self.job(each, parent=run.id) for each in follow_ups),
            )
            for run in some
        ]  # fmt: skip
        states = self.do(lambda book, now: book.end(endings, now))
        have_claim = {job.id: job.token for job in self.seen.values() if job.state is TaskState.RUNNING}
        for run, state in zip(some, states, strict=True):
            assert (state is not None) == (have_claim.get(run.id) == run.token), f"{run} ended as {state}"
            if state is not None:
                del have_claim[run.id]

    @rule(run=runs)
    def report(self, run: Claimed) -> None:
        self.do(lambda book, now: book.report(run.id, run.token, f"{run.token}/9"))

    @rule(some=st.lists(holders, max_size=3))
    def cancels_asked(self, some: list[int]) -> None:
        self.do(lambda book, now: book.cancels_asked(some))

    @rule(job=st.one_of(jobs, st.just(999)))
    def cancel(self, job: int) -> None:
        answer = self.do(lambda book, now: book.cancel(job, now))
        assert answer in Cancelled

    @rule(job=jobs)
    def requeue(self, job: int) -> None:
        if self.do(lambda book, now: book.requeue(job, now)):
            self.requeued.add(job)

    @rule(states=st.lists(st.sampled_from(TaskState), unique=True), age=waits, limit=st.integers(0, 3))
    def prune(self, states: list[TaskState], age: float, limit: int) -> None:
        self.pruned += self.do(lambda book, now: book.prune(states, now.wall - age, limit))

    @rule(queue=queues, paused=st.booleans())
    def pause(self, queue: str, paused: bool) -> None:
        self.do(lambda book, now: book.pause(queue, paused))

    @rule(
        target=jobs, schedule=st.sampled_from("st"), ahead=st.sampled_from([-60.0, 0.0, 60.0, YEAR]), drawn=new_jobs()
    )
    def tick(self, schedule: str, ahead: float, drawn: dict[str, Any]) -> MultipleResults[int]:
        at, job = self.now.wall + ahead, self.job(drawn, schedule=schedule)
        ticked = self.do(lambda book, now: book.tick(schedule, at, job, now))
        self.do(lambda book, now: book.last_tick(schedule))
        return multiple() if ticked is None else multiple(ticked)

    @rule(
        some=st.lists(jobs, max_size=3), below=st.one_of(st.none(), jobs), limit=st.integers(0, 5),
        others=st.fixed_dictionaries({
            "states": st.lists(st.sampled_from(TaskState)).map(tuple),
            "names": st.lists(names).map(tuple),
            "queues": st.lists(queues).map(tuple),
            "oldest_first": st.booleans(),
        }),
    )  # fmt: skip
    def look(self, some: list[int], below: int | None, limit: int, others: dict[str, Any]) -> None:
        self.do(lambda book, now: book.find(Filter(ids=tuple(some), below=below, limit=limit, **others)))
        self.do(lambda book, now: book.states(some))

    # -- time

    @rule(seconds=waits)
    def wait(self, seconds: float) -> None:
        for desk in self.desks:
            desk.wait(seconds)

    @rule(by=jumps)
    def set_the_clock(self, by: float) -> None:
        for desk in self.desks:
            desk.set_the_clock(by)

    @rule()
    def reboot(self) -> None:
        for desk in self.desks:
            desk.reboot()

    # -- what holds

    @invariant()
    def all_look_alike(self) -> None:
        shown = [desk.everything() for desk in self.desks]
        for name, each in zip(KITS, shown, strict=True):
            assert each == shown[0], f"{name} shows {each}, the model {shown[0]}"

    @invariant()
    def no_job_is_lost_and_each_ends_once(self) -> None:
        rows = {job.id: job for job in self.model.find(limit=10**6)}
        gone = self.seen.keys() - rows.keys()
        assert all(self.seen[each].state not in LIVE for each in gone)
        assert len(gone) == self.pruned
        for job_id, before in self.seen.items():
            after = rows.get(job_id)
            if after is None:
                continue
            assert after.token >= before.token
            if before.state not in LIVE and job_id not in self.requeued:
                assert after == before, f"{before} ended, and became {after}"
        self.seen, self.pruned = rows, 0
        self.requeued.clear()

    @invariant()
    def rows_are_whole(self) -> None:
        holders = {each.id for each in self.model.do(lambda book, now: book.statistics(now)).holders}
        for job in self.seen.values():
            assert (job.gate is not None) == (job.state is TaskState.PENDING)
            assert (job.holder is not None) == (job.state is TaskState.RUNNING)
            assert (job.completed_at is None) == (job.state in LIVE)
            assert 0 <= job.attempt <= job.token
            assert job.crashes >= 0
            assert job.suspect or job.gate is not Gate.ALONE
            assert holders or job.state is not TaskState.RUNNING

    @invariant()
    def a_lock_is_held_once_and_nobody_waits_for_one_that_is_free(self) -> None:
        held = Counter(job.lock for job in self.seen.values() if job.lock and job.state is TaskState.RUNNING)
        assert all(number == 1 for number in held.values()), held
        having_turn = {(job.lock, job.queue) for job in self.seen.values() if job.gate in (Gate.READY, Gate.ALONE)}
        for job in self.seen.values():
            if job.gate is Gate.LOCKED:
                assert job.lock in held or (job.lock, job.queue) in having_turn, f"{job} waits for nothing"

    @invariant()
    def a_queueing_lock_has_one_job_that_waits(self) -> None:
        waiting = Counter(job.queueing_lock for job in self.seen.values() if job.gate is not None and not job.token)
        assert all(number == 1 for lock, number in waiting.items() if lock is not None), waiting

    def teardown(self) -> None:
        """Run all that is left, and see that nothing is stuck; then close the books."""
        with self._stack:
            self._run_all()

    def _run_all(self) -> None:
        last = Moment(START.wall + 100 * YEAR, self.now.steady + YEAR, self.now.boot)
        for desk in self.desks:
            desk.now = last
        self.do(lambda book, now: book.rescue(now, lambda holder: True))
        for queue in QUEUES:
            self.pause(queue, False)
        holder = self._hold(YEAR)
        while self._run_some(holder):
            self.all_look_alike()
        assert self.model.find(states=LIVE) == []

    def _run_some(self, holder: int) -> bool:
        """Run what can be claimed; it completes, so this comes to an end."""
        found: list[Claimed] = []
        for alone in (True, False):
            claim = Claim(holder=holder, queues=ALL_ROOMS, limit=9, alone=alone)
            found += self._claim_it(claim)
        endings = [Ending(run.id, run.token, End.COMPLETED) for run in found]
        assert None not in self.do(lambda book, now: book.end(endings, now))
        return bool(found)

    def _claim_it(self, claim: Claim) -> tuple[Claimed, ...]:
        claimed: Claims = self.do(lambda book, now: book.claim(claim, now))
        return claimed.jobs


def _answer(desk: Desk, operation: Callable[[Book, Moment], Any]) -> Any:
    try:
        return desk.do(operation)
    except AlreadyEnqueued as error:
        return ("already enqueued", error.queueing_lock, error.job_id, str(error))


Books.TestCase.settings = settings(
    max_examples=2000 if LONG else 60,
    stateful_step_count=60 if LONG else 40,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
TestBooks = Books.TestCase
