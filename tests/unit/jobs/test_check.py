"""What is wrong with a configuration is found before anything runs."""

import logging
from pathlib import Path

import pytest

from engine import Engine
from engine.jobs import ConfigurationError, Finding, Jobs, MemoryStore, SQLiteStore
from engine.jobs._schedules.cron import Cron, check_zone
from engine.jobs._schedules.schedule import Schedule
from tests.support import eventually_async


def found(jobs: Jobs) -> list[tuple[str, str]]:
    return [(finding.level, finding.what) for finding in jobs.check()]


def test_a_configuration_that_can_work_has_no_findings() -> None:
    jobs = Jobs(MemoryStore(), routes={"reports.*": "slow"}, queues={"slow": 1, "mail": None})

    @jobs.task(name="reports.daily")
    def report() -> None: ...

    @jobs.periodic("0 3 * * *")
    @jobs.task(queue="mail", lane="thread")
    def send() -> None: ...

    @jobs.task(name="reports.poll", lane="loop")
    async def poll() -> None: ...

    assert jobs.check() == ()


def test_the_lane_has_to_fit_the_function() -> None:
    jobs = Jobs(MemoryStore())

    @jobs.task(name="fetch", lane="thread")
    async def fetch() -> None: ...

    @jobs.task(name="burn", lane="loop")
    def burn() -> None: ...

    assert found(jobs) == [
        ("error", "task 'fetch' is a coroutine function on the lane 'thread'"),
        ("error", "task 'burn' is a plain function on the lane 'loop', which it would hold up"),
    ]


def test_a_route_that_no_task_takes_is_found_also_one_behind_another() -> None:
    jobs = Jobs(MemoryStore(), routes={"reports.*": "slow", "reports.daily": "daily", "mial.*": "mail"})

    @jobs.task(name="reports.daily")
    def daily() -> None: ...

    assert daily.queue == "slow"
    whats = [what for level, what in found(jobs) if level == "warning"]
    assert whats[:2] == ["the route 'reports.daily' is taken by no task", "the route 'mial.*' is taken by no task"]
    assert whats[2:] == ["the queue 'daily' is that of no task", "the queue 'mail' is that of no task"]


def test_a_queue_of_no_task_is_found_but_one_of_a_schedule_is_used() -> None:
    jobs = Jobs(MemoryStore(), queues=["default", "nightly", "spare"])

    @jobs.periodic("0 3 * * *", queue="nightly")
    @jobs.task
    def clean() -> None: ...

    assert found(jobs) == [("warning", "the queue 'spare' is that of no task")]


def test_a_schedule_that_is_due_never_again_is_found() -> None:
    """T3: the decorator refuses one; this holds however it was made."""
    jobs = Jobs(MemoryStore())

    @jobs.task(name="clean")
    def clean() -> None: ...

    never = Cron("0 0 */30 2 MON#5", check_zone("UTC"))
    jobs.catalog.add_schedule(Schedule(name="never", timetable=never, call=clean.partial()))
    assert found(jobs) == [("error", "schedule 'never' (0 0 */30 2 MON#5 (UTC)) is due never again")]


def test_errors_come_first_and_a_finding_tells_itself() -> None:
    jobs = Jobs(MemoryStore(), queues=["default", "spare"])

    @jobs.task(name="fetch", lane="process")
    async def fetch() -> None: ...

    assert [finding.level for finding in jobs.check()] == ["error", "warning"]
    assert str(jobs.check()[0]) == (
        "error: task 'fetch' is a coroutine function on the lane 'process'; leave lane out, or make it a plain function"
    )


def test_a_check_opens_no_store(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path / "jobs.db")

    @jobs.periodic("0 3 * * *")
    def clean() -> None: ...

    assert jobs.check() == ()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_what_waits_and_nobody_runs_is_found_in_the_store(kind: str, tmp_path: Path) -> None:
    store = MemoryStore() if kind == "memory" else SQLiteStore(tmp_path / "jobs.db", "normal")
    with Jobs(store) as writer:

        @writer.task(name="old.name", queue="mail")
        def old() -> None: ...

        @writer.task(name="send", queue="mail")
        def send() -> None: ...

        @writer.task(name="other", queue="elsewhere")
        def other() -> None: ...

        writer.enqueue_many(old, [{}] * 3).result()
        send.enqueue().result()
        other.enqueue().result()
        reader = Jobs(store)
        reader.task(name="send", queue="mail")(send.fn)
        reader.task(name="other", queue="mail")(other.fn)
        reader.pause("mail").result()
        assert reader.check_store().result() == (
            Finding(
                "warning",
                "of the 5 jobs that wait and were enqueued last, 3 are of tasks that nobody has registered here: "
                "'old.name' (3)",
                "import the modules that define them, or have another worker run them from a queue of their own",
            ),
            Finding(
                "warning", "1 jobs wait in the queue 'elsewhere', which is that of no task here",
                "serve it: jobs.worker(queues=...), or say Jobs(queues=...)",
            ),
            Finding("warning", "the queue 'mail' is paused, and 4 jobs wait in it", "jobs.resume('mail')"),
        )  # fmt: skip
        assert writer.resume("mail").result() is None
        assert writer.check_store().result() == ()


async def test_a_worker_does_not_start_on_errors_and_opens_nothing(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path / "jobs.db", queues=["default", "spare"])

    @jobs.task(name="fetch", lane="thread")
    async def fetch() -> None: ...

    @jobs.task(name="burn", lane="loop")
    def burn() -> None: ...

    async with Engine(processes=1, threads=1) as engine:
        with pytest.raises(ConfigurationError, match=r"(?s)'fetch' is a coroutine.*'burn' is a plain") as caught:
            await jobs.worker(engine).start()
    assert caught.value.findings == jobs.check()
    assert not (tmp_path / "jobs.db").exists()


async def test_a_worker_logs_warnings_once(caplog: pytest.LogCaptureFixture) -> None:
    jobs = Jobs(MemoryStore())

    @jobs.task
    def send() -> None: ...

    await jobs.pause("default")
    await jobs.pause("empty")  # which is worth no line
    await send.enqueue()
    async with Engine(processes=1, threads=1) as engine, jobs.worker(engine, queues=["default", "mial"]):
        await eventually_async(lambda: "is paused" in caplog.text)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 2
    assert "memory: the queue 'mial' is that of no task; mend its name" in warnings[0]
    assert "memory: the queue 'default' is paused, and 1 jobs wait in it" in warnings[1]


async def test_a_worker_logs_a_bounded_number_of_warnings(caplog: pytest.LogCaptureFixture) -> None:
    """E153: where each user has a queue of his own, say, and another worker serves them."""
    jobs = Jobs(MemoryStore())

    @jobs.task
    def send() -> None: ...

    for number in range(50):
        await send.options(queue=f"user-{number}").enqueue()
    async with Engine(processes=1, threads=1) as engine, jobs.worker(engine):
        await eventually_async(lambda: "30 findings more" in caplog.text)
    assert caplog.text.count("which is that of no task here") == 20


def test_default_may_be_declared_for_tasks_to_come() -> None:
    """E175: it is where a task is that says no queue; a worker that is to serve it alone has nothing to do."""
    jobs = Jobs(MemoryStore(), queues={"mail": 4, "default": None})

    @jobs.task(name="send", queue="mail")
    def send() -> None: ...

    assert jobs.check() == ()
    assert [finding.what for finding in jobs.check(["default"])] == ["the queue 'default' is that of no task"]
