"""Schedules in a store: one job for one period, whoever looks, and wherever the clock is moved."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from engine.jobs._jobs import Jobs
from engine.jobs._memory.store import MemoryStore
from engine.jobs._records import Filter, JobInfo
from engine.jobs._reply import Reply
from engine.jobs._schedules.cron import check_cron
from engine.jobs._schedules.interval import Interval, check_interval
from engine.jobs._schedules.schedule import Schedule
from engine.jobs._schedules.ticker import LOOK, Ticker
from engine.jobs.errors import StoreFull
from tests.support import eventually_async

UTC_ZONE = ZoneInfo("UTC")
NOON = datetime(2025, 6, 1, 12, tzinfo=UTC).timestamp()
MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0


class Hand:
    """A clock on the wall, which anybody may set."""

    def __init__(self) -> None:
        self.wall = NOON

    def now(self) -> float:
        return self.wall


@Jobs(MemoryStore()).task(lock="report-{at}")
def report(a: int, at: str = "never") -> None: ...


def schedule(text: str | float = "*/5 * * * *", name: str = "report", **more: Any) -> Schedule:
    timetable = Interval(text) if isinstance(text, float) else check_cron(text, UTC_ZONE)
    call = more.pop("call", report.partial(a=1))
    return Schedule(name=name, timetable=timetable, call=call, **more)


class Place:
    """A store, the clock it lives by, and tickers for the same schedules."""

    def __init__(self, *schedules: Schedule) -> None:
        self.hand = Hand()
        self.store = MemoryStore(clock=self.hand, epoch=0.0)
        self.schedules = {each.name: each for each in schedules}
        self.ticker = self.another()

    def another(self) -> Ticker:
        return Ticker(self.store, lambda: self.schedules)

    async def look_at(self, wall: float) -> float | None:
        self.hand.wall = wall
        return await self.ticker.look()

    def jobs(self) -> list[JobInfo]:
        return self.store.read(lambda book, now: book.find(Filter(oldest_first=True))).result()

    def count(self) -> int:
        return len(self.jobs())


async def test_each_period_is_enqueued_as_it_begins_and_once() -> None:
    place = Place(schedule())
    await place.look_at(NOON + 1)
    for minutes, count in [(4.99, 0), (5, 1), (5.1, 1), (9, 1), (10, 2), (15.5, 3), (15.6, 3)]:
        await place.look_at(NOON + minutes * MINUTE)
        assert place.count() == count
    assert {job.schedule for job in place.jobs()} == {"report"}


async def test_a_look_says_when_the_next_one_is_to_be() -> None:
    place = Place(schedule())
    assert await place.look_at(NOON + 4 * MINUTE + 58) == pytest.approx(2.0)
    assert await place.look_at(NOON + 5 * MINUTE) == 300.0
    assert await Place().look_at(NOON) is None


async def test_what_was_never_seen_before_catches_nothing_up() -> None:
    """T4."""
    place = Place(schedule("0 * * * *", catch_up="last"))
    await place.look_at(NOON + 30 * MINUTE)
    assert place.count() == 0
    place.ticker = place.another()  # and that it was seen is kept
    await place.look_at(NOON + 70 * MINUTE)
    assert place.count() == 1


@pytest.mark.parametrize(("catch_up", "count"), [("none", 0), ("last", 1)])
async def test_after_a_day_without_anybody_the_last_period_is_caught_up_or_none(catch_up: str, count: int) -> None:
    """T4: four engines come up after it, in whatever order, and look as often as they like."""
    place = Place(schedule(catch_up=catch_up, period_as="at"))
    await place.look_at(NOON + 1)
    place.hand.wall = NOON + DAY + 2 * MINUTE
    for ticker in [place.another() for _ in range(4)] * 3:
        await ticker.look()
    assert [job.args for job in place.jobs()] == ['{"a":1,"at":"2025-06-02T12:00:00+00:00"}'] * count
    assert [job.lock for job in place.jobs()] == ["report-2025-06-02T12:00:00+00:00"] * count


async def test_four_engines_enqueue_one_job_for_each_period() -> None:
    """T4."""
    place = Place(schedule())
    tickers = [place.another() for _ in range(4)]
    for minute in range(61):
        place.hand.wall = NOON + minute * MINUTE + 1
        await asyncio.gather(*(ticker.look() for ticker in tickers))
    assert place.count() == 12


@pytest.mark.parametrize(("seconds", "count"), [(59, 1), (61, 0)])
async def test_a_short_restart_misses_no_period(seconds: float, count: int) -> None:
    place = Place(schedule())
    await place.look_at(NOON + 1)
    place.ticker = place.another()
    await place.look_at(NOON + 5 * MINUTE + seconds)
    assert place.count() == count


async def test_of_many_periods_that_pass_at_once_one_is_enqueued() -> None:
    """A loop that was held up, a machine that slept: no flood afterwards."""
    place = Place(schedule(1.0, catch_up="last"))
    await place.look_at(NOON)
    await place.look_at(NOON + HOUR)
    assert place.count() == 1


async def test_a_clock_that_is_set_back_an_hour_repeats_no_period() -> None:
    """T1."""
    place = Place(schedule(catch_up="last"))
    for minute in (0, 5, 10, 15):
        await place.look_at(NOON + minute * MINUTE)
    assert place.count() == 3
    for minute in range(-45, 16):
        await place.look_at(NOON + minute * MINUTE)
    assert place.count() == 3
    await place.look_at(NOON + 20 * MINUTE)
    assert place.count() == 4


@pytest.mark.parametrize("catch_up", ["none", "last"])
@pytest.mark.parametrize("restarted", [False, True])
async def test_a_clock_that_was_ten_years_ahead_does_not_silence_a_schedule(catch_up: str, restarted: bool) -> None:
    """T1."""
    place = Place(schedule(catch_up=catch_up))
    await place.look_at(NOON)
    await place.look_at(NOON + 3650 * DAY)
    await place.look_at(NOON + 3650 * DAY + 5 * MINUTE)
    assert place.count() == 2
    if restarted:
        place.ticker = place.another()
    await place.look_at(NOON + 6 * MINUTE)
    await place.look_at(NOON + 10 * MINUTE)
    await place.look_at(NOON + 10.1 * MINUTE)
    assert place.count() == 3


async def test_a_schedule_that_waits_for_its_queueing_lock_skips_the_period() -> None:
    place = Place(schedule(call=report.options(queueing_lock="report").partial(a=1)))
    for minute in range(31):
        await place.look_at(NOON + minute * MINUTE)
    assert place.count() == 1


async def test_a_period_that_the_store_did_not_take_is_enqueued_when_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(schedule())
    await place.look_at(NOON)
    with monkeypatch.context() as patch:
        patch.setattr(place.store, "write", lambda operation: Reply.failed(StoreFull()))
        with pytest.raises(StoreFull):
            await place.look_at(NOON + 5 * MINUTE)
    await place.look_at(NOON + 5 * MINUTE + LOOK)
    assert place.count() == 1


async def test_a_schedule_whose_job_cannot_be_made_keeps_no_other_from_its_periods(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """E131."""
    broken = schedule(name="broken", call=report.partial(a=1, at=[]))  # what does not fit into the lock
    place = Place(broken, schedule())
    await place.look_at(NOON)
    await place.look_at(NOON + 5 * MINUTE)
    assert [job.schedule for job in place.jobs()] == ["report"]
    assert "broken: */5 * * * * (UTC) leaves out a period" in caplog.text


async def test_a_schedule_that_is_new_or_changed_counts_from_the_next_look_on() -> None:
    place = Place()
    await place.look_at(NOON)
    place.schedules = {"report": schedule("0 * * * *")}
    await place.look_at(NOON + 1)
    place.schedules = {"report": schedule("*/5 * * * *")}
    await place.look_at(NOON + 5 * MINUTE)
    assert place.count() == 1


async def test_the_loop_of_a_ticker_outlives_a_store_that_refuses(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("engine.jobs._schedules.ticker.LOOK", 0.001)
    store = MemoryStore()
    write, refusals = store.write, iter([StoreFull()] * 3)

    def moody(operation: Any) -> Reply[Any]:
        error = next(refusals, None)
        return write(operation) if error is None else Reply.failed(error)

    monkeypatch.setattr(store, "write", moody)
    running = asyncio.create_task(Ticker(store, lambda: {"often": schedule(0.02, name="often")}).run())
    await eventually_async(lambda: len(store.read(lambda book, now: book.find(Filter())).result()) >= 2)
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]  # said once, and when it is over
    store.close()
    await running  # what is closed needs no ticker


@pytest.mark.parametrize("value", [0, -1, 0.5, float("nan"), float("inf"), 1e18, True, "60", None, 10**400])
def test_an_interval_that_is_none_is_refused(value: Any) -> None:
    """T5."""
    with pytest.raises(ValueError, match=r"expected every to be a (finite )?number of seconds"):
        check_interval(value)
