"""What ``@jobs.periodic`` takes, and what it makes of it."""

from datetime import UTC, datetime
from itertools import islice
from typing import Any

import pytest

from engine.jobs import Jobs, MemoryStore
from engine.jobs._schedules.interval import Interval
from engine.jobs.errors import JobRefused, PayloadRefused

MARCH = datetime(2025, 3, 29, tzinfo=UTC)


@pytest.fixture
def jobs() -> Jobs:
    return Jobs(MemoryStore())


def test_a_plain_function_becomes_a_task_with_a_schedule_of_its_name(jobs: Jobs) -> None:
    @jobs.periodic("0 3 * * *")
    def clean() -> int:
        return 1

    assert clean() == 1
    assert jobs.tasks[clean.name] is clean
    schedule = jobs.schedules[clean.name]
    assert str(schedule) == f"{clean.name}: 0 3 * * * (UTC)"
    assert next(schedule.upcoming(MARCH)) == datetime(2025, 3, 29, 3, tzinfo=UTC)
    assert schedule.catch_up == "none"


def test_a_task_may_have_several_schedules_with_arguments_and_options(jobs: Jobs) -> None:
    @jobs.periodic(every=60, name="short", args={"kind": "short"}, queueing_lock="poll", priority="low")
    @jobs.periodic("0 * * * *", name="long", args={"kind": "long"}, queue="deep", expires=300, lock="other")
    @jobs.task(queue="polls", lock="poll-{kind}", max_crashes=1)
    def poll(kind: str) -> None: ...

    short, long = (jobs.schedules[name].job_of(0.0) for name in ("short", "long"))
    assert (short.queue, short.args, short.lock, short.priority) == ("polls", '{"kind":"short"}', "poll-short", -10)
    assert (short.queueing_lock, short.schedule, short.max_crashes) == ("poll", "short", 1)
    assert (long.queue, long.args, long.lock, long.expires_in) == ("deep", '{"kind":"long"}', "other", 300.0)
    assert jobs.schedules["short"].timetable == Interval(60.0)
    assert sorted(jobs.queues) == ["deep", "polls"]  # a worker serves both


def test_the_period_is_an_argument_in_the_zone_of_its_schedule(jobs: Jobs) -> None:
    """T3: which night a job is for, it knows also on the one in which the clock skips its hour."""

    @jobs.periodic("30 2 * * *", tz="Europe/Berlin", period_as="night")
    @jobs.task(name="report", lock="report-{night}")
    def report(night: str, pages: int = 1) -> None: ...

    schedule = jobs.schedules["report"]
    told = [each.isoformat() for each in islice(schedule.upcoming(MARCH), 3)]
    assert told == ["2025-03-29T02:30:00+01:00", "2025-03-30T03:00:00+02:00", "2025-03-31T02:30:00+02:00"]
    row = schedule.job_of(datetime.fromisoformat(told[1]).timestamp())
    assert (row.args, row.lock) == ('{"night":"2025-03-30T03:00:00+02:00"}', "report-2025-03-30T03:00:00+02:00")


def test_a_task_of_another_jobs_is_refused(jobs: Jobs) -> None:
    other = Jobs(MemoryStore())

    @other.task
    def clean() -> None: ...

    with pytest.raises(ValueError, match="expected a task of <Jobs 'memory', 0 tasks>, got <JobTask"):
        jobs.periodic(every=60)(clean)
    assert jobs.schedules == {}


def test_the_name_of_a_schedule_is_taken_once(jobs: Jobs) -> None:
    @jobs.periodic(every=60)
    @jobs.periodic(every=60, name="clean")
    @jobs.task(name="first")
    def first() -> None: ...

    with pytest.raises(ValueError, match=r"the name of a schedule to be unique, and .*first.* has it already"):

        @jobs.periodic("0 0 * * *", name="clean")
        def second() -> None: ...

    with pytest.raises(ValueError, match="the name of a schedule to be unique"):
        jobs.periodic("0 0 * * *")(first)
    assert str(jobs.schedules["clean"]) == "clean: every 60 s"


def test_a_module_that_is_run_again_puts_its_schedules_in_the_place_of_the_old_ones() -> None:
    namespace: dict[str, Any] = {"__name__": "again", "jobs": Jobs(MemoryStore())}
    for minutes in (5, 10):
        source = f"@jobs.periodic('*/{minutes} * * * *', name='it')\ndef fn(): ..."
        exec(compile(source, "again.py", "exec"), namespace)
    assert str(namespace["jobs"].schedules["it"]) == "it: */10 * * * * (UTC)"


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        ({}, ValueError, "a cron expression or every=seconds, got both or neither"),
        ({"cron": "0 0 * * *", "every": 5}, ValueError, "got both or neither"),
        ({"cron": "0 0 30 2 *"}, ValueError, "on a day that exists"),
        ({"cron": "0 0 * * *", "tz": "Mars"}, ValueError, "expected tz to be a zone"),
        ({"every": 60, "tz": "UTC"}, ValueError, "expected every without tz"),
        ({"every": float("nan")}, ValueError, "expected every to be"),
        ({"every": True}, ValueError, "expected every to be"),
        ({"every": 60, "catch_up": "all"}, ValueError, "expected catch_up to be one of 'none', 'last', got 'all'"),
        ({"every": 60, "name": ""}, ValueError, "expected name to be a string"),
        ({"every": 60, "expires": -1}, ValueError, "expected expires to be"),
        ({"every": 60, "expires": MARCH}, TypeError, "expected expires of a schedule to be seconds"),
        ({"every": 60, "queue": "\n"}, ValueError, "expected queue to be"),
        ({"every": 60, "at": MARCH}, TypeError, "expected options that a schedule may have, got 'at'"),
        ({"every": 60, "connection": None}, TypeError, "got 'connection'"),
        ({"every": 60, "colour": "red"}, TypeError, "expected options among"),
        ({"every": 60, "args": [1]}, ValueError, "expected args to be a mapping"),
        ({"every": 60, "args": {"a": float("nan")}}, PayloadRefused, r"args\['a'\]"),
        ({"every": 60, "args": {"a": 1, "b": 2}}, TypeError, "expected arguments that"),
        ({"every": 60, "args": {}}, ValueError, "expected a schedule of .* to give each argument, got none for a"),
        ({"every": 60, "args": {"a": 1}, "period_as": "a"}, ValueError, "expected period_as to be a parameter"),
        ({"every": 60, "period_as": "b"}, ValueError, "expected period_as to be a parameter"),
        ({"every": 60, "period_as": 5}, ValueError, "expected period_as to be a parameter"),
        ({"every": 60, "args": {"a": [1]}}, JobRefused, "which is part of the lock"),
    ],
)  # fmt: skip
def test_what_makes_no_schedule_is_refused_where_it_is_said(
    jobs: Jobs, given: dict[str, Any], error: type[Exception], match: str
) -> None:
    """T5, X15: with nothing registered under the name."""

    @jobs.task(lock="lock-{a}")
    def task(a: Any) -> None: ...

    whole = given if "period_as" in given else {"args": {"a": 1}, **given}
    with pytest.raises(error, match=match):
        jobs.periodic(whole.pop("cron", None), **whole)(task)
    assert jobs.schedules == {}
