"""What ``@jobs.task`` makes of a function."""

import inspect
from collections.abc import Iterator
from typing import Any

import pytest

from engine import Lane, Priority, Retry, cpu
from engine.jobs import Jobs, MemoryStore, UnknownTask


@pytest.fixture
def jobs() -> Jobs:
    return Jobs(MemoryStore())


def test_a_task_is_called_as_its_function(jobs: Jobs) -> None:
    @jobs.task
    def double(number: int) -> int:
        """Double it."""
        return 2 * number

    assert double(4) == 8
    assert double.__doc__ == "Double it."
    assert str(inspect.signature(double)) == "(number: int) -> int"
    assert jobs.tasks[double.name] is double
    assert double.name.endswith("test_a_task_is_called_as_its_function.<locals>.double")


async def test_a_task_of_a_coroutine_function_is_awaited_as_one(jobs: Jobs) -> None:
    @jobs.task(name="it")
    async def double(number: int) -> int:
        return 2 * number

    assert await double(number=4) == 8
    assert inspect.iscoroutinefunction(type(double).__call__)


def test_settings_are_attributes(jobs: Jobs) -> None:
    retry = Retry(max_attempts=5)

    @jobs.task(name="mail.send", queue="mail", lane="thread", timeout=30, retry=retry, priority="high", max_crashes=2)
    def send() -> None: ...

    assert (send.name, send.queue, send.lane, send.timeout) == ("mail.send", "mail", Lane.THREAD, 30.0)
    assert (send.retry, send.priority, send.max_crashes) == (retry, Priority.HIGH, 2)


def test_what_cpu_says_counts_where_the_task_says_nothing(jobs: Jobs) -> None:
    @jobs.task(timeout=5)
    @cpu(timeout=30, priority=7)
    def burn() -> None: ...

    assert (burn.lane, burn.timeout, burn.priority) == (Lane.PROCESS, 5.0, 7)


def test_a_generator_function_is_refused(jobs: Jobs) -> None:
    def numbers() -> Iterator[int]:
        yield 1

    with pytest.raises(TypeError, match="got the generator function"):
        jobs.task(numbers)
    assert not jobs.tasks


def test_a_second_function_of_a_name_is_refused(jobs: Jobs) -> None:
    jobs.task(name="a")(lambda: None)
    with pytest.raises(ValueError, match=r"expected the name of a task to be unique, and .*test_job_task.py.* got 'a'"):
        jobs.task(name="a")(lambda: None)


def test_two_functions_of_one_name_in_one_module_are_refused(jobs: Jobs) -> None:
    source = "@jobs.task\ndef send(): ...\n" * 2
    with pytest.raises(ValueError, match="unique"):
        exec(source, {"jobs": jobs, "__name__": "mail"})


def test_a_cell_that_is_run_again_replaces_its_task(jobs: Jobs) -> None:
    cell: dict[str, Any] = {"jobs": jobs, "__name__": "mail"}
    for number in range(3):
        exec(f"@jobs.task\ndef send(): return {number}\n", cell)
    assert jobs.tasks["mail.send"]() == 2


def test_an_unknown_name_says_what_to_do(jobs: Jobs) -> None:
    with pytest.raises(UnknownTask, match="got 'nobody'; import the module"):
        jobs.catalog.task("nobody")


def test_routes_win_over_the_queue_of_a_task(jobs: Jobs) -> None:
    jobs = Jobs(MemoryStore(), routes={"reports.daily": "fast", "reports.*": "slow", "*": "rest"})
    names = ["reports.daily", "reports.weekly", "mail.send"]
    tasks = [jobs.task(name=name, queue="own")(lambda: None) for name in names]
    assert [each.queue for each in tasks] == ["fast", "slow", "rest"]


def test_hooks_are_called_in_their_order(jobs: Jobs) -> None:
    @jobs.before_run
    def first(job: object) -> None: ...

    @jobs.before_run
    async def second(job: object) -> None: ...

    assert jobs.catalog.hooks("before_run") == (first, second)
    assert jobs.catalog.hooks("on_failed") == ()


@pytest.mark.parametrize(
    ("event", "hook", "expected"),
    [
        ("before_run", lambda: None, r"before_run\(job\), got .*<lambda>\(\)"),
        ("before_run", lambda job, more: None, r"before_run\(job\), got .*<lambda>\(job, more\)"),
        ("after_run", lambda job: None, r"after_run\(job, result\), got"),
        ("on_attempt_failed", lambda *, job, error: None, r"on_attempt_failed\(job, error\), got"),
        ("on_failed", lambda job: None, r"on_failed\(job, error\), got .*write it as def <lambda>\(job, error\)"),
        ("on_failed", "hook", r"a function, on_failed\(job, error\), got 'hook'"),
    ],
)
def test_a_hook_that_cannot_be_called_with_what_it_gets_is_refused(
    jobs: Jobs, event: str, hook: Any, expected: str
) -> None:
    """E155: at its decorator, not when the first job fails."""
    with pytest.raises(TypeError, match=expected):
        getattr(jobs, event)(hook)
    assert jobs.catalog.hooks(event) == ()


def test_a_hook_may_take_more_and_name_it_as_it_likes(jobs: Jobs) -> None:
    """E155: what is asked is whether the call works; one that does not say what it takes is taken."""
    hooks: list[Any] = [print, lambda *given: None, lambda a, b, c=3: None, dict.update]
    for hook in hooks:
        jobs.on_failed(hook)
    assert jobs.catalog.hooks("on_failed") == tuple(hooks)
