"""A job that follows another: as a value, in the row, and when the first has completed."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from engine.jobs import JobCall, JobRefused, Jobs, JobTask, MemoryStore, PayloadRefused, UnknownTask
from engine.jobs._calls.job_call import MOST_STEPS
from engine.jobs._calls.rows import follow_ups
from tests.unit.jobs.by_hand import PATIENCE, claim, end, fetched


@pytest.fixture
def fetch(jobs: Jobs) -> JobTask[[str], str]:
    @jobs.task(name="fetch")
    def fetch(url: str) -> str:
        return url

    return fetch


@pytest.fixture
def parse(jobs: Jobs, fetch: object) -> JobTask[..., None]:
    @jobs.task(name="parse", queue="cpu", priority=4, max_crashes=9, lock="kind-{kind}")
    def parse(text: Any, kind: str = "html") -> None: ...

    return parse


def completed(jobs: Jobs, result: str, queue: str = "default") -> list[Any]:
    """Run the next job to ``result``, as a worker does; give what followed, oldest first."""
    run = claim(jobs, queue)
    end(jobs, run, result=result, follow_ups=follow_ups(jobs.catalog, run, result))
    return fetched(jobs, run.id).follow_ups().result(PATIENCE)[::-1]


def test_what_follows_gets_the_result(jobs: Jobs, fetch: Any, parse: Any) -> None:
    """It is enqueued with the completion, and knows what it follows."""
    call = fetch.call(url="x").then(parse.partial(kind="x"), result_as="text").options(then=fetch.call("again"))
    job = jobs.enqueue(call).result(PATIENCE)
    assert job.follow_ups().result(PATIENCE) == []
    first, second = completed(jobs, '{"é": [1, null]}')
    assert (first.name, first.args, first.parent) == ("parse", {"kind": "x", "text": {"é": [1, None]}}, job.id)
    assert (first.queue, first.priority, first.max_crashes, first.lock) == ("cpu", 4, 9, "kind-x")
    assert (second.name, second.args, second.parent) == ("fetch", {"url": "again"}, job.id)


def test_options_of_what_follows_are_kept(jobs: Jobs, fetch: Any, parse: Any) -> None:
    after = parse.options(queue="q", priority=-3, delay=60, lock=None, queueing_lock="once", expires=120).call("t")
    fetch.options(then=[after, after.options(queueing_lock=None, priority=None)]).enqueue("x").result(PATIENCE)
    first, second = completed(jobs, "null")
    assert (first.queue, first.priority, first.lock, first.queueing_lock) == ("q", -3, None, "once")
    assert first.due_at is not None
    assert first.expires_at is not None
    assert (second.priority, second.queueing_lock) == (4, None)


def test_steps_follow_each_other(jobs: Jobs, fetch: Any, parse: Any) -> None:
    third = parse.partial(kind="last")
    second = fetch.partial().then(third, result_as="text")
    jobs.enqueue(fetch.call("a").then(second, result_as="url")).result(PATIENCE)
    (found,) = completed(jobs, '"b"')
    assert found.args == {"url": "b"}
    (found,) = completed(jobs, "5")
    assert (found.name, found.args) == ("parse", {"kind": "last", "text": 5})


def test_each_job_of_a_chain_follows_the_one_before_it(jobs: Jobs, fetch: Any, parse: Any) -> None:
    """E160: the third is not there before the second has completed, and gets that one's result."""
    chain = fetch.call("a").then(parse.partial(), result_as="text").then(fetch.partial(), result_as="url")
    assert chain.steps == 3
    first = jobs.enqueue(chain).result(PATIENCE)
    [second] = completed(jobs, '"b"')
    assert (second.name, second.args, second.parent) == ("parse", {"text": "b"}, first.id)
    [third] = completed(jobs, '"c"', "cpu")
    assert (third.name, third.args, third.parent) == ("fetch", {"url": "c"}, second.id)
    assert [each.id for each in fetched(jobs, first.id).follow_ups().result(PATIENCE)] == [second.id]
    assert completed(jobs, "0") == []


def test_what_follows_side_by_side_has_no_last_one(jobs: Jobs, fetch: Any, parse: Any) -> None:
    """E160: options(then=[...]) is a fork; then() goes on from one of its ends, or is refused."""
    fork = fetch.options(then=[parse.call("a"), parse.call("b").then(fetch.call("c"))]).call("x")
    with pytest.raises(JobRefused, match=r"got 2 that follow it side by side; say .then\(...\) of one of them"):
        fork.then(fetch.call("y"))
    first = jobs.enqueue(fork).result(PATIENCE)
    sides = completed(jobs, "0")
    assert [(each.name, each.args["text"], each.parent) for each in sides] == [
        ("parse", "a", first.id), ("parse", "b", first.id),
    ]  # fmt: skip


