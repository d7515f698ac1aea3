"""What is enqueued, how, and what is refused."""

import asyncio
import datetime
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from engine import Priority, TaskState
from engine.jobs import AlreadyEnqueued, Gate, JobRefused, Jobs, JobTask, MemoryStore, PayloadRefused, StoreError
from tests.unit.jobs.by_hand import PATIENCE, claim, fetched

UTC = datetime.UTC


@pytest.fixture
def send(jobs: Jobs) -> JobTask[..., None]:
    @jobs.task(name="mail.send", queue="mail", priority=5, expires=60.0, max_crashes=7)
    def send(to: str, *, copies: int = 1) -> None: ...

    return send


async def test_enqueue_gives_the_job_that_is_in_the_store(jobs: Jobs, send: JobTask[..., None]) -> None:
    job = await send.enqueue("x", copies=2)
    found = await jobs.get(job.id)
    for each in (job, found):
        assert (each.name, each.queue, each.priority, each.max_crashes) == ("mail.send", "mail", 5, 7)
        assert (each.args, each.state, each.waits_for) == ({"to": "x", "copies": 2}, TaskState.PENDING, Gate.READY)
        assert each.expires_at is not None
        assert each.expires_at - each.created_at == pytest.approx(datetime.timedelta(seconds=60), abs=SECOND)
    assert abs(job.created_at - datetime.datetime.now(UTC)) < 60 * SECOND
    assert found.created_at == job.created_at


SECOND = datetime.timedelta(seconds=1)


def test_a_thread_without_a_loop_enqueues(jobs: Jobs, send: JobTask[..., None]) -> None:
    job = send.enqueue(to="x").result(PATIENCE)
    assert claim(jobs, "mail").id == job.id


def test_arguments_are_the_functions_own(jobs: Jobs) -> None:
    """Names that the library uses too: none of them is taken from the function."""

    @jobs.task(name="all")
    def odd(self: int, fn: int, task: int, args: int, kwargs: int, delay: int, name: int, timeout: int) -> int:
        return self

    given = {"self": 1, "fn": 2, "task": 3, "args": 4, "kwargs": 5, "delay": 6, "name": 7, "timeout": 8}
    call: Any = odd
    assert call.enqueue(**given).result(PATIENCE).args == given
    assert call.options(delay=5).enqueue(**given).result(PATIENCE).args == given
    assert call.call(**given).args == given
    assert call.partial(**given).args == given
    assert call(**given) == 1


def test_extra_arguments_by_name_are_kept(jobs: Jobs) -> None:
    @jobs.task(name="extra")
    def task(a: int, **more: int) -> dict[str, int]:
        return {"a": a, **more}

    assert task.enqueue(1, more=2, b=3).result(PATIENCE).args == {"a": 1, "more": 2, "b": 3}
    assert task(**task.call(1, more=2).args) == {"a": 1, "more": 2}


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, "takes, but missing a required argument: 'to'"),
        ((), {"to": 1, "cc": 2}, "got an unexpected keyword argument 'cc'"),
        ((1, 2), {}, "too many positional arguments"),
        ((1,), {"to": 2}, "multiple values for argument 'to'"),
    ],
)
def test_arguments_that_the_function_does_not_take_are_refused(
    jobs: Jobs, send: Any, args: tuple[Any, ...], kwargs: dict[str, Any], message: str
) -> None:
    """J7: missing and extra arguments are a TypeError where they are enqueued, and nothing is kept."""
    for enqueue in (send.enqueue, send.options(delay=1).enqueue, send.call):
        with pytest.raises(TypeError, match=message):
            enqueue(*args, **kwargs)
    assert jobs.list().result(PATIENCE) == []


def test_parameters_without_names_are_refused_at_the_decorator(jobs: Jobs) -> None:
    def starred(*words: str) -> None: ...

    def positional(word: str, /) -> None: ...

    for fn, shown in ((starred, r"\*words"), (positional, "word")):
        with pytest.raises(TypeError, match=rf"parameters that a call can name.*got '{shown}"):
            jobs.task(fn)


def test_a_payload_that_is_refused_leaves_nothing(jobs: Jobs, send: JobTask[..., None]) -> None:
    with pytest.raises(PayloadRefused, match=r"expected args\['to'\] to be what JSON can carry"):
        send.enqueue(to=b"x")
    assert jobs.list().result(PATIENCE) == []


@pytest.fixture
def checked() -> Any:
    """Give a task for what is checked before any store is asked."""
    return Jobs(MemoryStore()).task(name="send")(lambda to: None)


# -- options ----------------------------------------------------------------------------------------------------------

