"""What every book of jobs promises: into the queue, claims and their order, from outside, periods, looks.

Locks are in ``test_job_locks.py``, runs and how they end in ``test_job_runs.py``, holders in ``test_job_holders.py``.
"""

from collections.abc import Sequence
from typing import Any

import pytest

from engine import TaskState
from engine.jobs._records import Cancelled, Claimed, Claims, End, Ending, Failure, Gate, QueueStatistics
from engine.jobs.errors import AlreadyEnqueued
from tests.contracts.hostile_texts import HOSTILE_TEXTS
from tests.contracts.job_books import HOUR, START, YEAR, Desk, failure_of, new_job

TERMINAL_ENDS = [End.COMPLETED, End.FAILED, End.CANCELLED]
COMING_BACK = [End.RETRY, End.SNOOZE, End.GIVE_BACK, End.CRASH]

# -- into the queue ---------------------------------------------------------------------------------------------------


def test_a_row_is_what_was_enqueued(desk: Desk) -> None:
    job: dict[str, Any] = {
        "queue": "mail", "name": "send", "args": '{"to": "x"}', "priority": -7, "lock": "l", "queueing_lock": "u",
        "max_crashes": 5, "parent": 12, "schedule": "daily", "expires_at": START.wall + 9,
    }  # fmt: skip
    info = desk.info(desk.add(**job))
    assert {name: getattr(info, name) for name in job} == job
    assert (info.state, info.gate, info.attempt, info.token, info.crashes) == (TaskState.PENDING, Gate.READY, 0, 0, 0)
    assert info.created_at == START.wall
    assert (info.suspect, info.cancel_requested) == (False, False)
    assert {info.due_at, info.started_at, info.completed_at, info.holder, info.lease_until} == {None}
    assert {info.result, info.progress, info.error} == {None}


def test_ids_go_up_in_the_order_of_the_jobs_and_are_never_used_again(desk: Desk) -> None:
    first, second, third = desk.add_all([{"name": name} for name in "abc"])
    assert first < second < third
    assert [desk.info(each).name for each in (first, second, third)] == ["a", "b", "c"]
    desk.cancel(third)
    desk.wait(1)
    assert desk.do(lambda book, now: book.prune([TaskState.CANCELLED], now.wall, 10)) == 1
    assert desk.add() > third


def test_nothing_enqueued_is_nothing(desk: Desk) -> None:
    assert desk.add_all([]) == []
    assert list(desk.do(lambda book, now: book.enqueue_many(new_job(), [], now))) == []
    assert desk.find() == []


def test_many_are_enqueued_that_differ_in_their_arguments(desk: Desk) -> None:
    before = desk.add()
    ids = desk.do(lambda book, now: book.enqueue_many(new_job(name="g", priority=3), ["[1]", "[2]"], now))
    assert list(ids) == [before + 1, before + 2]
    assert [(job.args, job.name, job.priority, job.gate) for job in desk.find(ids=tuple(ids))] == [
        ("[1]", "g", 3, Gate.READY),
        ("[2]", "g", 3, Gate.READY),
    ]


@pytest.mark.parametrize("ahead", [{"delay": 5.0}, {"at": START.wall + 5}])
def test_a_job_for_later_is_claimed_when_it_is_due(desk: Desk, ahead: dict[str, float]) -> None:
    """T1: here nobody sets the clock."""
    holder, job = desk.hold(), desk.add(**ahead)
    assert desk.gate(job) is Gate.LATER
    assert desk.info(job).due_at == (START.steady if "delay" in ahead else START.wall) + 5
    assert desk.claim(holder) == Claims((), suspects=False, next_due=5.0)
    desk.wait(4.5)
    assert desk.claim(holder) == Claims((), suspects=False, next_due=0.5)
    desk.wait(0.5)
    assert desk.claim_one(holder).id == job
    assert desk.info(job).due_at is None


@pytest.mark.parametrize("not_ahead", [{"delay": 0.0}, {"at": START.wall}, {"at": START.wall - YEAR}, {"at": -1.0}])
def test_a_job_for_now_or_for_the_past_is_ready(desk: Desk, not_ahead: dict[str, float]) -> None:
    assert desk.gate(desk.add(**not_ahead)) is Gate.READY


