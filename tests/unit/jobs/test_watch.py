"""Waiting for the end of jobs, whoever runs them."""

import asyncio
import gc
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from engine import TaskState
from engine.jobs import JobNotFound, Jobs, MemoryStore, StoreClosed, StoreError
from engine.jobs._records import End
from engine.jobs._reply import Reply
from engine.testing import eventually
from tests.unit.jobs.by_hand import PATIENCE, claim, end


@pytest.fixture
def send(jobs: Jobs) -> Any:
    return jobs.task(name="send")(nothing)


def nothing() -> None: ...


def watched(jobs: Jobs) -> int:
    """Count the jobs that somebody waits for, and check that nobody listens for none."""
    watch = jobs._watches[os.getpid()]
    assert bool(watch._waiting) == (watch._stop_listening is not None)
    return len(watch._waiting)


def test_a_wait_ends_with_the_job(jobs: Jobs, send: Any) -> None:
    job = send.enqueue().result(PATIENCE)
    waiting = job.wait()
    run = claim(jobs)
    assert not waiting.done()
    end(jobs, run, result="5")
    assert waiting.result(PATIENCE).result() == 5
    assert job.wait().result(PATIENCE).state is TaskState.COMPLETED  # that it has ended already is seen at once
    eventually(lambda: watched(jobs) == 0)


async def test_a_coroutine_waits_for_what_another_thread_ends(jobs: Jobs, send: Any) -> None:
    job = await send.enqueue()

    def run() -> None:
        end(jobs, claim(jobs), End.FAILED, error="x")

    ended, _ = await asyncio.gather(job.wait(PATIENCE), asyncio.to_thread(run))
    assert (ended.state, ended.error) == (TaskState.FAILED, "x")


def test_a_wait_that_takes_too_long_goes_and_is_not_kept(jobs: Jobs, send: Any) -> None:
    job = send.enqueue().result(PATIENCE)
    with pytest.raises(TimeoutError, match=r"within 0\.01 s, got pending; it goes on"):
        job.wait(0.01).result()

    async def on_a_loop() -> None:
        await job.wait(0.01)

    with pytest.raises(TimeoutError, match=r"within 0\.01 s, got pending; it goes on"):
        asyncio.run(on_a_loop())
    for bad in (-1, float("nan"), True):
        with pytest.raises(ValueError, match="expected timeout to be"):
            job.wait(bad)
    gc.collect()
    send.enqueue().result(PATIENCE)  # a change: nobody is there to be told of it
    eventually(lambda: watched(jobs) == 0)


def test_a_job_that_is_pruned_meanwhile_is_not_found(jobs: Jobs, send: Any) -> None:
    job = send.enqueue().result(PATIENCE)
    other = send.options(delay=60).enqueue().result(PATIENCE)
    waiting, still = job.wait(), other.wait()
    jobs.store.write(lambda book, now: (book.cancel(job.id, now), book.prune([TaskState.CANCELLED], 1e12, 9)))
    with pytest.raises(JobNotFound, match="may have been pruned"):
        waiting.result(PATIENCE)
    assert not still.done()


def test_a_thousand_waits_cost_one_look_each_time(jobs: Jobs, send: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """E121: not one query per wait; and changes during a look make one more, not one each."""
    ids = jobs.enqueue_many(send, [{}] * 1000).result(PATIENCE)
    waits = [jobs.wait(each) for each in ids]
    eventually(lambda: not jobs._watches[os.getpid()]._is_looking)
    looks = []
    read = jobs.store.read

    def counted(operation: Any) -> Reply[Any]:
        looks.append(operation)
        return read(operation)

    monkeypatch.setattr(jobs.store, "read", counted)
    jobs.store.write(lambda book, now: [book.cancel(each, now) for each in ids]).result(PATIENCE)
    assert {each.result(PATIENCE).state for each in waits} == {TaskState.CANCELLED}
    assert 1 <= len(looks) <= 5
    eventually(lambda: watched(jobs) == 0)


def test_a_change_during_a_look_is_seen(send: Any, jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The look was made, its answer is on the way, and then the job ends: the next look comes by itself."""
    job = send.enqueue().result(PATIENCE)
    run = claim(jobs)
    read = jobs.store.read

    def late(operation: Any) -> Reply[Any]:
        monkeypatch.setattr(jobs.store, "read", read)
        answer = read(operation)
        answer.result(PATIENCE)
        end(jobs, run)  # tells the listener on the way
        return answer

    monkeypatch.setattr(jobs.store, "read", late)
    assert job.wait().result(PATIENCE).state is TaskState.COMPLETED


def test_whoever_waits_hears_that_the_store_is_closed(jobs: Jobs, send: Any) -> None:
    waiting = send.enqueue().result(PATIENCE).wait()
    jobs.close()
    with pytest.raises(StoreClosed):
        waiting.result(PATIENCE)
    with pytest.raises(StoreClosed):
        jobs.wait(1)


def test_a_look_that_fails_is_told_and_the_next_works(jobs: Jobs, send: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    job = send.enqueue().result(PATIENCE)

    def broken(operation: Any) -> Reply[Any]:
        monkeypatch.undo()
        return Reply.failed(StoreError("expected a disk, got none"))

    monkeypatch.setattr(jobs.store, "read", broken)
    with pytest.raises(StoreError, match="expected a disk"):
        job.wait().result(PATIENCE)
    waiting = job.wait()
    end(jobs, claim(jobs))
    assert waiting.result(PATIENCE).done()


def test_waits_begin_and_end_on_many_threads(jobs: Jobs, send: Any) -> None:
    """Each wait begins anywhere between the claim and after the end of its job."""
    ids = jobs.enqueue_many(send, [{}] * 60).result(PATIENCE)
    begun = threading.Barrier(5)
    found: list[Any] = []

    def wait(some: list[int]) -> None:
        begun.wait(PATIENCE)
        found.extend(jobs.wait(each).result(PATIENCE).id for each in some)

    threads = [threading.Thread(target=wait, args=(ids[start::4],)) for start in range(4)]
    for each in threads:
        each.start()
    begun.wait(PATIENCE)
    for _ in ids:
        end(jobs, claim(jobs))
    for each in threads:
        each.join(PATIENCE)
    assert sorted(found) == ids
    eventually(lambda: watched(jobs) == 0)


def test_another_store_of_the_file_ends_it(tmp_path: Path) -> None:
    """As another process does: what is heard comes through the file."""
    with Jobs(tmp_path / "jobs.db") as here, Jobs(tmp_path / "jobs.db") as there:
        send: Any = here.task(name="send")(nothing)
        job = send.enqueue().result(PATIENCE)
        waiting = job.wait()
        end(there, claim(there), result='"there"')
        assert waiting.result(PATIENCE).result() == "there"


def test_memory_is_looked_at_without_a_thread() -> None:
    jobs = Jobs(MemoryStore())
    send: Any = jobs.task(name="send")(nothing)
    before = threading.active_count()
    waiting = send.enqueue().result().wait()
    end(jobs, claim(jobs))
    assert waiting.done()
    assert threading.active_count() == before


def test_a_wait_that_fails_when_nobody_waits_any_more_says_nothing(
    jobs: Jobs, send: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """E202: as after a Ctrl-C, whose traceback holds the reply until the store is closed."""
    job = send.enqueue().result(PATIENCE)
    given_up = job.wait()
    jobs.close()
    eventually(given_up.done)
    del given_up
    gc.collect()
    assert "nobody asked" not in caplog.text
