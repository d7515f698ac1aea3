"""Many jobs at once."""

import threading
from typing import Any

import pytest

from engine.jobs import JobRefused, Jobs, PayloadRefused, StoreFull
from engine.jobs._calls import bulk
from engine.jobs._reply import Reply
from tests.unit.jobs.by_hand import PATIENCE, fetched


@pytest.fixture
def send(jobs: Jobs) -> Any:
    @jobs.task(name="send", priority=3)
    def send(to: Any, **more: Any) -> None: ...

    return send


def print_nothing() -> None: ...


@pytest.mark.parametrize("count", [0, 1, 7, 20, 21, 23])
def test_ids_come_in_the_order_of_the_arguments(
    jobs: Jobs, send: Any, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "CHUNK", 7)
    ids = jobs.enqueue_many(send, ({"to": n} for n in range(count))).result(PATIENCE)
    assert ids == sorted(set(ids))
    assert [fetched(jobs, each).args["to"] for each in ids] == list(range(count))


async def test_options_are_those_of_all(jobs: Jobs, send: Any) -> None:
    after = send.call("after")
    ids = await jobs.enqueue_many(send.options(queue="q", delay=50, then=after), [{"to": 1}, {"to": 2, "cc": 3}])
    found = await jobs.list(queues="q")
    assert [job.id for job in found] == ids[::-1]
    assert {(job.priority, job.due_at is not None) for job in found} == {(3, True)}
    assert found[0].args == {"to": 2, "cc": 3}


def test_each_has_its_own_lock(jobs: Jobs) -> None:
    @jobs.task(name="sync", lock="user-{user}")
    def sync(user: int) -> None: ...

    ids = jobs.enqueue_many(sync, [{"user": 1}, {"user": 2}]).result(PATIENCE)
    assert [fetched(jobs, each).lock for each in ids] == ["user-1", "user-2"]
    ids = jobs.enqueue_many(sync.options(lock="all"), [{"user": 1}, {"user": 2}]).result(PATIENCE)
    assert [fetched(jobs, each).lock for each in ids] == ["all", "all"]


def test_one_that_cannot_be_keeps_all_out(jobs: Jobs, send: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """J7: and J8: its number is in the error."""
    monkeypatch.setattr(bulk, "CHUNK", 2)
    other: Any = Jobs(jobs.store).task(name="other")(print_nothing)
    good = [{"to": n} for n in range(5)]
    for bad, error, message in (
        ({}, TypeError, r"missing a required argument: 'to' \(args 5\)"),
        ({"to": {1}}, PayloadRefused, r"expected args 5: args\['to'\] to be"),
        (["to"], TypeError, "expected args 5 to be a dict of arguments"),
    ):
        with pytest.raises(error, match=message):
            jobs.enqueue_many(send, [*good, bad])  # type: ignore[list-item]  # what is refused
    with pytest.raises(JobRefused, match="no queueing_lock for many"):
        jobs.enqueue_many(send.options(queueing_lock="x"), good)
    with pytest.raises(JobRefused, match="expected a task of"):
        jobs.enqueue_many(other, good)
    with pytest.raises(ValueError, match="expected task to be a task"):
        jobs.enqueue_many(lambda to: None, good)  # type: ignore[arg-type]  # what is refused
    assert jobs.list().result(PATIENCE) == []


def test_a_chunk_that_fails_says_how_many_are_in(jobs: Jobs, send: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """E119: of several transactions one fails: the error tells of the others, and nobody waits for ever."""
    monkeypatch.setattr(bulk, "CHUNK", 2)
    write, calls = jobs.store.write, iter(range(100))

    def write_once(operation: Any, **options: Any) -> Reply[Any]:
        number = next(calls)
        if number == 2:
            raise StoreFull("expected fewer to wait")
        return Reply.failed(StoreFull("no room")) if number == 1 else write(operation, **options)

    monkeypatch.setattr(jobs.store, "write", write_once)
    reply = jobs.enqueue_many(send, [{"to": n} for n in range(8)])
    with pytest.raises(StoreFull, match="no room") as caught:
        reply.result(PATIENCE)
    monkeypatch.undo()
    there = jobs.list().result(PATIENCE)
    assert len(there) == 4
    assert caught.value.__notes__[0] == f"4 of the jobs were enqueued, from id {there[-1].id} on"


def test_others_come_between_two_chunks(jobs: Jobs, send: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "CHUNK", 10)
    begun = threading.Event()

    def other() -> None:
        begun.wait(PATIENCE)
        send.enqueue("other").result(PATIENCE)

    thread = threading.Thread(target=other)
    thread.start()
    begun.set()
    ids = jobs.enqueue_many(send, [{"to": n} for n in range(1000)]).result(PATIENCE)
    thread.join(PATIENCE)
    assert len(ids) == len(set(ids)) == 1000
    assert len(jobs.list(limit=2000).result(PATIENCE)) == 1001