def test_the_second_job_with_a_queueing_lock_is_refused_with_the_id_of_the_first(desk: Desk) -> None:
    """J10: the part of it that needs no threads."""
    first = desk.add(queueing_lock="daily")
    with pytest.raises(AlreadyEnqueued, match="'daily', with which job 1 waits") as refused:
        desk.add(queueing_lock="daily", queue="another", name="g")
    assert (refused.value.queueing_lock, refused.value.job_id) == ("daily", first)
    assert len(desk.find()) == 1
    assert desk.add(queueing_lock="Daily") > first


def test_jobs_of_one_call_are_enqueued_all_or_none(desk: Desk) -> None:
    """J10: one that is refused takes the others of its call with it."""
    desk.add(queueing_lock="taken")
    expired = desk.add(queueing_lock="over", expires_in=1.0)
    desk.wait(1)
    before = desk.everything()
    with pytest.raises(AlreadyEnqueued):
        desk.add_all([{}, {"queueing_lock": "over"}, {"queueing_lock": "free"}, {"queueing_lock": "taken"}, {}])
    assert desk.everything() == before
    assert desk.state(expired) is TaskState.PENDING


def test_two_jobs_of_one_call_with_one_queueing_lock_are_refused(desk: Desk) -> None:
    """J10: the one in the way is not there, so it has no id."""
    with pytest.raises(AlreadyEnqueued, match="'daily', with which another job of this call waits") as refused:
        desk.add_all([{"queueing_lock": "daily"}, {}, {"queueing_lock": "daily"}])
    assert (refused.value.queueing_lock, refused.value.job_id) == ("daily", None)
    assert desk.find() == []


def test_a_queueing_lock_is_free_when_its_job_has_been_claimed_or_cancelled(desk: Desk) -> None:
    """J10: only those that wait for their first claim are in the way."""
    first = desk.add(queueing_lock="daily")
    desk.cancel(first)
    second = desk.add(queueing_lock="daily")
    assert desk.claim_one(desk.hold()).id == second
    third = desk.add(queueing_lock="daily")
    with pytest.raises(AlreadyEnqueued) as refused:
        desk.add(queueing_lock="daily")
    assert refused.value.job_id == third


@pytest.mark.parametrize("end", COMING_BACK)
def test_a_job_that_comes_back_is_not_kept_out_by_its_queueing_lock(desk: Desk, end: End) -> None:
    """J10: retry, snooze, crash and what is given back violate no queueing lock."""
    holder, job = desk.hold(), desk.add(queueing_lock="daily")
    run = desk.claim_one(holder)
    desk.add(queueing_lock="daily")
    assert desk.end(run, end) is TaskState.PENDING
    with pytest.raises(AlreadyEnqueued):
        desk.add(queueing_lock="daily")
    assert desk.claim_one(holder).id == job


def test_a_rescued_job_is_not_kept_out_by_its_queueing_lock(desk: Desk) -> None:
    """J10: nor does a rescue violate it."""
    holder, job = desk.hold(), desk.add(queueing_lock="daily")
    desk.claim_one(holder)
    desk.add(queueing_lock="daily")
    assert [each.id for each in desk.rescue_from(holder)] == [job]
    assert desk.claim_one(desk.hold(), alone=True).id == job


def test_a_requeued_job_is_not_kept_out_by_its_queueing_lock(desk: Desk) -> None:
    """E102: a job that was cancelled before its first claim comes back beside another with its queueing lock."""
    first = desk.add(queueing_lock="daily")
    desk.cancel(first)
    second = desk.add(queueing_lock="daily")
    assert desk.requeue(first)
    assert [run.id for run in desk.claim(desk.hold()).jobs] == [first, second]


def test_an_expired_job_gives_its_queueing_lock_to_a_new_one(desk: Desk) -> None:
    """J10: what will never run keeps nothing out, though no worker has looked since."""
    first = desk.add(queueing_lock="daily", expires_in=10.0, lock="l")
    desk.wait(10)
    second = desk.add(queueing_lock="daily")
    assert desk.state(first) is TaskState.CANCELLED
    assert desk.info(first).completed_at == desk.now.wall
    assert desk.state(second) is TaskState.PENDING


