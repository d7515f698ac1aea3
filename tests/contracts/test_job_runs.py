"""What every book of jobs promises of runs and how they end: fences, attempts, crashes, suspects, follow-ups."""

import pytest

from engine import TaskState
from engine.jobs._records import Cancelled, Claimed, Claims, End, Ending, Failure, Gate
from tests.contracts.job_books import START, Desk, failure_of, new_job

PENDING, RUNNING = TaskState.PENDING, TaskState.RUNNING
COMPLETED, FAILED, CANCELLED = TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED

#: End -> the state, the attempts and the crashes after it.
AFTER = {
    End.COMPLETED: (COMPLETED, 1, 0),
    End.FAILED: (FAILED, 1, 0),
    End.CANCELLED: (CANCELLED, 1, 0),
    End.RETRY: (PENDING, 1, 0),
    End.SNOOZE: (PENDING, 0, 0),
    End.GIVE_BACK: (PENDING, 0, 0),
    End.CRASH: (PENDING, 0, 1),
}

# -- how a run ends ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("end", "after"), AFTER.items(), ids=str)
def test_a_run_ends_as_its_worker_says(desk: Desk, end: End, after: tuple[TaskState, int, int]) -> None:
    """N11: what is given back has used no attempt, and neither has a snooze."""
    job = desk.add()
    run = desk.claim_one(desk.hold())
    desk.wait(2)
    assert desk.end(run, end) is after[0]
    info = desk.info(job)
    assert (info.state, info.attempt, info.crashes) == after
    assert info.gate == (Gate.READY if after[0] is PENDING else None)
    assert info.completed_at == (None if after[0] is PENDING else START.wall + 2)
    assert (info.token, info.started_at, info.holder, info.lease_until) == (1, START.wall, None, None)
    assert desk.queue().running == 0


@pytest.mark.parametrize("end", [End.RETRY, End.SNOOZE, End.CRASH])
def test_a_run_that_is_to_come_again_later_waits_so_long(desk: Desk, end: End) -> None:
    holder, job = desk.hold(), desk.add(at=START.wall - 5, expires_in=1.0)
    desk.end(desk.claim_one(holder), end, delay=10.0)
    assert (desk.gate(job), desk.info(job).due_at) == (Gate.LATER, START.steady + 10)
    assert desk.claim(holder).next_due == 10.0
    desk.wait(10)
    assert desk.claim_one(holder).token == 2


def test_attempts_and_tokens_are_counted(desk: Desk) -> None:
    holder = desk.hold()
    desk.add(max_crashes=9)
    seen = []
    for end in (End.RETRY, End.SNOOZE, End.RETRY, End.GIVE_BACK, End.CRASH, End.COMPLETED):
        run = desk.claim_one(holder)
        seen.append((run.attempt, run.token, run.crashes))
        desk.end(run, end)
    assert seen == [(1, 1, 0), (2, 2, 0), (2, 3, 0), (3, 4, 0), (3, 5, 0), (3, 6, 1)]


def test_a_result_is_that_of_the_run_that_completed(desk: Desk) -> None:
    holder, job = desk.hold(), desk.add()
    desk.end(desk.claim_one(holder), End.RETRY, result="1")
    assert desk.info(job).result is None
    desk.end(desk.claim_one(holder), result='{"n": 2}')
    assert desk.info(job).result == '{"n": 2}'


def test_endings_of_one_call_are_judged_one_by_one(desk: Desk) -> None:
    """J1: a stale one among them does the others no harm."""
    holder = desk.hold()
    ids = desk.add_all([{}] * 3)
    a, b, c = desk.claim(holder).jobs
    endings = [
        Ending(a.id, a.token, End.COMPLETED),
        Ending(b.id, b.token + 1, End.COMPLETED),
        Ending(a.id, a.token, End.FAILED),
        Ending(c.id, c.token, End.RETRY),
        Ending(99, 1, End.COMPLETED),
    ]
    assert desk.do(lambda book, now: book.end(endings, now)) == [COMPLETED, None, None, PENDING, None]
    assert [desk.state(each) for each in ids] == [COMPLETED, RUNNING, PENDING]
    assert desk.count("fenced") == 3
    assert desk.do(lambda book, now: book.end([], now)) == []


