"""Looking at jobs, and what can be done with them from outside."""

import asyncio
import datetime
import pickle
import re
from typing import Any

import pytest

from engine import Progress, TaskState
from engine.jobs import Cancelled, Job, JobCancelled, JobFailed, JobNotFound, Jobs, JobsError, MemoryStore, StoreError
from engine.jobs import _pruning as pruning
from engine.jobs._records import End
from tests.unit.jobs.by_hand import PATIENCE, claim, end, fetched

SECOND = datetime.timedelta(seconds=1)


@pytest.fixture
def send(jobs: Jobs) -> Any:
    @jobs.task(name="send")
    def send(to: Any = None) -> None: ...

    return send


def test_a_job_tells_how_it_ended(jobs: Jobs, send: Any) -> None:
    job = send.enqueue(to="x").result(PATIENCE)
    with pytest.raises(JobsError, match=rf"job {job.id} \(send\) to have completed, got one that is pending; wait"):
        job.result()
    run = claim(jobs)
    running = fetched(jobs, job)
    assert (running.state, running.holder, running.attempt) == (TaskState.RUNNING, "by hand", 1)
    assert running.lease_until is not None
    assert not running.done()
    progress = '{"done": 1, "total": 4, "message": "é"}'
    jobs.store.write(lambda book, now: book.report(run.id, run.token, progress)).result(PATIENCE)
    assert fetched(jobs, job).progress == Progress(1, 4, "é")
    end(jobs, run, result='[1, {"a": null}]')
    done = job.refresh().result(PATIENCE)
    assert done.done()
    assert done.result() == [1, {"a": None}]
    assert done.created_at <= done.started_at <= done.completed_at
    assert done.completed_at.tzinfo is datetime.UTC
    assert (job.state, repr(done)) == (TaskState.PENDING, f"<Job {job.id} 'send' completed>")


def test_a_failed_job_has_the_history_of_its_runs(jobs: Jobs, send: Any) -> None:
    job = send.enqueue().result(PATIENCE)
    end(jobs, claim(jobs), End.RETRY, error="ValueError: first")
    end(jobs, claim(jobs), End.FAILED, error="ValueError: <last>")
    failed = fetched(jobs, job)
    with pytest.raises(JobFailed, match="failed in attempt 2: ValueError: <last>") as caught:
        failed.result()
    assert caught.value.job is failed
    history = failed.failures().result(PATIENCE)
    assert [(each.attempt, each.error, each.traceback) for each in history] == [
        (1, "ValueError: first", "a traceback"), (2, "ValueError: <last>", "a traceback")
    ]  # fmt: skip
    assert failed.requeue().result(PATIENCE) is True
    again = fetched(jobs, job)
    assert (again.state, again.attempt, again.requeue().result(PATIENCE)) == (TaskState.PENDING, 0, False)
    assert len(again.failures().result(PATIENCE)) == 2


def test_a_wait_that_takes_too_long_names_the_job_and_its_state(jobs: Jobs, send: Any) -> None:
    """E162: on a thread, whichever way the timeout was said, and on a loop."""
    job = send.enqueue().result(PATIENCE)
    message = rf"^expected job {job.id} \(send\) to end within 0.01 s, got pending; it goes on$"

    async def wait() -> None:
        await job.wait(0.01)

    for ask in (lambda: job.wait(0.01).result(), lambda: jobs.wait(job.id).result(0.01), lambda: asyncio.run(wait())):
        with pytest.raises(TimeoutError, match=message):
            ask()


def test_cancel_says_what_it_found(jobs: Jobs, send: Any) -> None:
    waiting, running = send.options(delay=60).enqueue().result(PATIENCE), send.enqueue().result(PATIENCE)
    assert waiting.cancel().result(PATIENCE) is Cancelled.NOW
    assert waiting.cancel().result(PATIENCE) is Cancelled.TOO_LATE
    with pytest.raises(JobCancelled):
        fetched(jobs, waiting).result()
    claim(jobs)
    assert running.cancel().result(PATIENCE) is Cancelled.ASKED
    assert fetched(jobs, running).cancel_requested
    assert jobs.cancel(10**30).result(PATIENCE) is Cancelled.UNKNOWN


@pytest.mark.parametrize("job_id", ["1", 1.0, True, None, [1]])
def test_what_is_no_id_is_refused(job_id: Any) -> None:
    jobs = Jobs(MemoryStore())
    for ask in (jobs.get, jobs.cancel, jobs.requeue, jobs.wait, jobs.failures, jobs.follow_ups):
        with pytest.raises(ValueError, match="expected job_id to be an integer"):
            ask(job_id)


@pytest.mark.parametrize("job_id", [0, -1, 5, 2**63, 10**30])
def test_an_id_that_nobody_has_is_not_found(jobs: Jobs, job_id: int) -> None:
    for ask in (jobs.get, jobs.wait):
        with pytest.raises(JobNotFound, match=f"got {job_id}, which is none here; it may have been pruned"):
            ask(job_id).result(PATIENCE)
    assert jobs.requeue(job_id).result(PATIENCE) is False
    assert jobs.failures(job_id).result(PATIENCE) == ()