# -- expiry -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("expires", [{"expires_in": 10.0}, {"expires_at": START.wall + 10}])
def test_a_job_that_expires_is_claimed_before_and_cancelled_after(desk: Desk, expires: dict[str, float]) -> None:
    holder = desk.hold()
    in_time, later, elsewhere = desk.add(**expires), desk.add(delay=5.0, **expires), desk.add(queue="other", **expires)
    assert desk.info(in_time).expires_at == (START.steady if "expires_in" in expires else START.wall) + 10
    desk.wait(9.5)
    assert desk.claim_one(holder).id == in_time
    desk.wait(0.5)
    assert desk.claim(holder) == Claims((), suspects=False, next_due=None)
    assert desk.state(in_time) is TaskState.RUNNING
    for job in (later, elsewhere):  # in any queue, whatever it waited for
        assert (desk.state(job), desk.gate(job)) == (TaskState.CANCELLED, None)
        assert desk.info(job).completed_at == desk.now.wall


@pytest.mark.parametrize("end", COMING_BACK)
def test_a_job_that_was_started_in_time_does_not_expire(desk: Desk, end: End) -> None:
    holder, job = desk.hold(), desk.add(expires_in=10.0)
    desk.finish(holder, end=end)
    desk.wait(YEAR)
    assert desk.claim_one(holder).id == job


def test_a_requeued_job_has_not_expired(desk: Desk) -> None:
    """E102: a job that expired, and is wanted all the same, is not cancelled again."""
    holder, job = desk.hold(), desk.add(expires_in=10.0)
    desk.wait(10)
    assert desk.claim(holder).jobs == ()
    assert desk.requeue(job)
    assert desk.claim_one(holder).id == job


# -- claims -----------------------------------------------------------------------------------------------------------


def test_claims_are_by_priority_and_then_by_id_across_queues(desk: Desk) -> None:
    """Q17: the highest priority first, and of one priority the first enqueued, though all are of one instant."""
    queues, priorities = ["a", "b", "a", "a", "b", "b"], [0, 5, 5, -3, 0, 5]
    ids = desk.add_all([{"queue": q, "priority": p} for q, p in zip(queues, priorities, strict=True)])
    expected = [ids[1], ids[2], ids[5], ids[0], ids[4], ids[3]]
    holder = desk.hold()
    assert [run.id for run in desk.claim(holder, "a", "b", limit=4).jobs] == expected[:4]
    assert [desk.claim_one(holder, "b", "a").id for _ in range(2)] == expected[4:]


def test_a_job_that_comes_back_keeps_its_place(desk: Desk) -> None:
    """Q17: order is by id, so what was given back is before what was enqueued after it."""
    holder = desk.hold()
    first, second = desk.add(), desk.add()
    desk.finish(holder, end=End.GIVE_BACK)
    assert [run.id for run in desk.claim(holder).jobs] == [first, second]


def test_a_claim_gives_each_queue_its_room_and_all_the_limit(desk: Desk) -> None:
    holder = desk.hold()
    a = desk.add_all([{"queue": "a"}] * 4)
    b = desk.add_all([{"queue": "b", "priority": 1}] * 4)
    desk.add_all([{"queue": "no room", "priority": 9}, {"queue": "not asked for", "priority": 9}])
    rooms = {"a": 3, "b": 2, "no room": 0}
    assert [run.id for run in desk.claim(holder, rooms=rooms, limit=4).jobs] == [*b[:2], *a[:2]]
    assert [run.id for run in desk.claim(holder, rooms=rooms, limit=9).jobs] == [b[2], b[3], a[2], a[3]]
    assert desk.claim(holder, rooms=rooms, limit=9).jobs == ()


def test_a_claim_of_none_opens_what_is_due_and_takes_nothing(desk: Desk) -> None:
    holder, later, ready = desk.hold(), desk.add(delay=5.0), desk.add()
    desk.wait(5)
    assert desk.claim(holder, limit=0) == Claims((), suspects=False, next_due=None)
    assert (desk.gate(later), desk.gate(ready)) == (Gate.READY, Gate.READY)


def test_what_is_claimed_says_all_that_its_worker_needs(desk: Desk) -> None:
    holder = desk.hold("host:7:w")
    job = desk.add(queue="mail", name="send", args='{"a":1}', priority=2, lock="l", max_crashes=4, then='[{"n":1}]')
    desk.wait(3)
    assert desk.claim_one(holder, "mail") == Claimed(
        job, 1, "mail", "send", '{"a":1}', 1, 2, 0, START.wall, "l", False, 4, '[{"n":1}]'
    )
    info = desk.info(job)
    assert (info.state, info.gate, info.attempt, info.token) == (TaskState.RUNNING, None, 1, 1)
    assert (info.holder, info.started_at, info.lease_until) == ("host:7:w", desk.now.wall, START.steady + 30)