# -- fences -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", End)
def test_a_stale_worker_does_not_finish_a_rescued_job(desk: Desk, end: End) -> None:
    """J1: whatever it says, while the job waits, while it runs elsewhere, and when that run has ended."""
    first, second, job = desk.hold("first"), desk.hold("second"), desk.add()
    stale = desk.claim_one(first)
    more = {"result": '"stale"', "failure": failure_of(stale), "follow_ups": (new_job(parent=job),)}
    stages = []

    def attack() -> None:
        before = desk.everything()[:2]
        assert desk.end(stale, end, **more) is None
        assert not desk.do(lambda book, now: book.report(stale.id, stale.token, "0.9"))
        assert desk.everything()[:2] == before
        stages.append(desk.state(job))

    desk.rescue_from(first)
    attack()
    run = desk.claim_one(second, alone=True)
    attack()
    desk.end(run)
    attack()
    assert stages == [PENDING, RUNNING, COMPLETED]
    assert desk.count("fenced") == 3


def test_a_run_that_ended_does_not_end_again(desk: Desk) -> None:
    """J1: nor does it after a retry of the job has begun."""
    holder, job = desk.hold(), desk.add()
    run = desk.claim_one(holder)
    desk.end(run, End.RETRY)
    assert desk.end(run) is None
    assert desk.end(run._replace(token=2)) is None  # the token of the next claim, before that
    again = desk.claim_one(holder)
    assert desk.end(run) is None
    assert desk.state(job) is RUNNING
    assert desk.end(again) is COMPLETED
    assert desk.end(again, End.FAILED) is None
    assert desk.state(job) is COMPLETED


def test_progress_is_that_of_the_run_that_has_the_claim(desk: Desk) -> None:
    """J1: a stale run reports nothing."""
    holder, job = desk.hold(), desk.add()
    run = desk.claim_one(holder)

    def report(token: int, progress: str) -> bool:
        return desk.do(lambda book, now: book.report(job, token, progress))

    assert report(run.token, "[1, 10]")
    assert desk.info(job).progress == "[1, 10]"
    assert not report(run.token + 1, "[2, 10]")
    desk.end(run, End.RETRY)
    assert not report(run.token, "[3, 10]")
    assert desk.info(job).progress == "[1, 10]"
    assert desk.count("fenced") == 0


# -- cancel against end -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", End)
def test_of_a_cancel_and_an_end_one_decides(desk: Desk, end: End) -> None:
    """J13: what completed all the same is COMPLETED, and anything else of a job whose cancel was asked CANCELLED."""
    job = desk.add()
    run = desk.claim_one(desk.hold())
    assert desk.cancel(job) is Cancelled.ASKED
    expected = COMPLETED if end is End.COMPLETED else CANCELLED
    assert desk.end(run, end, delay=5.0) is expected
    info = desk.info(job)
    assert (info.state, info.gate, info.completed_at, info.cancel_requested) == (expected, None, START.wall, False)
    assert desk.cancel(job) is Cancelled.TOO_LATE
    assert desk.end(run) is None


def test_a_cancel_that_was_asked_is_not_asked_of_a_requeued_run(desk: Desk) -> None:
    """J13: the wish was fulfilled, and is over."""
    holder, job = desk.hold(), desk.add()
    run = desk.claim_one(holder)
    desk.cancel(job)
    desk.end(run, End.RETRY)
    desk.requeue(job)
    assert desk.end(desk.claim_one(holder), End.RETRY) is PENDING


# -- follow-ups -------------------------------------------------------------------------------------------------------


