"""When leases are renewed, and whether a look at others' leases is to be believed; with clocks of our own."""

import pytest

from engine.jobs._moment import Moment
from engine.jobs._records import HolderInfo
from engine.jobs._sqlite.duties import LOOK_SECONDS, Leases, Rescuer

LEASE = 30.0


def at(steady: float) -> Moment:
    return Moment(0.0, steady, "boot")


def other(until: float, lease: float = LEASE, boot: str = "boot") -> HolderInfo:
    return HolderInfo(
        id=7, name="other", pid=1, pid_started=0.0, namespace="", boot=boot, lease=lease, lease_until=until,
        started_at=0.0,
    )  # fmt: skip


def alive(holder: HolderInfo) -> bool:
    return False


def dead(holder: HolderInfo) -> bool:
    return True


def test_a_lease_is_due_each_third_of_it() -> None:
    leases = Leases()
    leases.add(1, LEASE, lambda: None, at(100))
    leases.add(2, 6.0, lambda: None, at(100))
    assert leases.due(at(101.9)) == []
    assert leases.due(at(102)) == [2]
    leases.renewed([2], at(103))
    assert leases.due(at(104.9)) == []
    assert sorted(leases.due(at(110))) == [1, 2]


def test_who_has_lost_is_told_once() -> None:
    leases = Leases()
    told: list[int] = []
    for holder in (1, 2):
        leases.add(holder, LEASE, lambda holder=holder: told.append(holder), at(0))  # type: ignore[misc]  # mypy infers no default of a lambda
    leases.lose([1])
    leases.lose([1])
    assert told == [1]
    assert leases.all() == [2]


def test_one_that_fails_to_be_told_keeps_nobody_from_hearing(caplog: pytest.LogCaptureFixture) -> None:
    leases = Leases()
    told: list[int] = []
    leases.add(1, LEASE, lambda: 1 // 0, at(0))  # type: ignore[arg-type]  # it raises
    leases.add(2, LEASE, lambda: told.append(2), at(0))
    leases.lose([1, 2])
    assert told == [2]
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    ("holder", "over"),
    [(other(10.0), True), (other(10.5), True), (other(11.0), False), (other(99.0, boot="another"), True)],
)
def test_a_lease_is_over_by_its_time_or_its_boot(holder: HolderInfo, over: bool) -> None:
    """E201: at the exact moment too, where the book's rescue takes what it covers."""
    assert Rescuer().decide([holder], alive, at(10.5)) is over


def test_a_rescuer_in_time_rescues_at_once() -> None:
    rescuer = Rescuer()
    assert rescuer.is_due(at(0))
    assert not rescuer.decide([other(5)], alive, at(0))
    assert not rescuer.is_due(at(LOOK_SECONDS / 2))
    assert rescuer.decide([other(0.1)], alive, at(LOOK_SECONDS))
    assert rescuer.decide([other(99)], dead, at(2 * LOOK_SECONDS))


def test_a_rescuer_that_was_stopped_gives_the_others_time_to_renew() -> None:
    """T1: everybody was stopped for an hour, and nobody is dead."""
    rescuer = Rescuer()
    rescuer.decide([], alive, at(0))
    assert not rescuer.decide([other(30)], alive, at(3600))
    for steady in (3600.5, 3605, 3609.5):
        assert not rescuer.decide([other(30)], alive, at(steady))
    assert rescuer.decide([other(30)], alive, at(3610))


def test_what_is_renewed_meanwhile_is_left_alone() -> None:
    """T1: the others renew within that time."""
    rescuer = Rescuer()
    rescuer.decide([], alive, at(0))
    assert not rescuer.decide([other(30)], alive, at(3600))
    assert not rescuer.decide([other(3632)], alive, at(3611))


def test_a_rescuer_a_little_late_is_believed() -> None:
    rescuer = Rescuer()
    rescuer.decide([], alive, at(0))
    assert rescuer.decide([other(1)], alive, at(LOOK_SECONDS + LEASE / 3 - 0.1))


def test_a_rescuer_is_late_by_the_measure_of_the_holder_that_it_sees() -> None:
    """T1: a short lease is over sooner, and its holder is given its own third."""
    rescuer = Rescuer()
    rescuer.decide([], alive, at(0))
    assert not rescuer.decide([other(1, lease=3.0)], alive, at(5))
    assert rescuer.decide([other(1, lease=3.0)], alive, at(6))


def test_a_steady_clock_that_was_set_back_does_not_end_the_looks() -> None:
    """T1: a clock that runs backwards, as a steady one should not."""
    rescuer = Rescuer()
    rescuer.decide([], alive, at(1000))
    assert rescuer.is_due(at(0))


def test_after_a_rest_no_look_is_late() -> None:
    rescuer = Rescuer()
    rescuer.decide([], alive, at(0))
    rescuer.rest()
    assert rescuer.is_due(at(0.1))
    assert rescuer.decide([other(1)], alive, at(5000))