def test_each_job_is_claimed_once(desk: Desk) -> None:
    """Q8: the part of it that needs no processes."""
    ids = desk.add_all([{"queue": "ab"[n % 2]} for n in range(40)])
    holders = [desk.hold() for _ in range(4)]
    claimed: list[int] = []
    for turn in range(12):
        claimed += [run.id for run in desk.claim(holders[turn % 4], "a", "b", limit=turn % 5).jobs]
    claimed += [run.id for run in desk.claim(holders[0], "a", "b").jobs]
    assert sorted(claimed) == ids


def test_a_lane_without_room_is_passed_over(desk: Desk) -> None:
    holder = desk.hold()
    full, free = desk.add(name="full", priority=9), desk.add(name="free")
    assert desk.claim_one(holder, passed_over=frozenset({"full", "unknown"})).id == free
    assert desk.gate(full) is Gate.READY
    assert desk.claim_one(holder).id == full


def test_a_look_goes_past_so_many_of_each_queue_and_no_more(desk: Desk) -> None:
    holder = desk.hold()
    a = desk.add_all([{"queue": "a", "name": name} for name in ["full", "f", "full", "f"]])
    b = desk.add_all([{"queue": "b", "name": name} for name in ["full", "full", "f"]])
    look: dict[str, Any] = {"passed_over": frozenset({"full"}), "look_ahead": 2}
    assert [run.id for run in desk.claim(holder, "a", "b", **look).jobs] == [a[1]]
    assert desk.claim(holder, "a", "b", **look).jobs == ()
    look["look_ahead"] = 3
    assert [run.id for run in desk.claim(holder, "a", "b", **look).jobs] == [a[3], b[2]]


def test_a_paused_queue_is_as_if_nobody_asked_for_it(desk: Desk) -> None:
    holder = desk.hold()
    desk.add(queue="p")
    desk.claim_one(holder, "p")
    desk.rescue_from(holder)
    ready, later = desk.add(queue="p", priority=9), desk.add(queue="p", delay=5.0)
    other, holder = desk.add(), desk.hold()
    desk.pause("p")
    desk.wait(5)
    desk.add(queue="p", delay=1.0)
    assert desk.claim(holder, "p", alone=True) == Claims((), suspects=False, next_due=None)
    claims = desk.claim(holder, "p", "q")
    assert ([run.id for run in claims.jobs], claims.suspects, claims.next_due) == ([other], False, None)
    assert desk.gate(later) is Gate.LATER
    desk.pause("p", False)
    claims = desk.claim(holder, "p")
    assert ([run.id for run in claims.jobs], claims.suspects, claims.next_due) == ([ready, later], True, 1.0)


def test_a_claim_opens_what_is_due_in_its_queues_alone(desk: Desk) -> None:
    holder = desk.hold()
    mine, others = desk.add(delay=1.0), desk.add(queue="other", delay=1.0)
    desk.wait(2)
    assert desk.claim_one(holder).id == mine
    assert desk.gate(others) is Gate.LATER


def test_the_next_due_is_the_soonest_on_either_clock_in_the_queues_asked_for(desk: Desk) -> None:
    holder = desk.hold()
    desk.add(delay=30.0)
    desk.add(at=START.wall + 20)
    desk.add(queue="other", delay=10.0)
    assert desk.claim(holder).next_due == 20.0
    desk.set_the_clock(-HOUR)
    assert desk.claim(holder).next_due == 30.0
    assert desk.claim(holder, "q", "other").next_due == 10.0
    assert desk.claim(holder, "empty").next_due is None


@pytest.mark.parametrize("alone", [False, True])
def test_a_holder_that_is_not_there_gets_nothing_and_changes_nothing(desk: Desk, alone: bool) -> None:
    """J1: a worker that has lost its lease claims nothing more by it."""
    lost = desk.hold()
    desk.add()
    desk.claim_one(lost)
    desk.rescue_from(lost)
    desk.add_all([{}, {"delay": 1.0}, {"expires_in": 1.0}])
    desk.wait(2)
    before = desk.everything()
    for holder in (lost, lost + 1, 0, -1):
        assert desk.claim(holder, alone=alone) == Claims((), suspects=False, next_due=None)
    assert desk.everything() == before


