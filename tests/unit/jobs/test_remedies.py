"""What is said to somebody who holds it wrong: what to do instead."""

import asyncio
import datetime
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from engine import BlockingEngine, Engine, Retry
from engine.jobs import JobRefused, Jobs, MemoryStore, PayloadRefused, SQLiteStore, StoreError, snooze
from engine.testing import VirtualClock
from tests.support import REPOSITORY
from tests.unit.jobs.by_hand import PATIENCE

MINUTE = datetime.timedelta(minutes=1)
NOON = datetime.datetime(2100, 1, 1, 12, tzinfo=datetime.UTC)


class Desk:
    """A Jobs in memory with two tasks and one job."""

    def __init__(self) -> None:
        self.jobs: Any = Jobs(MemoryStore())  #: as one without a type checker uses it
        self.send: Any = self.jobs.task(name="send")(_send)
        self.other: Any = self.jobs.task(name="other")(_other)
        self.brief: Any = self.jobs.task(name="brief", expires=60)(_other)
        self.job = self.send.enqueue(to="x").result(PATIENCE)


def _send(to: str, copies: int = 1) -> None: ...


def _other() -> None: ...


async def _worker_in_with(desk: Desk) -> None:
    async with Engine(threads=1, processes=1) as engine:
        with desk.jobs.worker(engine):
            pass


async def _for_in_reply(desk: Desk) -> None:
    async for _ in desk.jobs.list():
        pass


SAID: list[tuple[Callable[[Desk], Any], type[Exception], str]] = [
    (lambda it: it.send.enqueue("x", delay=5), TypeError, r"for the option say .options\(delay=...\).enqueue\(...\)"),
    (lambda it: it.send.call("x", queue="q", lock="l"), TypeError, r"say .options\(queue=..., lock=...\)"),
    (lambda it: it.send.enqueue(too="x"), TypeError, "did you mean 'to'"),
    (lambda it: it.send.partial(copy=2), TypeError, "did you mean 'copies'"),
    (lambda it: it.send.enqueue("x", zzz=2), TypeError, "unexpected keyword argument 'zzz'$"),
    (lambda it: it.send.options(timeout=5), TypeError, r"say timeout=... on @jobs.task"),
    (lambda it: it.send.options(retry=Retry()), TypeError, r"say retry=... on @jobs.task"),
    (lambda it: it.send.options(lane="io"), TypeError, r"say lane=... on @jobs.task"),
    (lambda it: it.send.options(daley=5), TypeError, "did you mean 'delay'"),
    (lambda it: it.jobs.task(priorty=5)(_other), TypeError, "got 'priorty'; did you mean 'priority'"),
    (lambda it: it.jobs.periodic("@daily"), ValueError, r"five fields .*; say '0 0 \* \* \*'"),
    (lambda it: it.jobs.periodic("@reboot"), ValueError, "five fields"),
    (lambda it: it.jobs.cancel(it.job), ValueError, "expected job_id to be an integer, .*; say job.id"),
    (lambda it: it.jobs.get(it.send.enqueue("x")), ValueError, "expected job_id to be an integer, .*; say job.id"),
    (lambda it: it.jobs.worker(BlockingEngine), ValueError, r"use async with Engine\(\) as engine"),
    (lambda it: asyncio.run(_worker_in_with(it)), TypeError, "use async with jobs.worker"),
    (
        lambda it: it.jobs.task(max_retries=3)(_other),
        TypeError,
        r"got 'max_retries'; say retry=Retry\(max_attempts=...\)",
    ),
    (lambda it: it.jobs.task(delay=3)(_other), TypeError, r"say it of one job: .options\(delay=...\).enqueue"),
    (lambda it: it.jobs.task("mail"), TypeError, "got 'mail'; say name=... or queue=..."),
    (
        lambda it: it.jobs.periodic("0 * * * *", tz=ZoneInfo("Europe/Berlin")),
        ValueError,
        "say its name: tz='Europe/Berlin'",
    ),
    (lambda it: it.jobs.periodic("0 * * * *", tz=datetime.UTC), ValueError, "say its name: tz='UTC'"),
    (lambda it: it.send.enqueue(it.send.enqueue("x")), PayloadRefused, "got engine.jobs._reply.*; await it, and pass"),
    (lambda it: it.send.enqueue(it.job), PayloadRefused, "pass job.id"),
    (lambda it: it.send.enqueue(range(3)), PayloadRefused, r"pass list\(value\)"),
    (lambda it: it.jobs.query("SELECT ?", "pending"), ValueError, r"expected parameters .*; for one say \(value,\)"),
    (lambda it: Jobs("sqlite:///jobs.db"), ValueError, "got 'sqlite:///jobs.db'; say the path alone"),
    (lambda it: Jobs("~/jobs.db"), ValueError, r"got '~/jobs.db'; say Path\(...\).expanduser\(\)"),
    (lambda it: it.send.options(delay=60, expires=5).enqueue("x"), JobRefused, "expires is not after delay"),
    (lambda it: it.brief.options(delay=60).enqueue(), JobRefused, "expires is not after delay"),
    (lambda it: it.send.options(at=NOON, expires=NOON).enqueue("x"), JobRefused, "expires is not after at"),
    (
        lambda it: it.jobs.enqueue_many(it.send.options(delay=6, expires=5), [{"to": "x"}]),
        JobRefused,
        "not after delay",
    ),
    (lambda it: list(it.jobs.list()), TypeError, "expected the answer .*, got a Reply that stands for it; await it"),
    (lambda it: len(it.jobs.list()), TypeError, "got a Reply that stands for it; await it"),
    (lambda it: it.jobs.list()[0], TypeError, "got a Reply that stands for it; await it"),
    (lambda it: 3 in it.jobs.list(), TypeError, "got a Reply that stands for it; await it"),
    (lambda it: "yes" if it.jobs.requeue(99) else "no", TypeError, "got a Reply that stands for it; await it"),
    (lambda it: asyncio.run(_for_in_reply(it)), TypeError, "got a Reply that stands for it; await it"),
    (
        lambda it: it.send.options(delay=5)("x"),
        TypeError,
        r"expected .enqueue\(...\) or .call\(...\) behind send.options",
    ),
    (lambda it: Jobs(MemoryStore(), queues=["mail"]).pause("mial"), ValueError, "one of the declared queues .*'mial'"),
    (lambda it: snooze(5), RuntimeError, r"expected snooze\(\) in a job, got a call outside of one"),
]


