"""What every book of jobs promises of ``lock``: one at a time, and nobody waits for a lock that is free."""

from collections.abc import Callable

import pytest

from engine import TaskState
from engine.jobs._records import Claimed, Claims, End, Gate
from tests.contracts.job_books import Desk


def lost(desk: Desk, run: Claimed, holder: int) -> None:
    """Have the holder of a run be lost."""
    desk.rescue_from(holder)


def let_go(desk: Desk, run: Claimed, holder: int) -> None:
    """Have the holder of a run let go."""
    desk.do(lambda book, now: book.let_go(holder, now))


def ended(end: End, delay: float = 0.0) -> Callable[[Desk, Claimed, int], None]:
    """Return what ends a run so."""

    def leave(desk: Desk, run: Claimed, holder: int) -> None:
        assert desk.end(run, end, delay=delay) is not None

    return leave


#: Each way of leaving RUNNING.
LEAVING = {str(end): ended(end) for end in End} | {
    "retry later": ended(End.RETRY, 9.0),
    "lost": lost,
    "let go": let_go,
}


@pytest.fixture(params=list(LEAVING.values()), ids=list(LEAVING))
def leave(request: pytest.FixtureRequest) -> Callable[[Desk, Claimed, int], None]:
    """Give each way of leaving RUNNING in turn."""
    way: Callable[[Desk, Claimed, int], None] = request.param
    return way


def test_of_the_jobs_with_one_lock_one_runs(desk: Desk) -> None:
    holder, other = desk.hold(), desk.hold()
    first, second, free, third = desk.add_all([{"lock": "l"}, {"lock": "l"}, {"lock": "L"}, {"lock": "l"}])
    assert [run.id for run in desk.claim(holder, limit=2).jobs] == [first, free]
    assert desk.gate(second) is Gate.LOCKED  # by one that was claimed just now
    assert desk.gate(third) is Gate.READY  # nobody has looked so far
    assert desk.claim(other) == Claims((), suspects=False, next_due=None)
    assert desk.gate(third) is Gate.LOCKED  # by one that runs


def test_the_most_urgent_has_the_lock_next(desk: Desk, leave: Callable[[Desk, Claimed, int], None]) -> None:
    """J11: however a run leaves, the lost one of a killed engine too."""
    holder, other = desk.hold(), desk.hold()
    first = desk.add(lock="l", priority=20)
    low, high, high_too = desk.add_all([{"lock": "l", "priority": p} for p in (1, 2, 2)])
    apart = desk.add(lock="another")
    run, _ = desk.claim(holder).jobs
    assert run.id == first
    leave(desk, run, holder)
    assert [desk.gate(each) for each in (low, high, high_too)] == [Gate.LOCKED, Gate.READY, Gate.LOCKED]
    if desk.gate(first) is not Gate.READY:  # else it has the lock again, being the most urgent
        assert desk.claim_one(other).id == high
    assert desk.info(apart).id == apart


def test_one_of_each_queue_has_its_turn(desk: Desk, leave: Callable[[Desk, Claimed, int], None]) -> None:
    """E100: the one that is opened may be in a queue that is paused, or that nobody serves."""
    holder, other = desk.hold(), desk.hold()
    desk.add(lock="l", queue="a")
    ids = desk.add_all([{"lock": "l", "queue": q} for q in ("b", "b", "c")])
    run = desk.claim(holder, "a", "b", "c").jobs[0]
    leave(desk, run, holder)
    assert [desk.gate(each) for each in ids] == [Gate.READY, Gate.LOCKED, Gate.READY]
    desk.pause("b")
    assert desk.claim_one(other, "b", "c").id == ids[2]


def test_jobs_with_one_lock_run_one_after_the_other_until_none_is_left(desk: Desk) -> None:
    holder = desk.hold()
    ids = desk.add_all([{"lock": "l", "queue": "abc"[n % 3], "priority": n % 2} for n in range(9)])
    ran = []
    for _ in ids:
        (run,) = desk.claim(holder, "a", "b", "c").jobs
        assert desk.end(run) is TaskState.COMPLETED
        ran.append(run.id)
    assert sorted(ran) == ids
    assert ran != ids  # by priority
    assert [desk.info(each).priority for each in ran] == [1] * 4 + [0] * 5


def opened_after(desk: Desk) -> tuple[int, list[int]]:
    """Return a job that a free lock has opened, and two that still wait for the lock."""
    holder, first = desk.hold(), desk.add(lock="l")
    opened = desk.add(lock="l", expires_in=10.0)
    rest = desk.add_all([{"lock": "l"}] * 2)
    run = desk.claim(holder).jobs[0]
    assert run.id == first
    desk.end(run)
    assert [desk.gate(each) for each in (opened, *rest)] == [Gate.READY, Gate.LOCKED, Gate.LOCKED]
    return opened, rest


def test_when_the_one_whose_turn_it_is_is_cancelled_the_next_has_it(desk: Desk) -> None:
    """E101: or those behind it would wait for a lock that nobody has."""
    opened, rest = opened_after(desk)
    desk.cancel(opened)
    assert [desk.gate(each) for each in rest] == [Gate.READY, Gate.LOCKED]
    desk.cancel(rest[0])
    assert desk.gate(rest[1]) is Gate.READY


def test_when_the_one_whose_turn_it_is_expires_the_next_has_it(desk: Desk) -> None:
    """E101: in the claim that finds it expired."""
    _, rest = opened_after(desk)
    holder = desk.hold()
    desk.wait(10)
    assert desk.claim_one(holder).id == rest[0]