# -- from outside -----------------------------------------------------------------------------------------------------


def test_a_cancel_answers_by_what_it_found(desk: Desk) -> None:
    """J13: what waits is cancelled now, what runs is asked, what has ended stays as it is."""
    holder = desk.hold()
    running, waiting = desk.add(), desk.add(delay=5.0)
    run = desk.claim_one(holder)
    assert desk.cancel(waiting) is Cancelled.NOW
    assert (desk.state(waiting), desk.gate(waiting)) == (TaskState.CANCELLED, None)
    assert desk.info(waiting).completed_at == START.wall
    assert [desk.cancel(running) for _ in range(2)] == [Cancelled.ASKED] * 2
    assert (desk.state(running), desk.info(running).cancel_requested) == (TaskState.RUNNING, True)
    desk.end(run)
    before = desk.everything()
    assert [desk.cancel(each) for each in (running, waiting)] == [Cancelled.TOO_LATE] * 2
    assert desk.everything() == before


@pytest.mark.parametrize("job_id", [0, -1, 99, 2**63, -(2**63) - 1, 10**30])
def test_a_job_that_is_not_there_is_unknown_to_every_verb(desk: Desk, job_id: int) -> None:
    desk.add()
    before = desk.everything()
    assert desk.cancel(job_id) is Cancelled.UNKNOWN
    assert not desk.requeue(job_id)
    assert desk.failures(job_id) == []
    assert desk.find(ids=(job_id,)) == []
    assert desk.do(lambda book, now: book.states([job_id])) == {}
    assert not desk.do(lambda book, now: book.report(job_id, 1, "{}"))
    assert desk.everything() == before
    assert desk.do(lambda book, now: book.end([Ending(job_id, 1, End.COMPLETED)], now)) == [None]


def test_those_that_are_to_be_stopped_are_told_to_their_holders(desk: Desk) -> None:
    mine, other = desk.hold(), desk.hold()
    ids = desk.add_all([{}] * 4)
    for run in desk.claim(mine, limit=3).jobs:
        assert run.id in ids[:3]
    desk.finish(other, end=End.GIVE_BACK)
    desk.claim_one(other)
    for job in (ids[2], ids[0], ids[3]):
        desk.cancel(job)

    def asked(*holders: int) -> list[tuple[int, int]]:
        return desk.do(lambda book, now: book.cancels_asked(holders))

    assert asked(mine) == [(ids[0], 1), (ids[2], 1)]
    assert asked(other, mine) == [(ids[0], 1), (ids[2], 1), (ids[3], 2)]
    assert asked() == []


@pytest.mark.parametrize("end", TERMINAL_ENDS)
def test_a_requeued_job_begins_anew(desk: Desk, end: End) -> None:
    holder, job = desk.hold(), desk.add(delay=1.0)
    desk.wait(1)
    desk.finish(holder, end=End.CRASH)
    run = desk.claim_one(holder)
    desk.do(lambda book, now: book.report(run.id, run.token, "0.5"))
    desk.end(run, end, result='"r"', failure=failure_of(run))
    assert desk.requeue(job)
    info = desk.info(job)
    assert (info.state, info.gate, info.attempt, info.crashes) == (TaskState.PENDING, Gate.READY, 0, 0)
    assert (info.token, info.holder, info.due_at) == (3, None, None)
    assert {info.result, info.progress, info.completed_at} == {None}
    assert len(desk.failures(job)) == 1
    again = desk.claim_one(holder)
    assert (again.id, again.token, again.attempt) == (job, 4, 1)


def test_a_run_from_before_a_requeue_is_fenced(desk: Desk) -> None:
    """J1: the token goes on, so an old worker does not end the new run."""
    holder, job = desk.hold(), desk.add()
    old = desk.claim_one(holder)
    desk.end(old, End.FAILED)
    desk.requeue(job)
    new = desk.claim_one(holder)
    assert desk.end(old) is None
    assert desk.end(new) is TaskState.COMPLETED


def test_what_has_not_ended_is_not_requeued(desk: Desk) -> None:
    holder = desk.hold()
    running, waiting = desk.add(), desk.add()
    desk.claim_one(holder)
    before = desk.everything()
    assert [desk.requeue(job) for job in (running, waiting)] == [False, False]
    assert desk.everything() == before


