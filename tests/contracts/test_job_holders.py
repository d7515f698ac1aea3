"""What every book of jobs promises of holders: leases, rescue, and clocks that somebody sets."""

import pytest

from engine import TaskState
from engine.jobs._records import End, Gate, HolderInfo, Rescued
from tests.contracts.job_books import HOUR, START, YEAR, Desk

PENDING, RUNNING, FAILED, CANCELLED = TaskState.PENDING, TaskState.RUNNING, TaskState.FAILED, TaskState.CANCELLED


def holders(desk: Desk) -> dict[int, HolderInfo]:
    """Return who is there."""
    return {each.id: each for each in desk.do(lambda book, now: book.statistics(now)).holders}


def renew(desk: Desk, *asked: int) -> set[int]:
    """Renew leases; return who has none."""
    return desk.do(lambda book, now: book.renew(asked, now))


def let_go(desk: Desk, holder: int) -> int:
    """Have a holder let go."""
    return desk.do(lambda book, now: book.let_go(holder, now))


# -- leases -----------------------------------------------------------------------------------------------------------


def test_a_holder_is_what_it_said_with_a_fresh_lease(desk: Desk) -> None:
    desk.wait(1)
    holder = desk.hold("host:1:w", lease=20.0)
    assert holders(desk) == {
        holder: HolderInfo(
            id=holder, name="host:1:w", pid=1, pid_started=0.5, namespace="pid:[1]", boot="first boot", lease=20.0,
            lease_until=START.steady + 21, started_at=START.wall + 1,
        )
    }  # fmt: skip


def test_the_id_of_a_holder_is_never_used_again(desk: Desk) -> None:
    """J1: or a stale worker would hold what another one claimed."""
    first = desk.hold()
    let_go(desk, first)
    second = desk.hold()
    desk.rescue_from(second)
    assert len({first, second, desk.hold()}) == 3


def test_a_lease_is_over_when_its_time_is(desk: Desk) -> None:
    """J1: not a moment before, and who is renewed has it for as long again."""
    renewed, other, job = desk.hold(lease=30.0), desk.hold(lease=20.0), desk.add()
    desk.claim_one(renewed)
    desk.wait(19.5)
    assert renew(desk, renewed) == set()
    assert desk.info(job).lease_until == START.steady + 49.5
    assert desk.rescue() == []
    desk.wait(0.5)
    assert desk.rescue() == []
    assert set(holders(desk)) == {renewed}
    assert renew(desk, other, renewed, 99) == {other, 99}
    desk.wait(29.5)
    assert desk.rescue() == []
    desk.wait(0.5)
    assert [each.id for each in desk.rescue()] == [job]
    assert holders(desk) == {}


def test_a_lease_that_is_over_and_that_nobody_noticed_is_renewed(desk: Desk) -> None:
    """J2: the machine slept, and the holder wakes before the rescuer."""
    holder, job = desk.hold(), desk.add()
    run = desk.claim_one(holder)
    desk.wait(HOUR)
    assert renew(desk, holder) == set()
    assert desk.rescue() == []
    assert desk.end(run) is TaskState.COMPLETED
    assert desk.state(job) is TaskState.COMPLETED


def test_a_holder_of_another_boot_is_dead(desk: Desk) -> None:
    """W11: when the machine comes up again its jobs are taken at once, however long their lease."""
    holder, job = desk.hold(lease=YEAR), desk.add()
    desk.claim_one(holder)
    desk.reboot()
    living = desk.hold()
    assert [each.id for each in desk.rescue()] == [job]
    assert set(holders(desk)) == {living}


def test_a_holder_that_is_dead_for_certain_does_not_keep_its_lease(desk: Desk) -> None:
    dead, living = desk.hold("dead"), desk.hold("living")
    ids = desk.add_all([{}] * 3)
    desk.claim(dead, limit=2)
    desk.claim(living)
    seen = []

    def is_dead(info: HolderInfo) -> bool:
        seen.append((info.id, info.name, info.running))
        return info.name == "dead"

    assert [each.id for each in desk.rescue(is_dead)] == ids[:2]
    assert sorted(seen) == [(dead, "dead", 2), (living, "living", 1)]
    assert set(holders(desk)) == {living}