def test_what_follows_a_job_is_enqueued_by_the_verb_that_completes_it(desk: Desk) -> None:
    """J12: one change of state, so a death leaves both or none."""
    job = desk.add()
    run = desk.claim_one(desk.hold())
    follow_ups = (new_job(name="g", parent=job, priority=4), new_job(name="h", parent=job, delay=5.0))
    assert desk.end(run, follow_ups=follow_ups) is COMPLETED
    assert [(each.name, each.parent, each.gate) for each in desk.find(states=(PENDING,))] == [
        ("g", job, Gate.READY),
        ("h", job, Gate.LATER),
    ]


@pytest.mark.parametrize("end", [end for end in End if end is not End.COMPLETED])
def test_what_did_not_complete_is_followed_by_nothing(desk: Desk, end: End) -> None:
    """J12: nor is a run that is fenced."""
    desk.add(max_crashes=1)
    run = desk.claim_one(desk.hold())
    assert desk.end(run, end, follow_ups=(new_job(parent=run.id),)) is not COMPLETED
    assert desk.end(run, End.COMPLETED, follow_ups=(new_job(parent=run.id),)) is None
    assert len(desk.find()) == 1


def test_a_follow_up_whose_queueing_lock_is_taken_is_left_out(desk: Desk) -> None:
    """J12: the result of the run is recorded all the same, and the other follow-ups are enqueued."""
    holder, job = desk.hold(), desk.add()
    run = desk.claim_one(holder)
    taken = desk.add(queueing_lock="daily")
    follow_ups = tuple(new_job(queueing_lock=lock, parent=job) for lock in ("daily", "other", "other", None))
    assert desk.end(run, result="1", follow_ups=follow_ups) is COMPLETED
    assert desk.info(job).result == "1"
    assert [(each.queueing_lock, each.parent) for each in desk.find(states=(PENDING,))] == [
        ("daily", None),
        ("other", job),
        (None, job),
    ]
    assert desk.state(taken) is PENDING


# -- history ----------------------------------------------------------------------------------------------------------


def test_a_history_tells_of_each_run_that_did_not_complete(desk: Desk) -> None:
    holder, job = desk.hold(), desk.add()
    expected = []
    for end in (End.RETRY, End.RETRY, End.FAILED):
        run = desk.claim_one(holder)
        failure = Failure(START.wall + run.token, run.attempt, run.token, "error", f"E: {end}", "T\n  \x00", "w")
        expected.append(failure)
        desk.end(run, end, failure=failure)
    assert desk.failures(job) == expected
    assert desk.info(job).error == "E: failed"
    desk.add()
    desk.end(desk.claim_one(holder), End.SNOOZE)
    assert desk.failures(job + 1) == []


def test_the_last_hundred_of_a_history_are_kept(desk: Desk) -> None:
    """J14: a job that fails for ever does not fill the disk."""
    holder, job, other = desk.hold(), desk.add(), desk.add(queue="other")
    run = desk.claim_one(holder, "other")
    desk.end(run, End.RETRY, failure=failure_of(run))
    for _ in range(103):
        run = desk.claim_one(holder)
        desk.end(run, End.RETRY, failure=failure_of(run))
    assert [each.token for each in desk.failures(job)] == list(range(4, 104))
    assert len(desk.failures(other)) == 1
    assert desk.info(job).attempt == 103


# -- deaths of worker processes ---------------------------------------------------------------------------------------


def test_a_job_that_kills_its_worker_each_time_is_failed(desk: Desk) -> None:
    """J3: at max_crashes, with the crash log kept; its neighbour runs in between."""
    holder = desk.hold()
    job, neighbour = desk.add(max_crashes=3), desk.add()
    states = []
    for _ in range(3):
        run = desk.claim_one(holder)
        assert run.id == job
        states.append(desk.end(run, End.CRASH, delay=5.0, failure=failure_of(run, "crash")))
        if len(states) == 1:
            assert desk.finish(holder) == neighbour
        desk.wait(5)
    assert states == [PENDING, PENDING, FAILED]
    info = desk.info(job)
    assert (info.crashes, info.attempt, info.gate) == (3, 1, None)
    assert [each.kind for each in desk.failures(job)] == ["crash"] * 3