def test_a_prune_deletes_what_ended_long_ago_in_batches(desk: Desk) -> None:
    """Q16: the part of it that needs no size."""
    holder, live = desk.hold(), desk.add(queue="other")
    ids = []
    for end in (End.COMPLETED, End.FAILED, End.COMPLETED, End.COMPLETED):
        ids.append(desk.add())
        run = desk.claim_one(holder)
        desk.end(run, end, failure=failure_of(run))
        desk.wait(1)

    def prune(limit: int, *states: TaskState) -> int:
        return desk.do(lambda book, now: book.prune(states, START.wall + 3, limit))

    assert prune(10) == 0
    assert prune(1, TaskState.COMPLETED, TaskState.FAILED) == 1
    assert [job.id for job in desk.find(queues=("q",))] == ids[1:]  # the first that completed
    assert desk.failures(ids[0]) == []
    assert prune(10, TaskState.FAILED, TaskState.COMPLETED, TaskState.PENDING, TaskState.RUNNING) == 2
    assert [job.id for job in desk.find()] == [live, ids[3]]  # that one ended at the bound, not before it
    assert prune(10, *TaskState) == 0


def test_a_prune_takes_one_state_after_the_other(desk: Desk) -> None:
    holder = desk.hold()
    first, second = desk.add(), desk.add()
    desk.finish(holder, end=End.FAILED)
    desk.wait(1)
    desk.finish(holder)
    states = [TaskState.COMPLETED, TaskState.FAILED]
    assert desk.do(lambda book, now: book.prune(states, now.wall + 1, 1)) == 1
    assert [job.id for job in desk.find()] == [first]
    assert second != first


def test_a_pause_is_remembered_before_there_is_a_job(desk: Desk) -> None:
    desk.pause("q")
    desk.pause("q")
    assert desk.queue() == QueueStatistics(queue="q", paused=True)
    desk.add()
    assert desk.claim(desk.hold()).jobs == ()
    desk.pause("q", False)
    desk.pause("another", False)
    assert [(each.queue, each.paused) for each in desk.do(lambda book, now: book.statistics(now)).queues] == [
        ("q", False)
    ]


# -- periods ----------------------------------------------------------------------------------------------------------


def test_a_period_is_ticked_once_whoever_ticks(desk: Desk) -> None:
    """T4: of many engines with one table of periods, one enqueues the job of each period."""
    at = START.wall
    assert desk.do(lambda book, now: book.last_tick("daily")) is None
    job = desk.tick("daily", at, name="report")
    assert job is not None
    assert (desk.info(job).name, desk.info(job).schedule, desk.gate(job)) == ("report", "daily", Gate.READY)
    assert [desk.tick("daily", at) for _ in range(3)] == [None] * 3
    assert desk.tick("daily", at - 60) is None  # one that is late
    assert desk.tick("weekly", at) == job + 1
    assert desk.tick("daily", at + 60) == job + 2
    assert desk.do(lambda book, now: book.last_tick("daily")) == at + 60
    assert len(desk.find()) == 3


def test_a_period_without_a_job_is_noted(desk: Desk) -> None:
    """T4: what is not caught up with is ticked all the same."""
    assert desk.do(lambda book, now: book.tick("daily", 100.0, None, now)) is None
    assert desk.do(lambda book, now: book.last_tick("daily")) == 100.0
    assert desk.tick("daily", 100.0) is None
    assert desk.find() == []


def test_a_period_whose_queueing_lock_is_taken_counts_as_ticked(desk: Desk) -> None:
    """T4: the job of the period before still waits, and one is enough."""
    waiting = desk.tick("daily", 100.0, queueing_lock="daily")
    assert waiting is not None
    assert desk.tick("daily", 200.0, queueing_lock="daily") is None
    assert desk.do(lambda book, now: book.last_tick("daily")) == 200.0
    desk.cancel(waiting)
    assert desk.tick("daily", 200.0, queueing_lock="daily") is None
    assert desk.tick("daily", 300.0, queueing_lock="daily") == waiting + 1


def test_a_clock_that_was_years_ahead_does_not_end_a_schedule(desk: Desk) -> None:
    """T4, T1: a period from a clock that was wrong is forgotten; one of a clock that is a little ahead is not."""
    assert desk.tick("daily", START.wall + 24 * HOUR) is not None
    assert desk.tick("daily", START.wall) is None
    assert desk.tick("daily", START.wall + 10 * YEAR) is not None
    assert desk.do(lambda book, now: book.last_tick("daily")) == START.wall + 10 * YEAR
    assert desk.tick("daily", START.wall) is not None
    assert desk.do(lambda book, now: book.last_tick("daily")) == START.wall


