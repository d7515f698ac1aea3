"""Cron expressions in zones whose clock is put forward and back, and expressions that are attacks."""

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from engine.jobs._schedules import cron as _cron
from engine.jobs._schedules.cron import Cron, check_cron, check_zone

BERLIN, NEW_YORK, LORD_HOWE = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"
#: Midnight of the day on which the clock is put forward, and of that on which it is put back, in 2025.
FORWARD = {BERLIN: "2025-03-30", NEW_YORK: "2025-03-09", LORD_HOWE: "2025-10-05"}
BACK = {BERLIN: "2025-10-26", NEW_YORK: "2025-11-02", LORD_HOWE: "2025-04-06"}


def cron(text: str, zone: str = "UTC") -> Cron:
    return check_cron(text, check_zone(zone))


def fires(text: str, zone: str, day: str, hours: int = 5) -> list[str]:
    """Return when it fires in the first ``hours`` of a day, as its clock shows it, with the offset from UTC."""
    each, instant = cron(text, zone), datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone)).timestamp() - 1
    end, found = instant + hours * 3600, []
    while (following := each.next_after(instant)) is not None and following <= end:
        assert following > instant
        instant = following
        found.append(datetime.fromtimestamp(instant, ZoneInfo(zone)).strftime("%H:%M%z").removesuffix("00"))
    return found


@pytest.mark.parametrize(
    ("text", "zone", "expected"),
    [
        ("30 2 * * *", BERLIN, ["03:00+02"]),
        ("30 2 * * *", NEW_YORK, ["03:00-04"]),
        ("15 2 * * *", LORD_HOWE, ["02:30+11"]),  # the half hour from 2:00 is not there
        ("30 2 * * *", LORD_HOWE, ["02:30+11"]),
        ("0,30 2,3 * * *", BERLIN, ["03:00+02", "03:30+02"]),  # three of the four at one instant: once
        ("*/30 * * * *", BERLIN, ["00:00+01", "00:30+01", "01:00+01", "01:30+01", "03:00+02", "03:30+02", "04:00+02"]),
        ("*/30 1-2 * * *", NEW_YORK, ["01:00-05", "01:30-05"]),
        ("*/30 1-2 * * *", LORD_HOWE, ["01:00+1030", "01:30+1030", "02:30+11"]),
        ("*/20 3 * * *", LORD_HOWE, ["03:00+11", "03:20+11", "03:40+11"]),
        ("0 * * * *", BERLIN, ["00:00+01", "01:00+01", "03:00+02", "04:00+02"]),
        ("0 * * * *", LORD_HOWE, ["00:00+1030", "01:00+1030", "03:00+11", "04:00+11"]),
        ("0 */2 * * *", NEW_YORK, ["00:00-05", "04:00-04"]),
    ],
)  # fmt: skip
def test_a_clock_that_is_put_forward(text: str, zone: str, expected: list[str]) -> None:
    """T3: times of day that are skipped fire at the change, once; a rhythm knows no times that never were."""
    assert fires(text, zone, FORWARD[zone])[: len(expected)] == expected


@pytest.mark.parametrize(
    ("text", "zone", "expected"),
    [
        ("30 2 * * *", BERLIN, ["02:30+02"]),
        ("30 1 * * *", NEW_YORK, ["01:30-04"]),
        ("45 1 * * *", LORD_HOWE, ["01:45+11"]),
        ("0,30 1,2 * * *", BERLIN, ["01:00+02", "01:30+02", "02:00+02", "02:30+02"]),
        ("*/30 1-2 * * *", BERLIN, ["01:00+02", "01:30+02", "02:00+02", "02:30+02", "02:00+01", "02:30+01"]),
        ("*/30 1-2 * * *", NEW_YORK, ["01:00-04", "01:30-04", "01:00-05", "01:30-05", "02:00-05", "02:30-05"]),
        ("*/30 1-2 * * *", LORD_HOWE, ["01:00+11", "01:30+11", "01:30+1030", "02:00+1030", "02:30+1030"]),
        ("*/10 2 * * *", LORD_HOWE, [f"02:{minute:02}+1030" for minute in range(0, 60, 10)]),
        ("0 * * * *", BERLIN, ["00:00+02", "01:00+02", "02:00+02", "02:00+01", "03:00+01"]),
        ("0 * * * *", LORD_HOWE, ["00:00+11", "01:00+11", "02:00+1030", "03:00+1030", "04:00+1030"]),
    ],
)
def test_a_clock_that_is_put_back(text: str, zone: str, expected: list[str]) -> None:
    """T3: times of day that come twice fire once, at first; a rhythm goes on as time does."""
    assert fires(text, zone, BACK[zone], hours=6)[: len(expected)] == expected


def test_the_second_time_that_a_clock_shows_a_time_is_the_end_of_its_day() -> None:
    """T3, E130: asked within the hour that comes again, the parser's own walk answers with an instant that is past."""
    again = datetime(2025, 10, 26, 2, 10, tzinfo=ZoneInfo(BERLIN), fold=1).timestamp()
    following = cron("30 2 * * *", BERLIN).next_after(again)
    assert following == datetime(2025, 10, 27, 2, 30, tzinfo=ZoneInfo(BERLIN)).timestamp()


