"""``@task``, ``@cpu``, ``@io``: the function stays what it is and carries its options."""

import inspect
import pickle
import pydoc
from typing import Any

import pytest

import engine
from engine import Engine, Lane, Retry
from engine._options import TaskOptions, decorated_options


@engine.cpu(timeout=30, retry=Retry(max_attempts=2))
def double(number: int) -> int:
    return 2 * number


@engine.io
def thread_name() -> str:
    import threading

    return threading.current_thread().name


@engine.task(name="greeter")
async def greet(name: str) -> str:
    return f"hello {name}"


def test_a_decorated_function_is_still_the_plain_callable() -> None:
    assert double(4) == 8
    assert double.__name__ == "double"
    assert pickle.loads(pickle.dumps(double)) is double


def test_the_options_are_remembered() -> None:
    assert decorated_options(double) == TaskOptions(lane=Lane.PROCESS, timeout=30.0, retry=Retry(max_attempts=2))
    assert decorated_options(thread_name) == TaskOptions(lane=Lane.THREAD)
    assert decorated_options(greet) == TaskOptions(name="greeter")


def test_a_decorator_works_with_and_without_brackets() -> None:
    @engine.task
    def bare() -> None:
        pass

    @engine.task()
    def called() -> None:
        pass

    assert decorated_options(bare) == decorated_options(called) == TaskOptions()


@pytest.mark.parametrize("decorator", [engine.task, engine.cpu, engine.io])
@pytest.mark.parametrize(("name", "value"), [("timeout", -1), ("priority", "high"), ("retry", 3), ("grace", True)])
def test_a_bad_option_is_refused_at_the_decorator(decorator: Any, name: str, value: object) -> None:
    """Row T5."""
    with pytest.raises(ValueError, match=f"^expected {name} to be .+, got .+"):
        decorator(**{name: value})


def test_a_wrong_name_is_refused_at_the_decorator() -> None:
    wrong: Any = engine.task
    with pytest.raises(TypeError, match=r"expected options to be among .*, got 'timout'"):
        wrong(timout=5)


def test_what_is_not_a_function_of_ones_own_cannot_be_decorated() -> None:
    with pytest.raises(TypeError, match="expected fn to be a function that takes attributes"):
        engine.io(len)


async def test_the_decorator_routes_and_names() -> None:
    async with Engine(threads=1, default_lane="process", name="deco") as running:
        assert (await running.run(thread_name)).startswith("deco-thread")
        task = running.submit(greet, "you")
        assert (task.name, task.lane) == ("greeter", Lane.LOOP)
        assert await task == "hello you"


async def test_what_the_engines_view_says_wins_over_the_decorator() -> None:
    async with Engine(threads=1) as running:
        task = running.options(lane="thread", name="other").submit(double, 4)
        assert (task.name, task.lane) == ("other", Lane.THREAD)
        assert await task == 8


@pytest.mark.parametrize("decorator", [engine.cpu, engine.io])
def test_a_decorator_that_says_its_lane_takes_no_other(decorator: Any) -> None:
    with pytest.raises(TypeError, match=rf"expected {decorator.__name__} to get no lane, .*, got 'loop'; use task"):
        decorator(lane="loop")


def test_help_shows_the_options_by_name() -> None:
    options = ["fn", "lane", "timeout", "total_timeout", "retry", "priority", "grace", "name"]
    assert list(inspect.signature(engine.task).parameters) == options
    for decorator in (engine.cpu, engine.io):
        assert list(inspect.signature(decorator).parameters) == [name for name in options if name != "lane"]
    assert "timeout: float | None = <not said>" in pydoc.render_doc(engine.cpu)
    assert list(inspect.signature(Engine.options).parameters)[1:] == [*options[1:], "others"]  # which it refuses


@pytest.mark.parametrize("decorator", [engine.task, engine.cpu, engine.io])
def test_every_option_that_help_shows_is_taken(decorator: Any) -> None:
    given = {"lane": "loop", "timeout": 1, "total_timeout": 2, "retry": Retry(), "priority": 3, "grace": 4, "name": "x"}
    for name in list(inspect.signature(decorator).parameters)[1:]:
        assert callable(decorator(**{name: given[name]}))


async def test_none_takes_back_what_the_decorator_says() -> None:
    async with Engine(processes=1) as running:
        said, taken_back = running.submit(double, 1), running.options(timeout=None, retry=None).submit(double, 2)
        assert (said._call.timeout, taken_back._call.timeout, taken_back._call.retry) == (30.0, None, None)
        assert [await said, await taken_back] == [2, 4]