# -- rescue -----------------------------------------------------------------------------------------------------------


def test_a_rescue_says_what_it_took_in_the_order_of_ids(desk: Desk) -> None:
    """J4, J13: those that ran alone and reached their bound are FAILED, and those whose cancel was asked CANCELLED."""
    first, second = desk.hold("first"), desk.hold("second")
    alone, asked, plain, more = desk.add_all([{"max_crashes": 1, "name": "a"}, {"name": "b"}, {"name": "c"}, {}])
    desk.claim(second, limit=1)
    desk.rescue_from(second)
    second = desk.hold("second")
    desk.claim_one(second, alone=True)
    assert [run.id for run in desk.claim(first, limit=2).jobs] == [asked, plain]
    desk.claim_one(second)
    desk.cancel(asked)
    desk.wait(30)
    assert desk.rescue() == [
        Rescued(alone, "a", "second", FAILED, 1),
        Rescued(asked, "b", "first", CANCELLED, 0),
        Rescued(plain, "c", "first", PENDING, 0),
        Rescued(more, "f", "second", PENDING, 0),
    ]
    assert [desk.info(each).completed_at for each in (alone, asked, plain)] == [START.wall + 30] * 2 + [None]
    assert [desk.gate(each) for each in (alone, asked, plain)] == [None, None, Gate.ALONE]
    (failure,) = desk.failures(plain)
    assert (failure.kind, failure.at, failure.attempt, failure.token) == ("lost", START.wall + 30, 1, 1)
    assert failure.worker == "first"
    assert "first" in failure.error
    assert desk.info(plain).error == failure.error
    assert (desk.count("rescued"), desk.count("lost_holders")) == (5, 3)


def test_of_two_rescuers_the_second_finds_nothing(desk: Desk) -> None:
    """J1: nor does the job run twice for it."""
    holder, job = desk.hold(), desk.add()
    desk.claim_one(holder)
    desk.wait(30)
    assert [each.id for each in desk.rescue()] == [job]
    before = desk.everything()
    assert desk.rescue() == []
    assert desk.everything() == before
    assert len(desk.claim(desk.hold(), alone=True).jobs) == 1


def test_a_renewal_that_comes_after_the_rescue_is_told_of_the_loss(desk: Desk) -> None:
    """J1: the live worker learns that it has lost all it held."""
    holder, job = desk.hold(), desk.add()
    run = desk.claim_one(holder)
    desk.wait(30)
    desk.rescue()
    assert renew(desk, holder) == {holder}
    assert desk.end(run) is None
    assert desk.state(job) is PENDING


def test_what_waited_before_it_ran_waits_no_longer_when_it_is_rescued(desk: Desk) -> None:
    holder, job = desk.hold(), desk.add(at=START.wall + 5)
    desk.wait(5)
    desk.claim_one(holder)
    desk.rescue_from(holder)
    desk.set_the_clock(-HOUR)
    assert desk.claim_one(desk.hold(), alone=True).id == job


def test_a_rescue_that_cannot_tell_who_is_dead_changes_nothing(desk: Desk) -> None:
    first, second, _ = desk.hold(), desk.hold(), desk.add()
    desk.claim_one(first)
    before = desk.everything()

    def is_dead(info: HolderInfo) -> bool:
        if info.id == second:
            raise OSError("no /proc")
        return True

    with pytest.raises(OSError, match="no /proc"):
        desk.rescue(is_dead)
    assert desk.everything() == before


# -- letting go -------------------------------------------------------------------------------------------------------