# -- looks ------------------------------------------------------------------------------------------------------------


def test_a_look_finds_what_all_its_parts_describe(desk: Desk) -> None:
    holder = desk.hold()
    a, b, c, d = desk.add_all([{"queue": q, "name": n} for q, n in (("x", "f"), ("x", "g"), ("y", "f"), ("z", "h"))])
    desk.finish(holder, "x")

    def found(**wanted: Any) -> list[int]:
        return [job.id for job in desk.find(**wanted)]

    assert found() == [a, b, c, d]
    assert found(oldest_first=False) == [d, c, b, a]
    assert found(ids=(d, a, a, 99)) == [a, d]
    assert found(queues=("x", "z")) == [a, b, d]
    assert found(names=("f", "unknown")) == [a, c]
    assert found(states=(TaskState.PENDING,)) == [b, c, d]
    assert found(states=(TaskState.PENDING, TaskState.COMPLETED), queues=("x",), names=("f",)) == [a]
    assert found(states=(TaskState.RUNNING,)) == []


def test_pages_follow_each_other_in_both_directions(desk: Desk) -> None:
    ids = desk.add_all([{"queue": "ab"[n % 2]} for n in range(10)])

    def page(below: int | None, **wanted: Any) -> list[int]:
        return [job.id for job in desk.find(queues=("a",), limit=2, below=below, **wanted)]

    newest = list(reversed(ids[::2]))
    assert page(None, oldest_first=False) == newest[:2]
    assert page(newest[1], oldest_first=False) == newest[2:4]
    assert page(newest[3], oldest_first=False) == newest[4:]
    assert page(newest[4], oldest_first=False) == []
    assert page(ids[2]) == [ids[4], ids[6]]
    assert desk.find(limit=0) == []


def test_jobs_are_found_by_the_one_that_they_follow(desk: Desk) -> None:
    first, second = desk.add(), desk.add()
    a, _, b = desk.add(parent=first), desk.add(parent=second), desk.add(parent=first)
    assert [each.id for each in desk.find(parent=first)] == [a, b]
    assert [each.id for each in desk.find(parent=first, below=b, oldest_first=False)] == [a]
    assert desk.find(parent=2**70) == []


def test_states_are_told_of_those_that_are_there(desk: Desk) -> None:
    holder = desk.hold()
    done, waiting = desk.add(), desk.add()
    desk.finish(holder)
    assert desk.do(lambda book, now: book.states([waiting, 99, done, done])) == {
        done: TaskState.COMPLETED,
        waiting: TaskState.PENDING,
    }
    assert desk.do(lambda book, now: book.states([])) == {}


def test_statistics_count_every_job_once(desk: Desk) -> None:
    assert desk.do(lambda book, now: book.statistics(now)).counters == {"fenced": 0, "rescued": 0, "lost_holders": 0}
    holder, lost = desk.hold("one"), desk.hold("two")
    desk.add_all([{"queue": "b"}])
    desk.claim_one(lost, "b")
    desk.rescue_from(lost)
    desk.add_all([{"lock": "l", "priority": 9}, {"lock": "l", "priority": 8}, {"delay": 50.0}, {}, {}, {}, {}])
    running = [run for run in desk.claim(holder, limit=5).jobs if run.priority != 9]
    for run, end in zip(running, TERMINAL_ENDS, strict=False):
        desk.end(run, end)
    desk.wait(2)
    desk.add()
    desk.wait(5)
    statistics = desk.do(lambda book, now: book.statistics(now))
    assert statistics.queues == (
        QueueStatistics(queue="b", suspects=1),
        QueueStatistics(
            queue="q", ready=1, later=1, locked=1, running=2, completed=1, failed=1, cancelled=1, oldest_ready=5.0
        ),
    )
    assert [(each.id, each.name, each.running) for each in statistics.holders] == [(holder, "one", 2)]
    assert statistics.counters == {"fenced": 0, "rescued": 1, "lost_holders": 1}