def test_a_job_that_may_crash_once_is_failed_by_its_first_crash(desk: Desk) -> None:
    """J3: max_crashes counts the deaths, not those that are forgiven."""
    desk.add(max_crashes=1)
    assert desk.end(desk.claim_one(desk.hold()), End.CRASH) is FAILED


def test_crashes_and_attempts_are_counted_apart(desk: Desk) -> None:
    """J3: failures in between forgive no crash."""
    holder = desk.hold()
    desk.add(max_crashes=2)
    for end in (End.RETRY, End.CRASH, End.RETRY, End.SNOOZE):
        assert desk.end(desk.claim_one(holder), end) is PENDING
    assert desk.end(desk.claim_one(holder), End.CRASH) is FAILED


# -- suspects ---------------------------------------------------------------------------------------------------------


def suspects_of(desk: Desk, *jobs: dict[str, object]) -> list[int]:
    """Enqueue jobs, and have the engine die that runs them."""
    ids = desk.add_all(jobs)
    holder = desk.hold("dying")
    assert [run.id for run in desk.claim(holder).jobs] == ids
    desk.rescue_from(holder)
    return ids


def test_nobody_is_charged_for_the_death_of_an_engine(desk: Desk) -> None:
    """J4: all that ran in it are suspects, that run one at a time."""
    a, b = suspects_of(desk, {}, {"max_crashes": 1})
    for job in (a, b):
        info = desk.info(job)
        assert (info.state, info.gate, info.suspect) == (PENDING, Gate.ALONE, True)
        assert (info.attempt, info.token, info.crashes) == (0, 1, 0)
    ordinary, holder = desk.add(), desk.hold()
    claims = desk.claim(holder)
    assert ([run.id for run in claims.jobs], claims.suspects) == ([ordinary], True)
    claims = desk.claim(holder, alone=True)
    assert ([run.id for run in claims.jobs], claims.suspects) == ([a], True)
    claims = desk.claim(holder, alone=True)
    assert ([run.id for run in claims.jobs], claims.suspects) == ([b], False)
    assert desk.claim(holder, alone=True) == Claims((), suspects=False, next_due=None)


def test_suspects_are_claimed_alone_by_their_order_whatever_room_there_is(desk: Desk) -> None:
    """J4, Q17: priority first; rooms and lanes are those of an engine that runs nothing else."""
    low, high = suspects_of(desk, {"name": "full"}, {"name": "full"})
    ids = suspects_of(desk, {"priority": 7, "name": "full"})
    holder = desk.hold()
    order = [
        desk.claim(holder, rooms={"q": 0}, limit=0, alone=True, passed_over=frozenset({"full"}), look_ahead=1).jobs
        for _ in range(3)
    ]
    assert [run.id for (run,) in order] == [*ids, low, high]
    assert desk.claim(holder, "other", alone=True) == Claims((), suspects=False, next_due=None)


def test_a_crash_is_counted_before_a_suspect_runs_and_taken_back_when_it_ends(desk: Desk) -> None:
    """J4: so it counts though nobody is left to say so."""
    (job,) = suspects_of(desk, {})
    run = desk.claim_one(desk.hold(), alone=True)
    assert (run.alone, run.crashes, run.attempt, run.token) == (True, 1, 1, 2)
    assert (desk.info(job).crashes, desk.info(job).suspect) == (1, True)
    desk.end(run, End.RETRY)
    info = desk.info(job)
    assert (info.crashes, info.suspect, info.gate) == (0, False, Gate.READY)
    again = desk.claim_one(desk.hold())
    assert (again.alone, again.crashes) == (False, 0)


@pytest.mark.parametrize(("end", "after"), AFTER.items(), ids=str)
def test_a_suspect_that_ends_is_an_ordinary_job_again(desk: Desk, end: End, after: tuple[TaskState, int, int]) -> None:
    """J4: a worker process that dies under it counts once."""
    (job,) = suspects_of(desk, {})
    assert desk.end(desk.claim_one(desk.hold(), alone=True), end) is after[0]
    info = desk.info(job)
    assert (info.state, info.attempt, info.crashes) == after
    assert not info.suspect