def test_who_lets_go_gives_back_what_it_holds_without_burning_an_attempt(desk: Desk) -> None:
    """N11: the long job of a drained worker is there for the next one, and is no suspect."""
    holder, other = desk.hold(), desk.hold()
    given, asked, ended, kept = desk.add_all([{}] * 4)
    desk.claim(holder, limit=2)
    desk.end(desk.claim_one(holder))
    desk.claim_one(other)
    desk.cancel(asked)
    assert let_go(desk, holder) == 2
    info = desk.info(given)
    assert (info.state, info.gate, info.attempt, info.suspect, info.holder) == (PENDING, Gate.READY, 0, False, None)
    assert [desk.state(each) for each in (asked, ended, kept)] == [CANCELLED, TaskState.COMPLETED, RUNNING]
    assert set(holders(desk)) == {other}
    assert let_go(desk, holder) == 0
    assert desk.failures(given) == []
    assert renew(desk, holder) == {holder}


def test_a_suspect_that_is_given_back_is_not_charged(desk: Desk) -> None:
    """N11, J4: a drain while it runs alone is no death."""
    dying, holder, job = desk.hold(), desk.hold(), desk.add()
    desk.claim_one(dying)
    desk.rescue_from(dying)
    desk.claim_one(holder, alone=True)
    assert let_go(desk, holder) == 1
    info = desk.info(job)
    assert (info.crashes, info.suspect, info.gate) == (0, False, Gate.READY)


# -- somebody sets the clock ------------------------------------------------------------------------------------------

JUMPS = {"an hour on": HOUR, "an hour back": -HOUR, "ten years on": 10 * YEAR, "ten years back": -10 * YEAR}


@pytest.fixture(params=list(JUMPS.values()), ids=list(JUMPS))
def jump(request: pytest.FixtureRequest) -> float:
    """Give each jump of the wall's clock in turn."""
    seconds: float = request.param
    return seconds


def test_no_lease_ends_and_none_lasts_for_ever_when_the_clock_is_set(desk: Desk, jump: float) -> None:
    """T1: leases are on the clock that nobody sets."""
    holder, job = desk.hold(lease=30.0), desk.add()
    desk.claim_one(holder)
    desk.set_the_clock(jump)
    desk.wait(29)
    assert desk.rescue() == []
    desk.wait(1)
    assert [each.id for each in desk.rescue()] == [job]


def test_what_waits_for_so_many_seconds_waits_as_long_when_the_clock_is_set(desk: Desk, jump: float) -> None:
    """T1: delays, pauses between tries, and expiry in seconds."""
    holder, delayed, expiring = desk.hold(lease=YEAR), desk.add(delay=60.0), desk.add(queue="x", expires_in=60.0)
    retried = desk.add(queue="r")
    desk.end(desk.claim_one(holder, "r"), End.RETRY, delay=60.0)
    desk.set_the_clock(jump)
    desk.wait(59)
    assert desk.claim(holder, "q", "r").next_due == 1.0
    assert desk.state(expiring) is PENDING
    desk.wait(1)
    assert [run.id for run in desk.claim(holder, "q", "r", "x").jobs] == [delayed, retried]
    assert desk.state(expiring) is CANCELLED


def test_what_waits_for_an_instant_follows_the_clock(desk: Desk, jump: float) -> None:
    """T1: at= and an instant of expiry are on the wall's clock, for that is what was asked for."""
    holder = desk.hold(lease=YEAR)
    timed, expiring = desk.add(at=START.wall + 60), desk.add(queue="x", expires_at=START.wall + 60)
    desk.set_the_clock(jump)
    claims = desk.claim(holder)
    if jump > 0:
        assert [run.id for run in claims.jobs] == [timed]
        assert desk.state(expiring) is CANCELLED
    else:
        assert (claims.jobs, claims.next_due) == ((), 60 - jump)
        desk.set_the_clock(-jump)  # somebody sets it right again
        desk.wait(60)
        assert desk.claim_one(holder).id == timed
        assert desk.state(expiring) is CANCELLED