def test_when_the_one_whose_turn_it_is_makes_way_for_a_queueing_lock_the_next_has_it(desk: Desk) -> None:
    """E101: the third way for it to go."""
    holder, first = desk.hold(), desk.add(lock="l")
    expired = desk.add(lock="l", queueing_lock="daily", expires_in=10.0)
    behind = desk.add(lock="l")
    run = desk.claim(holder).jobs[0]
    assert (run.id, desk.gate(expired), desk.gate(behind)) == (first, Gate.LOCKED, Gate.LOCKED)
    desk.end(run)
    desk.wait(10)
    desk.add(queueing_lock="daily", queue="other")
    assert (desk.state(expired), desk.gate(behind)) == (TaskState.CANCELLED, Gate.READY)


def test_of_many_that_expire_at_once_each_lock_opens_once(desk: Desk) -> None:
    """E101: all are cancelled first, so that nothing is opened that has expired too."""
    holder, first = desk.hold(), desk.add(lock="l")
    expiring = desk.add_all([{"lock": "l", "expires_in": 10.0}] * 3)
    rest = desk.add_all([{"lock": "l"}] * 2)
    run = desk.claim(holder).jobs[0]
    assert run.id == first
    desk.end(run)
    desk.wait(10)
    assert desk.claim(holder, "other").jobs == ()
    assert {desk.state(each) for each in expiring} == {TaskState.CANCELLED}
    assert [desk.gate(each) for each in rest] == [Gate.READY, Gate.LOCKED]


def test_who_is_cancelled_while_the_lock_is_held_opens_nothing(desk: Desk) -> None:
    holder = desk.hold()
    desk.add(lock="l")
    locked, locked_too = desk.add_all([{"lock": "l"}] * 2)
    later = desk.add(lock="l", delay=5.0)
    desk.claim(holder)
    ready = desk.add(lock="l")
    assert desk.gate(ready) is Gate.READY  # no claim has met it so far
    for job in (ready, later, locked):
        desk.cancel(job)
        assert desk.gate(locked_too) is Gate.LOCKED


def test_who_waits_for_its_time_is_not_who_has_the_turn(desk: Desk) -> None:
    """E101: the other way round: nothing is opened twice."""
    opened, rest = opened_after(desk)
    later = desk.add(lock="l", delay=5.0)
    desk.cancel(later)
    desk.cancel(rest[1])
    assert (desk.gate(opened), desk.gate(rest[0])) == (Gate.READY, Gate.LOCKED)


def test_a_suspect_waits_for_its_lock_like_the_others_and_comes_back_as_a_suspect(desk: Desk) -> None:
    """J4: a suspect whose lock another runs with is not claimed, and holds up nobody who could run."""
    lost_holder, holder, third = desk.hold(), desk.hold(), desk.hold()
    suspect = desk.add(lock="l")
    desk.claim_one(lost_holder)
    desk.rescue_from(lost_holder)
    other = desk.add(lock="l")
    run = desk.claim_one(holder)
    assert run.id == other
    assert desk.claim(third).suspects
    assert desk.claim(third, alone=True) == Claims((), suspects=False, next_due=None)
    assert desk.gate(suspect) is Gate.LOCKED
    assert desk.info(suspect).suspect
    desk.end(run)
    assert desk.gate(suspect) is Gate.ALONE
    assert desk.claim(third) == Claims((), suspects=True, next_due=None)
    assert desk.claim_one(third, alone=True).alone


def test_when_a_suspect_whose_turn_it_is_is_cancelled_the_next_has_it(desk: Desk) -> None:
    """E101: suspects too."""
    lost_holder, holder = desk.hold(), desk.hold()
    suspect = desk.add(lock="l", priority=5)
    desk.claim_one(lost_holder)
    desk.rescue_from(lost_holder)
    first, behind = desk.add_all([{"lock": "l", "priority": 9}, {"lock": "l"}])
    run = desk.claim(holder).jobs[0]
    assert run.id == first
    desk.claim(holder, alone=True)
    desk.end(run)
    assert (desk.gate(suspect), desk.gate(behind)) == (Gate.ALONE, Gate.LOCKED)
    desk.cancel(suspect)
    assert desk.gate(behind) is Gate.READY


def test_a_suspect_with_a_free_lock_is_claimed_before_less_urgent_ones(desk: Desk) -> None:
    """J4: the next suspect is looked for past one whose lock is held."""
    lost_holder, holder, third = desk.hold(), desk.hold(), desk.hold()
    blocked, free = desk.add_all([{"lock": "l", "priority": 9}, {}])
    desk.claim(lost_holder)
    desk.rescue_from(lost_holder)
    desk.add(lock="l")
    desk.claim_one(holder)
    claims = desk.claim(third, alone=True)
    assert [run.id for run in claims.jobs] == [free]
    assert not claims.suspects
    assert desk.gate(blocked) is Gate.LOCKED


def test_a_job_that_is_passed_over_is_not_locked(desk: Desk) -> None:
    holder = desk.hold()
    desk.add(lock="l")
    second = desk.add(lock="l", name="full")
    desk.claim(holder, passed_over=frozenset({"full"}))
    assert desk.gate(second) is Gate.READY


def test_locked_jobs_do_not_use_up_a_look(desk: Desk) -> None:
    holder = desk.hold()
    desk.add_all([{"lock": "l"}] * 5)
    free = desk.add()
    first, last = desk.claim(holder, look_ahead=2).jobs
    assert (first.lock, last.id) == ("l", free)


def test_a_lock_is_free_again_for_a_requeued_job(desk: Desk) -> None:
    holder, job = desk.hold(), desk.add(lock="l")
    assert desk.finish(holder) == job
    other = desk.add(lock="l")
    run = desk.claim_one(holder)
    assert run.id == other
    assert desk.requeue(job)
    assert desk.claim(holder).jobs == ()
    assert desk.gate(job) is Gate.LOCKED
    desk.end(run)
    assert desk.claim_one(holder).id == job