def test_an_age_is_never_below_nothing(desk: Desk) -> None:
    """T1: somebody set the clock back since the job was enqueued."""
    desk.add()
    desk.set_the_clock(-HOUR)
    assert desk.queue().oldest_ready == 0.0


HOSTILE = [
    "'; DROP TABLE jobs; --", '" OR 1=1', "a\x00b", "%_*?[", "é\u0301 \U0001f9e8 \u202e", "x" * 5000, "NULL", "0", " ",
    "\\'; \r\n\x1b[31m", ":name ?1 @a $b", "COLLATE NOCASE",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_text_comes_back_as_it_was_and_means_nothing_else(desk: Desk, text: str) -> None:
    """X2: as queue, name, argument, lock, queueing lock, schedule, holder, result, progress and error."""
    desk.add(queue="bystander")
    holder = desk.hold(text)
    job = desk.add(queue=text, name=text, args=text, lock=text, queueing_lock=text, schedule=text, then=text)
    second = desk.add(queue=text, lock=text)
    with pytest.raises(AlreadyEnqueued):
        desk.add(queueing_lock=text)
    desk.pause(text)
    assert desk.claim(holder, text).jobs == ()
    desk.pause(text, False)
    run = desk.claim_one(holder, text)
    assert (run.queue, run.name, run.args, run.lock, run.then) == (text,) * 5
    assert desk.claim(holder, text).jobs == ()
    assert desk.gate(second) is Gate.LOCKED
    assert desk.info(job).holder == text
    assert desk.do(lambda book, now: book.report(run.id, run.token, text))
    failure = failure_of(run, text)
    desk.end(run, End.COMPLETED, result=text, failure=failure)
    (info,) = desk.find(queues=(text,), names=(text,), states=(TaskState.COMPLETED,))
    assert (info.queue, info.name, info.args, info.lock, info.queueing_lock) == (text,) * 5
    assert (info.schedule, info.result, info.progress) == (text,) * 3
    assert desk.failures(job) == [failure]
    assert desk.queue(text).completed == 1
    assert desk.do(lambda book, now: book.tick(text, 1.0, None, now)) is None
    assert desk.do(lambda book, now: book.last_tick(text)) == 1.0
    assert desk.queue("bystander").ready == 1


def test_ten_thousand_texts_come_back_as_they_were_and_mean_nothing_else(desk: Desk) -> None:
    """X2: as queue, name, argument, lock, queueing lock, schedule, progress and error, in claims and in looks."""
    assert len(set(HOSTILE_TEXTS)) == 10_000
    holder = desk.hold(HOSTILE_TEXTS[0])
    for start in range(0, len(HOSTILE_TEXTS), 500):  # a claim of ten thousand queues at once would take a minute
        check_texts(desk, holder, HOSTILE_TEXTS[start : start + 500])


def check_texts(desk: Desk, holder: int, texts: Sequence[str]) -> None:
    ids = desk.add_all([
        {"queue": text, "name": text, "lock": text, "queueing_lock": text, "args": text, "then": text, "schedule": text}
        for text in texts
    ])  # fmt: skip
    for text in texts[::7]:
        desk.pause(text)
    runs = desk.claim(holder, rooms=dict.fromkeys(texts, 5), limit=10**4).jobs
    wanted = {job: text for number, (job, text) in enumerate(zip(ids, texts, strict=True)) if number % 7}
    assert {run.id: run.queue for run in runs} == wanted
    assert {run.id: (run.name, run.lock, run.args, run.then) for run in runs} == {
        job: (text,) * 4 for job, text in wanted.items()
    }
    desk.do(lambda book, now: [book.report(run.id, run.token, run.name) for run in runs])
    failed = [
        Ending(run.id, run.token, End.FAILED, failure=Failure(1.0, 1, 1, run.name, run.name, run.name, run.name))
        for run in runs
    ]
    desk.do(lambda book, now: book.end(failed, now))
    for run in runs[::50]:
        (info,) = desk.find(queues=(run.queue,))
        assert (info.id, info.schedule, info.queueing_lock, info.progress, info.error) == (run.id, *[run.name] * 4)
        assert [info.id for info in desk.find(names=(run.name,))] == [run.id]
        assert desk.failures(run.id)[0].traceback == run.name
        assert desk.tick(run.name, 5.0) is not None
        assert desk.tick(run.name, 5.0) is None
    assert len(desk.find(queues=tuple(texts), names=tuple(texts), limit=10**4)) == len(texts)