AWARE = datetime.datetime(2040, 1, 1, tzinfo=UTC)


def test_options_are_in_the_row(jobs: Jobs, send: JobTask[..., None]) -> None:
    until = AWARE + datetime.timedelta(hours=1)
    view = send.options(at=AWARE, priority="high", queue="slow", lock="l").options(queueing_lock="q", expires=until)
    job = fetched(jobs, view.enqueue(to="x").result(PATIENCE))
    assert (job.due_at, job.expires_at, job.waits_for) == (AWARE, until, Gate.LATER)
    assert (job.priority, job.queue, job.lock, job.queueing_lock) == (Priority.HIGH, "slow", "l", "q")
    assert fetched(jobs, send.enqueue(to="x").result(PATIENCE)).lock is None  # the task itself has none of it


def test_none_takes_back_what_was_said(jobs: Jobs, send: JobTask[..., None]) -> None:
    view = send.options(delay=50, priority=9, queue="slow", lock="l", queueing_lock="q")
    job = view.options(
        delay=None, priority=None, queue=None, lock=None, queueing_lock=None, expires=None
    ).enqueue(to="x").result(PATIENCE)  # fmt: skip
    assert (job.due_at, job.expires_at, job.lock, job.queueing_lock) == (None, None, None, None)
    assert (job.priority, job.queue) == (5, "mail")


@pytest.mark.parametrize("name", ["delay", "at", "expires", "priority"])
@pytest.mark.parametrize(
    "value", [-1, math.nan, math.inf, -math.inf, 1e18, True, datetime.datetime(2040, 1, 1), "x", object(), 1j, 10**400],
    ids=repr,
)  # fmt: skip
def test_times_and_priorities_out_of_range_are_refused(checked: Any, name: str, value: Any) -> None:
    """T5: -1, NaN, infinity, 1e18, True and a naive datetime are a ValueError; a delay of 0 is none."""
    if name == "priority" and type(value) is int and value == -1:
        return
    with pytest.raises(ValueError, match=f"expected {name} to be .*, got"):
        checked.options(**{name: value})


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, 1e18, True, "x"])
def test_durations_of_a_task_are_checked(value: Any) -> None:
    """T5: and so are the settings of a task, where 0 is no duration."""
    for name in ("timeout", "expires"):
        with pytest.raises(ValueError, match=f"expected {name} to be"):
            Jobs(MemoryStore()).task(**{name: value})(lambda: None)
    with pytest.raises(ValueError, match="expected lease to be"):
        Jobs(MemoryStore(), lease=value)


def test_a_delay_of_zero_is_none_and_zero_for_expires_is_refused(jobs: Jobs, send: JobTask[..., None]) -> None:
    """T5: what 0 means."""
    job = send.options(delay=0).enqueue(to="x").result(PATIENCE)
    assert (job.waits_for, job.due_at) == (Gate.READY, None)
    assert fetched(jobs, job).waits_for is Gate.READY
    with pytest.raises(ValueError, match="use expires=None for never"):
        send.options(expires=0)


def test_an_instant_that_is_past_means_at_once(jobs: Jobs, send: JobTask[..., None]) -> None:
    past = send.options(at=datetime.datetime(1970, 1, 2, tzinfo=UTC)).enqueue(to="x").result(PATIENCE)
    assert claim(jobs, "mail").id == past.id


def test_wrong_times_say_what_to_use(checked: Any) -> None:
    """T5: the remedy is in the message."""
    for given, remedy in (
        ({"at": 5}, r"use delay=\.\.\., for seconds since the epoch datetime\.fromtimestamp"),
        ({"at": datetime.datetime(2040, 1, 1)}, r"use datetime\.now\(timezone\.utc\), or \.astimezone\(\)"),
        ({"at": datetime.date(2040, 1, 1)}, "a datetime with a time zone"),
        ({"delay": datetime.timedelta(-1)}, "a finite number of seconds"),
        ({"delay": 1, "at": AWARE}, "expected delay or at, got both"),
    ):
        with pytest.raises(ValueError, match=remedy):
            checked.options(**given)


class Strange(datetime.tzinfo):
    """A time zone that raises."""

    def utcoffset(self, when: datetime.datetime | None) -> datetime.timedelta:
        raise ZeroDivisionError

    def dst(self, when: datetime.datetime | None) -> datetime.timedelta:
        raise ZeroDivisionError

    def tzname(self, when: datetime.datetime | None) -> str:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    "zone", [Strange(), datetime.timezone(datetime.timedelta(hours=-23))], ids=["raises", "no such year"]
)
def test_a_datetime_that_has_no_place_in_utc_is_refused(checked: Any, zone: datetime.tzinfo) -> None:
    """T5: an error of a time zone is ours to tell."""
    strange = datetime.datetime.max.replace(tzinfo=zone)
    if isinstance(zone, Strange):
        with pytest.raises(ValueError, match="a datetime that has a place in UTC"):
            checked.options(at=strange)
    else:
        job = checked.options(at=strange).enqueue(to="x").result(PATIENCE)
        assert job.due_at == datetime.datetime.max.replace(tzinfo=UTC)