@pytest.mark.parametrize(("call", "kind", "message"), SAID, ids=range(len(SAID)))
def test_what_is_held_wrong_says_what_to_do(call: Callable[[Desk], Any], kind: type[Exception], message: str) -> None:
    """E163, E173, E174, E175: the remedy is part of the message."""
    desk = Desk()
    with pytest.raises(kind, match=message):
        call(desk)


class Mail:
    """What a newcomer decorates."""

    def method(self, to: str) -> None: ...

    def for_class(cls, to: str) -> None: ...  # as under @classmethod

    @staticmethod
    def static(to: str) -> None: ...


def test_what_nobody_can_name_again_is_no_task() -> None:
    """E164: a lambda without a name, and what needs an object that no row can keep."""
    jobs: Any = Jobs(MemoryStore())
    with pytest.raises(ValueError, match=r"expected a function with a name, got .*lambda.*; use def, or say name="):
        jobs.task(lambda: None)
    for method, first in ((Mail.method, "self"), (Mail.for_class, "cls")):
        for register in (jobs.task, jobs.task(name="x")):
            with pytest.raises(TypeError, match=f"got the method .*, whose {first} no job can keep"):
                register(method)
    assert not jobs.tasks
    assert jobs.task(Mail.static).name == f"{__name__}.Mail.static"
    assert jobs.task(name="short")(lambda: None).name == "short"
    assert jobs.task(name="self")(lambda self: None).name == "self"  # a function all the same


@pytest.mark.parametrize("how", ["-c", "-"])
def test_what_is_typed_in_needs_a_name(how: str) -> None:
    """E164: no worker could import it as a module called __main__."""
    code = (
        "from engine.jobs import Jobs, MemoryStore\njobs = Jobs(MemoryStore())\n"
        "def f(): ...\nprint(jobs.task(name='f')(f).name)\n"
        "try: jobs.task(f)\nexcept ValueError as error: print(error)\n"
    )
    command = [sys.executable, "-c", code] if how == "-c" else [sys.executable, "-"]
    typed = None if how == "-c" else code
    run = subprocess.run(command, input=typed, capture_output=True, text=True, timeout=60, check=True, cwd=REPOSITORY)
    assert run.stdout.startswith("f\nexpected name=... for what is typed in or given to -c, got <function f at")