def test_lists_are_filtered_and_paged(jobs: Jobs, send: Any) -> None:
    ids = [send.options(queue="ab"[n % 2]).enqueue(n).result(PATIENCE).id for n in range(6)]
    jobs.cancel(ids[0]).result(PATIENCE)

    def found(**wanted: Any) -> list[int]:
        return [job.id for job in jobs.list(**wanted).result(PATIENCE)]

    assert found() == ids[::-1]
    assert found(queues="b", limit=2) == [ids[5], ids[3]]
    assert found(queues=["b"], below=ids[3]) == [ids[1]]
    assert found(states="cancelled") == found(states=[TaskState.CANCELLED]) == [ids[0]]
    assert found(names=("send", "x"), states=["cancelled", "pending"]) == ids[::-1]
    refused: tuple[dict[str, Any], ...] = (
        {"states": "runing"},
        {"states": []},
        {"queues": 5},
        {"names": [5]},
        {"limit": 0},
        {"below": "x"},
    )
    for wrong in refused:
        with pytest.raises(ValueError, match="expected"):
            found(**wrong)


def test_prune_goes_on_until_nothing_is_left(jobs: Jobs, send: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "BATCH", 3)
    ids = jobs.enqueue_many(send, [{}] * 10).result(PATIENCE)
    for each in ids[:7]:
        jobs.cancel(each).result(PATIENCE)
    assert jobs.prune(older_than=3600).result(PATIENCE) == 0
    assert jobs.prune(older_than=0, states="completed").result(PATIENCE) == 0
    assert jobs.prune(older_than=0).result(PATIENCE) == 7
    assert [job.id for job in jobs.list().result(PATIENCE)] == ids[:6:-1]
    with pytest.raises(ValueError, match="expected older_than to be"):
        jobs.prune(older_than=-1)
    with pytest.raises(ValueError, match="expected a state to prune to be one of 'completed', "):
        jobs.prune(older_than=1, states="running")


def test_a_paused_queue_gives_nothing(jobs: Jobs, send: Any) -> None:
    send.enqueue().result(PATIENCE)
    jobs.pause("default").result(PATIENCE)
    assert jobs.statistics().result(PATIENCE).queues[0].paused
    jobs.resume("default").result(PATIENCE)
    assert claim(jobs).name == "send"


def test_only_a_file_has_sql(jobs: Jobs, send: Any) -> None:
    send.enqueue(to="x").result(PATIENCE)
    if jobs.name == "memory":
        with pytest.raises(StoreError, match=r"use a file: Jobs\('jobs.db'\)"):
            jobs.query("SELECT 1")
        with pytest.raises(StoreError, match="use a file"):
            jobs.connect()
    else:
        assert jobs.query("SELECT name, args FROM jobs WHERE queue = ?", ["default"]).result(PATIENCE) == [
            {"name": "send", "args": '{"to":"x"}'}
        ]


def test_what_a_notebook_shows_is_text_only(jobs: Jobs, send: Any) -> None:
    """E120: names, queues and errors are somebody's; arguments and results are not shown, they may be secret."""
    hostile = "<script>alert('x')</script>&\"\u00e9"
    send.options(queue=hostile, lock=hostile).enqueue(to="hunter2").result(PATIENCE)
    run = claim(jobs, hostile)
    end(jobs, run, End.FAILED, error=hostile + "\u202e\x1b[31m" + "x" * 1000)
    html = fetched(jobs, run.id)._repr_html_()
    assert "<script" not in html
    assert "hunter2" not in html
    assert html.isprintable()
    assert len(html) < 4000
    assert set(re.findall(r"</?(\w+)", html)) == {"div", "b", "table", "tr", "th", "td"}


def test_a_row_that_nobody_of_ours_wrote_can_be_looked_at(jobs: Jobs) -> None:
    """X1: a planted row is shown; only its arguments are refused, when they are asked for."""
    from engine.jobs._records import NewJob

    row = NewJob(queue="q", name="os.system", args="cos\nsystem\n(S'true'\ntR.", at=1e300, expires_at=-1e300)
    (job_id,) = jobs.store.write(lambda book, now: book.enqueue([row], now)).result(PATIENCE)
    job = fetched(jobs, job_id)
    assert "os.system" in job._repr_html_()
    assert job.progress is None
    with pytest.raises(ValueError, match="expected a JSON value, got"):
        job.args  # noqa: B018  # the access is what is tested


def test_neither_jobs_nor_a_job_travels(jobs: Jobs, send: Any) -> None:
    job: Job = send.enqueue().result(PATIENCE)
    for each in (jobs, job):
        with pytest.raises(TypeError, match="have the function find it in its own module"):
            pickle.dumps(each)