def test_no_duration_takes_long_to_refuse() -> None:
    """X15: a number of a million digits, and a pattern of stars, are refused without being looked through."""
    jobs = Jobs(MemoryStore())
    send: Any = jobs.task(name="send")(lambda: None)
    for value in (1 << 10**7, -(1 << 10**7)):
        for name in ("delay", "expires", "at", "priority"):
            with pytest.raises(ValueError, match=name):
                send.options(**{name: value})
    for pattern in ("*" * 100, "*a" * 20, "x" * 201):
        with pytest.raises(ValueError, match="a pattern in routes"):
            Jobs(MemoryStore(), routes={pattern: "q"})


def test_an_unknown_option_or_setting_names_those_there_are(jobs: Jobs, send: Any) -> None:
    with pytest.raises(TypeError, match=r"expected options among at, connection, delay, .*, got 'daley'"):
        send.options(daley=5)
    with pytest.raises(TypeError, match=r"expected settings among .*, got 'que'"):
        jobs.task(que="x")(lambda: None)  # type: ignore[call-overload]  # what is refused


# -- names and queues -------------------------------------------------------------------------------------------------

BAD_NAMES = [
    "", "a" * 201, "a\nb", "a\r", "\x1b[31m", "\x1b]0;x\x07", "a\u202eb", "a\u2066", "\ud800", "a\0", "\x7f", "a\u2028",
    "\ufeff", 5, None, b"x",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_names_that_cannot_be_shown_on_one_line_are_refused(checked: Any, name: Any) -> None:
    """E117: control characters, turns of the direction of writing, surrogates and length, in any name."""
    for refused in (
        lambda: checked.jobs.pause(name),
        lambda: Jobs(MemoryStore(), routes={"x": name}),
        lambda: Jobs(MemoryStore(), routes={name: "x"}),
        lambda: Jobs(MemoryStore(), queues=[name]),
    ):
        with pytest.raises(ValueError, match="a string of 1 to 200 printable characters"):
            refused()
    if name is None:
        return  # as if nothing was said
    for option in ("queue", "lock", "queueing_lock"):
        with pytest.raises(ValueError, match=f"expected {option} to be a string of 1 to 200 printable characters"):
            checked.options(**{option: name})
    with pytest.raises(ValueError, match="expected name to be"):
        checked.jobs.task(name=name)(lambda: None)


def test_declared_queues_are_the_only_ones() -> None:
    jobs = Jobs(MemoryStore(), queues={"mail": 4, "slow": None}, routes={"r.*": "slow"})
    send: Any = jobs.task(name="send", queue="mail")(lambda: None)
    assert jobs.queues == {"mail": 4, "slow": None}
    with pytest.raises(ValueError, match=r"one of the declared queues \('mail', 'slow'\), got 'mial'"):
        send.options(queue="mial")
    with pytest.raises(ValueError, match="got 'default'"):
        jobs.task(name="x")(lambda: None)
    with pytest.raises(ValueError, match="got 'fast'"):
        Jobs(MemoryStore(), queues=["slow"], routes={"x": "fast"})
    with pytest.raises(ValueError, match="use queues="):
        Jobs(MemoryStore(), queues="mail")


def test_options_win_over_routes_and_routes_over_the_task() -> None:
    jobs = Jobs(MemoryStore(), routes={"reports.*": "slow"})
    task: Any = jobs.task(name="reports.daily", queue="own")(lambda: None)
    assert task.enqueue().result().queue == "slow"
    assert task.options(queue="now").enqueue().result().queue == "now"
    assert jobs.queues == {"slow": None}


# -- locks ------------------------------------------------------------------------------------------------------------


def test_a_lock_has_the_arguments_in_it(jobs: Jobs) -> None:
    @jobs.task(name="sync", lock="user-{user}/{kind} {{}}")
    def sync(user: int, kind: str = "all") -> None: ...

    assert sync.enqueue(5).result(PATIENCE).lock == "user-5/all {}"
    assert sync.enqueue(user=6, kind="x").result(PATIENCE).lock == "user-6/x {}"
    assert sync.options(lock="own {user}").enqueue(5).result(PATIENCE).lock == "own {user}"
    assert sync.options(lock=None).enqueue(5).result(PATIENCE).lock is None
    for bad in (None, True, 1.5, [1], "", "a\n", "a" * 300):
        with pytest.raises(JobRefused, match="lock"):
            sync.enqueue(user=bad)  # type: ignore[arg-type]  # what is refused


@pytest.mark.parametrize(
    "lock", ["{user.__class__}", "{user[0]}", "{user!r}", "{user:>9}", "{}", "{0}", "{nobody}", "{"]
)
def test_nothing_but_parameters_is_in_the_braces_of_a_lock(lock: str) -> None:
    with pytest.raises(ValueError, match="lock"):

        @Jobs(MemoryStore()).task(lock=lock)
        def sync(user: str) -> None: ...


@pytest.mark.parametrize("where", ["threads", "loop"])
def test_of_64_enqueues_with_one_queueing_lock_one_is_kept(jobs: Jobs, send: JobTask[..., None], where: str) -> None:
    """J10: the other 63 learn the id of the one."""
    view = send.options(queueing_lock="daily")
    together = threading.Barrier(16)

    def enqueue(number: int) -> Any:
        together.wait(PATIENCE)
        try:
            return view.enqueue(to=str(number)).result(PATIENCE).id
        except AlreadyEnqueued as error:
            return error

    async def all_on_a_loop() -> list[Any]:
        replies = [view.enqueue(to=str(number)) for number in range(64)]
        return await asyncio.gather(*[_awaited(each) for each in replies], return_exceptions=True)

    if where == "loop":
        found = [each.id if not isinstance(each, Exception) else each for each in asyncio.run(all_on_a_loop())]
    else:
        with ThreadPoolExecutor(16) as pool:
            found = list(pool.map(enqueue, range(64)))
    ids = [each for each in found if isinstance(each, int)]
    refused = [each for each in found if isinstance(each, AlreadyEnqueued)]
    assert (len(ids), len(refused)) == (1, 63)
    assert {(each.queueing_lock, each.job_id) for each in refused} == {("daily", ids[0])}
    assert [job.id for job in jobs.list().result(PATIENCE)] == ids


async def _awaited(reply: Any) -> Any:
    return await reply


# -- stores -----------------------------------------------------------------------------------------------------------


def test_a_store_that_there_is_not_says_what_to_do() -> None:
    with pytest.raises(StoreError, match="extra `distributed`, and is not made yet"):
        Jobs("postgresql://localhost/x")
    with pytest.raises(ValueError, match=r'use Jobs\("jobs\.db"\)'):
        Jobs(5)  # type: ignore[arg-type]  # what is refused
    with pytest.raises(ValueError, match="synchronous"):
        Jobs(MemoryStore(), synchronous="full")


def test_an_enqueue_in_a_transaction_is_part_of_it(tmp_path: Any) -> None:
    with Jobs(tmp_path / "jobs.db") as jobs:
        send: Any = jobs.task(name="send")(lambda to: None)
        connection = jobs.connect()
        view = send.options(connection=connection)
        connection.execute("BEGIN IMMEDIATE")
        lost = view.enqueue(to="x").result(0)
        connection.execute("ROLLBACK")
        connection.execute("BEGIN IMMEDIATE")
        kept = view.enqueue(to="y").result(0)
        many = jobs.enqueue_many(view, [{"to": "z"}] * 3).result(0)
        assert jobs.list().result(PATIENCE) == []
        connection.execute("COMMIT")
        connection.close()
        found = [job.id for job in jobs.list().result(PATIENCE)]
        assert found == [*reversed(many), kept.id]
        assert lost.id == kept.id  # the id of a row that was rolled back is free again
        with pytest.raises(ValueError, match="connection"):
            send.options(connection=object()).enqueue(to="x")


def test_names_of_tasks_are_the_same_as_a_script_and_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """E118: ``python app.py`` enqueues what ``engine worker app:jobs`` runs."""
    import sys
    import types

    jobs = Jobs(MemoryStore())
    for file, spec, expected in (
        ("/x/app.py", None, "app.send"),
        ("/x/app.py", types.SimpleNamespace(name="shop.app"), "shop.app.send"),
    ):
        main = types.ModuleType("__main__")
        main.__spec__ = spec  # type: ignore[assignment]  # all that is asked of a spec
        if file:
            main.__file__ = file
        monkeypatch.setitem(sys.modules, "__main__", main)
        scope: dict[str, Any] = {"jobs": jobs, "__name__": "__main__"}
        exec("@jobs.task\ndef send(): ...", scope)
        assert scope["send"].name == expected
