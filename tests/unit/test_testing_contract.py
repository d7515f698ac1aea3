"""``check_lane`` says which promise a lane breaks; that ours break none is tests/contracts/test_lane.py's."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, Lane
from engine.testing import CHECKS, LaneKit, check_lane, lane_contract

SLOTS = "no_more_run_at_once_than_there_are_slots"
VALUE = "a_value_comes_back_with_all_arguments_passed"
DOORS = "every_claimed_attempt_leaves_by_one_door"


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_contract, "CHECKS", {name: CHECKS[name] for name in (VALUE, SLOTS, DOORS)})


def many_threads(**settings: Any) -> Engine:
    """Give an engine whose thread lane takes more at once than it was told to."""
    return Engine(**{**settings, "threads": 9})


@pytest.mark.usefixtures("few")
def test_a_lane_that_keeps_its_promises_passes() -> None:
    check_lane(Lane.THREAD)
    check_lane("loop", Engine)


@pytest.mark.usefixtures("few")
def test_a_broken_promise_is_named() -> None:
    with pytest.raises(ExceptionGroup, match="the thread lane breaks 1 of its 3 promises") as caught:
        check_lane(Lane.THREAD, many_threads)
    (error,) = caught.value.exceptions
    assert str(error).startswith("expected the thread lane to keep 'no more run at once than there are slots', got ")
    assert isinstance(error.__cause__, AssertionError)


@pytest.mark.usefixtures("few")
def test_the_watched_front_is_as_before() -> None:
    from engine._registry import Registry
    from engine._scheduler import Scheduler

    before = dict(vars(Registry)), dict(vars(Scheduler))
    check_lane(Lane.LOOP)
    assert (dict(vars(Registry)), dict(vars(Scheduler))) == before


def test_a_lane_that_never_answers_is_an_error_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(kit: LaneKit, folder: Path) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(lane_contract, "CHECKS", {"it_ends": never})
    monkeypatch.setattr(lane_contract, "_LONGEST", 0.01)
    with pytest.raises(ExceptionGroup) as caught:
        check_lane(Lane.LOOP)
    assert str(caught.value.exceptions[0]) == "expected the loop lane to keep 'it ends', got TimeoutError"


def test_every_check_is_a_sentence_and_there_are_all() -> None:
    assert len(CHECKS) == 33
    assert all(name.islower() and name.count("_") >= 2 for name in CHECKS)
