"""How many more jobs a worker can start."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import Lane
from engine.jobs._memory.book import MemoryBook
from engine.jobs._moment import Moment
from engine.jobs._records import NewHolder, NewJob
from engine.jobs._worker.rooms import BATCH_MOST, Rooms, Step, claim_in_steps, plan_steps

NOW = Moment(1000.0, 1000.0, "boot")
LANES = {"l": Lane.LOOP, "t": Lane.THREAD, "p": Lane.PROCESS}


def rooms(concurrency: int = 10, **queues: int | None) -> Rooms:
    return Rooms(concurrency, lambda: queues, {Lane.LOOP: 100, Lane.THREAD: 5, Lane.PROCESS: 2})


def test_what_runs_takes_room_in_all_of_its_queue_and_of_its_lane() -> None:
    counted = rooms(mail=3, default=None)
    counted.take("mail", Lane.PROCESS)
    counted.take("mail", None)  # of a name that nobody knows: it runs nowhere
    assert counted.left == 8
    assert counted.left_of_queues() == {"mail": 1, "default": 8}
    assert counted.left_of_lane(Lane.PROCESS) == 1
    counted.free("mail", Lane.PROCESS)
    assert (counted.left, counted.left_of_lane(Lane.PROCESS)) == (9, 2)


def test_no_queue_has_more_room_than_there_is_in_all() -> None:
    counted = rooms(1, mail=3)
    assert counted.left_of_queues() == {"mail": 1}
    counted.take("mail", Lane.LOOP)
    assert counted.left_of_queues() == {"mail": 0}


@pytest.mark.parametrize(
    ("left", "loop", "thread", "process", "steps"),
    [
        (0, 9, 9, 9, ()),
        (9, 9, 9, 9, (Step(9, frozenset()),)),
        (9, 30, 20, 10, (Step(9, frozenset()),)),
        (9, 9, 5, 2, (Step(2, frozenset()), Step(5, frozenset("p")), Step(9, frozenset("pt")))),
        (9, 9, 5, 0, (Step(5, frozenset("p")), Step(9, frozenset("pt")))),
        (9, 0, 0, 0, ()),
        (9, -3, 0, 1, (Step(1, frozenset("lt")),)),
    ],
)
def test_each_claim_passes_over_the_lanes_that_may_be_full_by_then(
    left: int, loop: int, thread: int, process: int, steps: tuple[Step, ...]
) -> None:
    """E125: one claim knows one number; several in one transaction bound each lane."""
    assert plan_steps(left, {Lane.LOOP: loop, Lane.THREAD: thread, Lane.PROCESS: process}, LANES) == steps


def test_without_a_task_there_is_one_claim_of_a_batch() -> None:
    lanes = dict.fromkeys(Lane, 0)
    assert plan_steps(10_000, lanes, {}) == (Step(BATCH_MOST, frozenset()),)


@given(
    names=st.lists(st.sampled_from("ltp"), max_size=40), left=st.integers(0, 30),
    lanes=st.fixed_dictionaries({lane: st.integers(-1, 12) for lane in Lane}),
    mail=st.integers(0, 12),
)  # fmt: skip
def test_no_lane_and_no_queue_gets_more_than_it_has_room_for(
    names: list[str], left: int, lanes: Mapping[Lane, int], mail: int
) -> None:
    """E125: whatever waits, in whatever order; and the most urgent job that has room is always among them."""
    book = MemoryBook()
    holder = book.hold(NewHolder(name="h", pid=1, pid_started=0.0, namespace="", lease=30.0), NOW)
    jobs = [NewJob(queue="mail" if n % 2 else "default", name=name, args="{}") for n, name in enumerate(names)]
    book.enqueue(jobs, NOW)
    steps = plan_steps(left, lanes, LANES)
    claimed = claim_in_steps(book, NOW, holder, {"mail": mail, "default": left}, steps)[0].jobs
    assert len(claimed) <= left
    assert sum(job.queue == "mail" for job in claimed) <= mail
    for name, lane in LANES.items():
        assert sum(job.name == name for job in claimed) <= max(0, lanes[lane])
    first = next((j for j in jobs if lanes[LANES[j.name]] > 0 and (j.queue == "default" or mail)), None)
    if left and first is not None:
        assert claimed
        assert claimed[0].name == first.name