def test_a_call_is_a_value(jobs: Jobs, fetch: Any, parse: Any) -> None:
    args = ["x"]
    call = parse.call(args)
    longer = call.then(fetch.call("y"))
    args.append("changed")
    assert (call.args, call.steps, longer.steps) == ({"text": ["x"]}, 1, 2)
    assert repr(longer) == "<JobCall 'parse', 2 steps>"
    ids = [call.enqueue().result(PATIENCE).id, jobs.enqueue(call).result(PATIENCE).id]
    assert len({*ids}) == 2


def test_calls_that_do_not_fit_each_other_are_refused(jobs: Jobs, fetch: Any, parse: Any) -> None:
    first: JobCall = fetch.call("x")
    stranger = Jobs(MemoryStore()).task(name="s")(lambda: None)
    wrong = object()
    for follow, message in (
        (lambda: first.then(parse.partial(kind="x")), "got one without text; say result_as"),
        (lambda: first.then(parse.call("t"), result_as="text"), "got it in the call as well"),
        (lambda: first.then(parse.partial(), result_as="nobody"), "expected result_as to be the name of an argument"),
        (lambda: first.then(parse.partial(), result_as=wrong), "expected result_as to be"),  # type: ignore[arg-type]  # what is refused
        (lambda: first.then(wrong), r"make one with task.call\(...\)"),  # type: ignore[arg-type]  # what is refused
        (lambda: first.then(stranger.call()), "of the same Jobs"),
        (lambda: first.then(fetch.options(connection=wrong).call("x")), "no connection of its own"),
        (lambda: fetch.options(then=[wrong]), "expected what follows to be a JobCall"),
    ):
        with pytest.raises(ValueError, match=message):
            follow()
    with pytest.raises(TypeError, match="missing a required argument: 'text'"):
        parse.partial().enqueue()
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        parse.partial(colour=1)


def test_a_chain_has_a_bound(fetch: Any) -> None:
    call: JobCall = fetch.call("x")
    for _ in range(MOST_STEPS - 1):
        call = fetch.call("x").then(call)
    assert call.steps == MOST_STEPS
    call.enqueue().result(PATIENCE)
    for longer in (fetch.call("x").then, lambda whole: whole.then(fetch.call("x"))):
        with pytest.raises(JobRefused, match="at most 50 jobs in a row"):
            longer(call)


def test_what_follows_counts_as_payload(fetch: Any) -> None:
    """J9: its size is looked at when it is enqueued."""
    call: JobCall = fetch.call("x")
    for _ in range(3):
        call = call.then(fetch.call("x" * 400_000))
    with pytest.raises(PayloadRefused, match="expected then to be at most 1,048,576 bytes"):
        call.enqueue()


PLANTED = [
    "{}", "null", "5", "[5]", "[{}]", '[{"task": 5, "args": {}}]', '[{"task": "fetch"}]',
    '[{"task": "fetch", "args": []}]',
    '[{"task": "fetch", "args": {}, "result_as": 5}]', '[{"task": "fetch", "args": {}, "nobody": 5}]',
    '[{"task": "fetch", "args": {}, "delay": -1}]', '[{"task": "fetch", "args": {}, "delay": "x"}]',
    '[{"task": "fetch", "args": {}, "priority": 1e9}]', '[{"task": "fetch", "args": {}, "queue": "a\\nb"}]',
    '[{"task": "fetch", "args": {}, "expires": 5}]', '[{"task": "fetch", "args": {}, "expires": ["on", 5]}]',
    '[{"task": "fetch", "args": {}, "at": "now"}]', '[{"task": "fetch", "args": {}, "connection": 1}]',
    '[{"task": "fetch", "args": {}, "then": 1}', "[" * 100_000, "cos\nsystem\n.",
]  # fmt: skip


@pytest.mark.parametrize("then", PLANTED, ids=range(len(PLANTED)))
def test_a_stored_follow_up_that_nobody_wrote_is_refused(then: str) -> None:
    """X1: whatever stands in the row, it gives an error of ours."""
    jobs = Jobs(MemoryStore())
    jobs.task(name="fetch")(lambda url=None: None)
    with pytest.raises(PayloadRefused):
        follow_ups(jobs.catalog, SimpleNamespace(id=1, then=then), "null")


def test_a_stored_follow_up_that_nobody_registered_is_refused() -> None:
    """X1: names are looked up, never imported."""
    jobs = Jobs(MemoryStore())
    for name in ("os.system", "builtins.eval", ""):
        then = json.dumps([{"task": name, "args": {"command": "true"}}])
        with pytest.raises(UnknownTask, match="expected a registered task"):
            follow_ups(jobs.catalog, SimpleNamespace(id=1, then=then), "null")