def test_a_job_that_kills_its_engine_each_time_is_failed_and_the_innocents_complete(desk: Desk) -> None:
    """J4: of seventeen suspects only the one that dies alone is charged."""
    *innocents, culprit = suspects_of(desk, *[{}] * 17)
    deaths = 0
    for _ in range(30):
        holder = desk.hold()
        claimed = desk.claim(holder, alone=True).jobs or desk.claim(holder).jobs
        if not claimed:
            break
        if culprit in [run.id for run in claimed]:
            deaths += 1
            desk.rescue_from(holder)
        else:
            for run in claimed:
                desk.end(run)
    assert {desk.state(each) for each in innocents} == {COMPLETED}
    assert {desk.info(each).crashes for each in innocents} == {0}
    info = desk.info(culprit)
    assert (info.state, info.crashes, info.suspect, deaths) == (FAILED, 3, False, 3)
    assert [each.kind for each in desk.failures(culprit)] == ["lost"] * 4


def test_a_suspect_is_failed_where_its_last_crash_is_that_of_a_worker_process(desk: Desk) -> None:
    """J3, J4: both kinds of death are one count."""
    (job,) = suspects_of(desk, {"max_crashes": 2})
    holder = desk.hold()
    desk.claim_one(holder, alone=True)
    desk.rescue_from(holder)
    assert desk.info(job).crashes == 1
    assert desk.end(desk.claim_one(desk.hold(), alone=True), End.CRASH) is FAILED
    assert desk.info(job).crashes == 2


def test_a_suspect_is_cancelled_and_requeued_as_any_job(desk: Desk) -> None:
    """J13: and is no suspect then."""
    (job,) = suspects_of(desk, {})
    assert desk.cancel(job) is Cancelled.NOW
    assert (desk.state(job), desk.info(job).suspect) == (CANCELLED, False)
    desk.requeue(job)
    assert desk.gate(job) is Gate.READY
    assert isinstance(desk.claim_one(desk.hold()), Claimed)


# -- many at once -----------------------------------------------------------------------------------------------------


def test_of_the_endings_in_one_write_each_has_what_it_would_have_alone(desk: Desk) -> None:
    """The plain ones are ended by a statement of their own: neither takes the place of another's answer."""
    holder = desk.hold()
    desk.add_all([{}, {"lock": "l"}, {"lock": "l"}, {}, {}, {}, {}])
    first, locked, failed, large, followed, stale = desk.claim(holder).jobs
    desk.cancel(large.id)  # it completes before it hears of that
    text = f'"{"é" * 2000}"'
    endings = [
        Ending(stale.id, stale.token + 1, End.COMPLETED, result="0"),
        Ending(locked.id, locked.token, End.COMPLETED, result="1"),
        Ending(first.id, first.token, End.COMPLETED, result='{"a\\"":"\\\\ü\\n"}'),
        Ending(failed.id, failed.token, End.FAILED, failure=failure_of(failed)),
        Ending(999, 1, End.COMPLETED, result="0"),
        Ending(large.id, large.token, End.COMPLETED, result=text),
        Ending(followed.id, followed.token, End.COMPLETED, result="2", follow_ups=(new_job(parent=followed.id),)),
    ]
    states = desk.do(lambda book, now: book.end(endings, now))
    assert states == [None, COMPLETED, COMPLETED, FAILED, None, COMPLETED, COMPLETED]
    results = {locked.id: "1", first.id: '{"a\\"":"\\\\ü\\n"}', large.id: text, followed.id: "2", failed.id: None}
    assert {job: desk.info(job).result for job in results} == results
    assert [info.id for info in desk.find(parent=followed.id)] != []
    assert [run.id for run in desk.claim(holder).jobs] == [3, 8]  # who waited for the lock, and who follows
    assert desk.state(stale.id) is RUNNING
    assert desk.count("fenced") == 2
