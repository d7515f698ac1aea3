"""Tickers of one store, each looking now and then: one job for one period, and none is missed that somebody saw."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.jobs import Jobs, MemoryStore
from engine.jobs._records import Filter
from engine.jobs._schedules.ticker import Ticker

NOON = datetime(2025, 6, 1, 12, tzinfo=UTC).timestamp()
EXPRESSIONS = {"often": "* * * * *", "now-and-then": "*/7 * * * *", "hourly": "30 * * * *"}


class Hand:
    """A clock that is set."""

    wall = NOON

    def now(self) -> float:
        return self.wall


class Place:
    """A store with schedules, and tickers that come and go."""

    def __init__(self, catch_up: str = "none") -> None:
        self.hand = Hand()
        self.jobs = Jobs(MemoryStore(clock=self.hand, epoch=0.0))
        for name, text in EXPRESSIONS.items():
            self.jobs.periodic(text, name=name, period_as="at", catch_up=catch_up)(self._task(name))
        self.tickers: dict[int, Ticker] = {}

    def _task(self, name: str) -> Any:
        @self.jobs.task(name=f"task {name}")
        def note(at: str) -> None: ...

        return note

    async def look(self, number: int, *, restarts: bool = False) -> None:
        if restarts or number not in self.tickers:
            self.tickers[number] = Ticker(self.jobs.store, lambda: self.jobs.schedules)
        await self.tickers[number].look()

    def periods(self) -> Counter[tuple[str | None, float]]:
        found = self.jobs.store.read(lambda book, now: book.find(Filter(limit=100_000))).result()
        return Counter((job.schedule, datetime.fromisoformat(job.args[7:-2]).timestamp()) for job in found)

    def expected(self, start: float, end: float) -> Counter[tuple[str | None, float]]:
        found: Counter[tuple[str | None, float]] = Counter()
        for name, schedule in self.jobs.schedules.items():
            at = schedule.timetable.next_after(start)
            while at is not None and at <= end:
                found[name, at] += 1
                at = schedule.timetable.next_after(at)
        return found


steps = st.lists(st.tuples(st.integers(0, 2), st.floats(0, 59), st.booleans()), min_size=1, max_size=60)


@settings(max_examples=60)
@given(steps)
async def test_where_somebody_looks_each_minute_each_period_is_enqueued_once(
    steps: list[tuple[int, float, bool]],
) -> None:
    """T4: whoever it is, and whoever is begun anew."""
    place = Place()
    await place.look(0)
    for number, seconds, restarts in steps:
        place.hand.wall += seconds
        await place.look(number, restarts=restarts)
    assert place.periods() == place.expected(NOON, place.hand.wall)


moves = st.one_of(st.floats(0, 300), st.floats(-3600, 0), st.sampled_from([86_400.0, -3600.0, 315_360_000.0]))


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 2), moves, st.booleans()), max_size=40), st.sampled_from(["none", "last"]))
async def test_wherever_the_clock_is_put_no_period_is_enqueued_twice_and_every_schedule_goes_on(
    steps: list[tuple[int, float, bool]], catch_up: str
) -> None:
    """T1, T4: forward by years, back by an hour at a time, at most half a day in all."""
    place = Place(catch_up)
    await place.look(0)
    farthest = NOON
    for number, seconds, restarts in steps:
        place.hand.wall = max(place.hand.wall + seconds, farthest - 43_200)
        farthest = max(farthest, place.hand.wall)
        await place.look(number, restarts=restarts)
    assert set(place.periods().values()) <= {1}
    place.hand.wall = farthest + 10  # soon it is later than ever
    for _ in range(65):
        place.hand.wall += 60
        await place.look(0)
    late = {name for name, at in place.periods() if at > farthest}
    assert late == set(EXPRESSIONS)
