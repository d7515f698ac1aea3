"""When a cron expression fires, against a walk through every minute; what is no expression is refused and no more."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.jobs._schedules.cron import Cron, check_cron, check_zone
from engine.jobs._schedules.interval import Interval
from engine.jobs._schedules.schedule import last_in

#: Zones and a day on which something happens to their clock: by an hour, by half of one, at midnight, by a whole day.
TRANSITIONS = [
    ("Europe/Berlin", "2025-03-30"), ("Europe/Berlin", "2025-10-26"),
    ("America/New_York", "2025-03-09"), ("America/New_York", "2025-11-02"),
    ("Australia/Lord_Howe", "2025-10-05"), ("Australia/Lord_Howe", "2025-04-06"),
    ("America/Santiago", "2025-09-07"), ("America/Santiago", "2025-04-06"), ("Asia/Beirut", "2025-10-26"),
    ("Africa/Casablanca", "2025-02-23"), ("Antarctica/Troll", "2025-03-30"), ("Pacific/Apia", "2011-12-30"),
]  # fmt: skip
MINUTE = 60


def field(least: int, most: int) -> st.SearchStrategy[str]:
    number = st.integers(least, most)
    spans = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    rhythm = st.integers(2, 30).map("*/{}".format)
    return st.one_of(st.just("*"), rhythm, number.map(str), spans, st.lists(number.map(str), min_size=2).map(",".join))


fields = st.tuples(
    field(0, 59), st.one_of(field(0, 23), field(0, 3)), st.one_of(st.just("*"), field(1, 31)), st.just("*"),
    st.one_of(st.just("*"), field(0, 7)),
)  # fmt: skip


def shown(second: int, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(second, zone).replace(tzinfo=None, fold=0)


def walk(cron: Cron, start: int, end: int) -> Iterator[int]:
    """Give every instant in (start, end] at which ``cron`` fires, by a look at the clock each minute."""
    begin = datetime.fromtimestamp(start, UTC).replace(tzinfo=None) - timedelta(days=2)
    times = set()
    for time in CronSim(cron.text, begin):
        if time > begin + timedelta(seconds=end - start, days=4):
            break
        times.add(time)
    is_rhythm = any(part.startswith("*") for part in cron.text.split()[:2])
    before = shown(start - 2 * 86_400, cron.zone)
    fired: set[datetime] = set()
    for second in range(start - 2 * 86_400, end + 1, MINUTE):
        now = shown(second, cron.zone)
        passed = {now}
        if not is_rhythm:  # with those over which the clock was put forward, but none that it has shown before
            minutes = range(MINUTE, int((now - before).total_seconds()), MINUTE)
            passed |= {before + timedelta(seconds=skipped) for skipped in minutes}
            passed -= fired
            fired |= passed
        before = now
        if second > start and not passed.isdisjoint(times):
            yield second


@settings(max_examples=60)
@given(fields, st.sampled_from(TRANSITIONS), st.integers(-360, 60))
@example(("*/10", "2", "*", "*", "*"), ("Australia/Lord_Howe", "2025-04-06"), -60)
@example(("*/10", "3", "*", "*", "*"), ("Australia/Lord_Howe", "2025-10-05"), -60)
def test_it_fires_when_a_walk_through_every_minute_says_so(
    parts: tuple[str, ...], transition: tuple[str, str], offset: int
) -> None:
    """T3, E130: never twice, and nothing left out that the rule does not say."""
    zone, day = transition
    try:
        cron = check_cron(" ".join(parts), check_zone(zone))
    except ValueError:
        return  # no day is like that
    start = int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) + offset * MINUTE
    end, found, instant = start + 30 * 3600, [], float(start)
    while (following := cron.next_after(instant)) is not None and following <= end:
        assert following > instant
        instant = following
        found.append(int(instant))
    assert found == list(walk(cron, start, end))
    assert last_in(cron, start, end) == (found[-1] if found else None)


@given(st.lists(st.text("0123456789*/-,#LW ?MONJANtue\t_", max_size=12), min_size=5, max_size=5))
def test_fields_that_fight_are_refused_and_nothing_else(parts: list[str]) -> None:
    """X15: no error but ValueError, and a search that ends."""
    try:
        cron = check_cron(" ".join(parts), check_zone("Europe/Berlin"))
    except ValueError:
        return
    following = cron.next_after(1_750_000_000.5)
    assert following is None or following > 1_750_000_000.5


@given(st.floats(1, 31_622_400), st.floats(0, 4e9))
@example(1.1, 1.1 * 1_600_000_007)
def test_an_interval_goes_on_and_agrees_with_itself(every: float, instant: float) -> None:
    """T5: also where the multiples of ``every`` are rounded."""
    interval = Interval(every)
    following = interval.next_after(instant)
    assert instant < following <= instant + every * (1 + 1e-9) + 1e-6
    assert last_in(interval, instant, following) == following
    before = instant + (following - instant) / 2
    assert following == interval.next_after(before) or before == following