@pytest.mark.parametrize("zone", [BERLIN, NEW_YORK, LORD_HOWE, "America/Santiago", "Africa/Casablanca"])
@pytest.mark.parametrize(("text", "least", "most"), [("30 2 * * *", 23.0, 25.5), ("0 0 * * *", 23.0, 25.0)])
def test_a_time_of_day_fires_once_on_each_day_of_a_year(zone: str, text: str, least: float, most: float) -> None:
    """T3: none is left out and none comes twice, whatever the zone does."""
    each, found = cron(text, zone), [datetime(2025, 1, 1, tzinfo=UTC).timestamp()]
    while len(found) < 370:
        following = each.next_after(found[-1])
        assert following is not None
        found.append(following)
    days = [datetime.fromtimestamp(at, ZoneInfo(zone)).date() for at in found[1:]]
    assert all((after - before).days == 1 for before, after in pairwise(days))
    assert all(least <= (after - before) / 3600 <= most for before, after in pairwise(found[1:]))


def test_a_day_that_comes_every_four_years_is_found() -> None:
    start = datetime(2096, 3, 1, tzinfo=UTC).timestamp()
    following = cron("0 12 29 2 *").next_after(start)
    assert following == datetime(2104, 2, 29, 12, tzinfo=UTC).timestamp()  # 2100 is no leap year


@pytest.mark.parametrize("text", ["0 0 30 2 *", "0 0 31 2,4,6,9,11 *", "0 0 */30 2 MON#5"])
def test_a_day_that_never_comes_is_refused(text: str) -> None:
    """T3: Feb 30."""
    with pytest.raises(ValueError, match="expected a cron expression to be one"):
        cron(text)


@pytest.mark.parametrize(
    "value",
    [
        "", " ", "*", "* * * *", "@daily", "* * * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *",
        "* * * * 8", "*/0 * * * *", "5-1 * * * *", "1,,2 * * * *", "-1 * * * *", "1.5 * * * *", "a b c d e",
        "* * * * x", "½ * * * *", "\u0661 * * * *", "0 0 0 * *", "L * * * *",
        "* * * * #", "* * * * 1#6", "* * * * L", "1/1/1 * * * *",
        None, 5, b"* * * * *", ["*"], True, float("nan"),
    ],
)  # fmt: skip
def test_what_is_no_expression_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"expected a cron expression to be .*, got "):
        cron(value)


def test_a_field_of_seconds_is_refused_with_what_to_say_instead() -> None:
    """T3: every second."""
    with pytest.raises(ValueError, match=r"five fields .*; use every=1\.0 for periods shorter than a minute"):
        cron("* * * * * *")


@pytest.mark.parametrize(
    "bomb",
    [
        "* " * 500_000, "0," * 400_000 + "0 * * * *", "*/1," * 3000 + "* * * * *", "0-" + "9" * 10_000 + " * * * *",
        "1/" + "1" * 100 + " * * * *", "*/" * 50 + "1 * * * *", "9" * 100 + " * * * *", "* * * * *\x00",
        "* * * * " + "MON#5," * 18 + "1", "*\n*\n*\n*\n*" * 1000,
    ],
)  # fmt: skip
def test_a_bomb_is_refused_or_searched_in_a_few_steps(bomb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """X15: a mebibyte, thousands of list entries, huge ranges and steps."""
    searched: list[str] = []
    search = _cron._next_match

    def noted(text: str, time: datetime) -> datetime | None:
        searched.append(text)
        return search(text, time)

    monkeypatch.setattr(_cron, "_next_match", noted)
    try:
        cron(bomb, BERLIN).next_after(0.0)
    except ValueError:
        pass
    assert len(searched) <= 5
    assert all(len(text) <= 120 for text in searched)


@pytest.mark.parametrize(
    "text",
    ["*/7 * * * *", "0 0 29 2 *", "*/5 2 29 2 *", "0 0 * 2 MON#5", "*/10 2 30 3 *", "59 23 31 12 *", "*/9 2 * 3 SUN"],
)
@pytest.mark.parametrize("zone", ["UTC", BERLIN, LORD_HOWE, "Africa/Casablanca"])
def test_a_search_takes_a_few_steps_however_rare_the_days(
    text: str, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """X15: each step is a search of the parser's, which ends after fifty years."""
    each, steps = cron(text, zone), 0
    search = _cron._next_match

    def counted(text: str, time: datetime) -> datetime | None:
        nonlocal steps
        steps += 1
        return search(text, time)

    monkeypatch.setattr(_cron, "_next_match", counted)
    assert each.next_after(datetime(2025, 3, 30, tzinfo=UTC).timestamp()) is not None
    assert steps <= 20


@pytest.mark.parametrize(
    "value", ["", "Mars", "../../etc/passwd", "/etc/passwd", "Europe", "x" * 10**6, "Europe/Berlin\x00", None, 1, UTC]
)
def test_what_is_no_zone_is_refused(value: Any) -> None:
    """X15: nor is any file read that is no zone."""
    with pytest.raises(ValueError, match="expected tz to be a zone of the IANA database"):
        check_zone(value)


def test_a_missing_parser_is_an_error_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cronsim", None)
    _cron._parser.cache_clear()
    try:
        with pytest.raises(ImportError, match=r"pip install 'hybrid-engine\[jobs\]'"):
            cron("* * * * *")
    finally:
        _cron._parser.cache_clear()