def test_durations_may_be_timedeltas() -> None:
    """E163: wherever seconds from now, or between, are said."""
    desk = Desk()
    job = desk.send.options(delay=MINUTE, expires=2 * MINUTE).enqueue(to="x").result(PATIENCE)
    assert job.expires_at - job.due_at == MINUTE
    assert job.due_at - job.created_at == MINUTE
    assert desk.jobs.task(name="briefer", expires=MINUTE)(_other).expires == 60.0
    assert desk.jobs.task(name="timed", timeout=MINUTE)(_other).timeout == 60.0
    desk.jobs.periodic(every=MINUTE)(desk.other)
    assert str(desk.jobs.schedules["other"]) == "other: every 60 s"
    assert desk.jobs.prune(older_than=MINUTE).result(PATIENCE) == 0


def test_jobs_are_listed_by_their_tasks() -> None:
    """E163: or by the names of those."""
    desk = Desk()
    desk.other.enqueue().result(PATIENCE)
    for names in (desk.send, [desk.send], "send", {"send"}):
        assert [each.id for each in desk.jobs.list(names=names).result(PATIENCE)] == [desk.job.id]
    assert len(desk.jobs.list(names=[desk.send, "other"]).result(PATIENCE)) == 2


def test_a_connection_is_not_for_async_with(tmp_path: Path) -> None:
    """E163: its statements hold up the loop, and so it does not look as if they did not."""

    async def main(jobs: Any) -> None:
        connection = jobs.connect()
        try:
            async with connection:
                pass
        finally:
            connection.close()

    with Jobs(tmp_path / "jobs.db") as jobs, pytest.raises(TypeError, match="got it in async with; use with"):
        asyncio.run(main(jobs))


def test_a_directory_that_is_not_there_says_what_works(tmp_path: Path) -> None:
    """E163: what it says can be done as it says it."""
    path = tmp_path / "none" / "jobs.db"
    with pytest.raises(StoreError, match=r"make it, or say Jobs\(SQLiteStore\(path, make_directory=True\)\)"):
        Jobs(path).open()
    with Jobs(SQLiteStore(path, make_directory=True)):
        assert path.exists()


@pytest.mark.parametrize(("missing", "use"), [("apsw", "Jobs('x.db')"), ("cronsim", "jobs.periodic('0 * * * *')")])
def test_an_extra_that_is_missing_is_all_that_is_told(missing: str, use: str) -> None:
    """E163: one traceback, of which the last line says what to install."""
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        f"from engine.jobs import Jobs, MemoryStore\njobs = Jobs(MemoryStore())\n{use}\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False, cwd=REPOSITORY
    )
    assert run.stderr.count("Traceback") == 1
    assert run.stderr.splitlines()[-1].endswith("pip install 'hybrid-engine[jobs]'")


def test_a_run_is_put_off_by_a_timedelta() -> None:
    """E173: as whatever else is told in seconds."""
    jobs = Jobs(MemoryStore(clock=VirtualClock()))
    begun: list[int] = []

    @jobs.task(name="poll")
    def poll() -> None:
        begun.append(1)
        if len(begun) < 2:
            snooze(MINUTE)

    poll.enqueue().result(PATIENCE)
    assert [jobs.run_inline(within=seconds) for seconds in (59, 2)] == [1, 1]


def test_schedules_take_no_local_time_for_granted() -> None:
    """E173: what comes after an instant without a zone depends on where one is."""
    desk = Desk()
    desk.jobs.periodic("0 * * * *")(desk.other)
    schedule = desk.jobs.schedules["other"]
    with pytest.raises(ValueError, match=r"expected after to be a datetime with a time zone, .*; use datetime.now"):
        next(schedule.upcoming(datetime.datetime(2100, 1, 1, 12)))
    assert next(schedule.upcoming(NOON)) == NOON + 60 * MINUTE
