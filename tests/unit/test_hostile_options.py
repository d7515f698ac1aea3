"""Option values of classes that fight whoever looks at them: one grammar for all of them, or they are taken."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from engine import BlockingEngine, Engine, Retry


class Fights:
    """Raises at everything that can be asked of it."""

    def _fight(self, *_: object) -> Any:
        raise KeyError("fights back")

    __eq__ = __lt__ = __le__ = __gt__ = __ge__ = __bool__ = __len__ = __iter__ = __repr__ = __getattr__ = _fight
    __hash__ = _fight


class FightsAsInt(int):
    """Is an int, and compares with nothing."""

    __eq__ = __lt__ = __le__ = __gt__ = __ge__ = __repr__ = __index__ = __int__ = __abs__ = Fights._fight
    __hash__ = int.__hash__


class FightsAsFloat(float):
    """Is a float, and compares with nothing."""

    __eq__ = __lt__ = __le__ = __gt__ = __ge__ = __repr__ = __float__ = __abs__ = Fights._fight
    __hash__ = float.__hash__


class FightsAsText(str):
    """Is a str without length, equal to nothing."""

    __eq__ = __len__ = __hash__ = __repr__ = __contains__ = __iter__ = Fights._fight


class FightsAsTuple(tuple[Any, ...]):
    """Is a tuple that cannot be read."""

    __eq__ = __len__ = __iter__ = __repr__ = Fights._fight
    __hash__ = tuple.__hash__


class HasNoClass:
    """Raises when asked for its class, as isinstance does."""

    @property  # type: ignore[misc]  # that is the point
    def __class__(self) -> type:
        raise KeyError("no class today")


#: Made in the test: pytest asks what it is given.
HOSTILE: dict[str, Callable[[], Any]] = {
    "object": Fights,
    "int": lambda: FightsAsInt(1),
    "float": lambda: FightsAsFloat(1.0),
    "text": lambda: FightsAsText("process"),
    "tuple": lambda: FightsAsTuple((Fights(),)),
    "no class": HasNoClass,
    "in a tuple": lambda: (Fights(),),
    "no class in a tuple": lambda: (HasNoClass(),),
}


def is_refused_in_the_grammar_or_taken(call: Callable[[], object]) -> None:
    """Call it; no exception but our own may come out."""
    try:
        call()
    except (ValueError, TypeError) as error:
        assert str(error).startswith("expected "), error  # noqa: PT017  # either outcome is right


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_setting_that_fights_is_refused_or_taken_for_what_it_is(kind: str) -> None:
    """E19: of the engine, of a task, of a retry policy."""
    value = HOSTILE[kind]()
    for name in inspect.signature(Engine).parameters:
        is_refused_in_the_grammar_or_taken(lambda name=name: Engine(**{name: value}))  # type: ignore[misc]  # bound now
    engine = Engine()
    for name in inspect.signature(engine.options).parameters:
        is_refused_in_the_grammar_or_taken(lambda name=name: engine.options(**{name: value}))  # type: ignore[misc]  # as above
    for name in inspect.signature(Retry).parameters:
        is_refused_in_the_grammar_or_taken(lambda name=name: Retry(**{name: value}))  # type: ignore[misc]  # as above


@pytest.mark.parametrize("kind", HOSTILE)
def test_an_argument_of_the_engine_that_fights_is_refused_or_taken_for_what_it_is(kind: str) -> None:
    """E19: where a task, a name, a state, a time or a window is said; and a callable that is none."""
    value = HOSTILE[kind]()
    with BlockingEngine(threads=1, default_lane="thread") as engine:
        calls: list[Callable[[], object]] = [
            lambda: engine.tasks(state=value), lambda: engine.tasks(name=value), lambda: engine.get(value),
            lambda: engine.cancel(id=value), lambda: engine.cancel(name=value),
            lambda: engine.submit(abs, -1).result(value), lambda: list(engine.map(abs, [-1], window=value)),
            lambda: list(engine.map(abs, [-1], ordered=value)), lambda: engine.submit(value),
            lambda: engine.map(value, [1]), lambda: engine.submit(abs, -1).add_done_callback(value),
            lambda: engine.submit(abs, -1).add_done_callback(print, context=value),
        ]  # fmt: skip
        for call in calls:
            is_refused_in_the_grammar_or_taken(call)
        assert engine.run(abs, -2) == 2


def test_what_is_taken_is_of_the_built_in_type_itself() -> None:
    """E19: so nothing of its class is called later."""
    with Engine(threads=FightsAsInt(1), default_lane=FightsAsText("thread"), grace=FightsAsFloat(0.1)) as engine:  # type: ignore[arg-type]  # hostile
        retry = Retry(max_attempts=FightsAsInt(2), base_delay=FightsAsFloat(0), on=FightsAsTuple((ZeroDivisionError,)))
        view = engine.options(timeout=FightsAsFloat(5), priority=FightsAsInt(1), name=FightsAsText("mine"), retry=retry)
        with pytest.raises(ZeroDivisionError):
            view.run(divmod, 1, 0)
        (info,) = engine.tasks(name=FightsAsText("mine"))
        assert (info.attempt, type(info.name)) == (2, str)


def test_inner_threads_that_fight_are_refused_by_their_name() -> None:
    """E19."""
    wrong: Any = Fights()
    with pytest.raises(ValueError, match=r"^expected inner_threads to be a positive integer, got <Fights whose repr "):
        Engine(inner_threads=wrong)


@pytest.mark.parametrize("fn", [None, 5, "print"])
def test_a_done_callback_that_cannot_be_called_is_refused_at_once(fn: Any) -> None:
    """E18: not logged when the task is done."""
    with Engine(threads=1, default_lane="thread") as engine:
        task = engine.submit(abs, -1)
        with pytest.raises(TypeError, match=r"^expected fn to be a callable, got .*; pass the function"):
            task.add_done_callback(fn)
        context: Any = {}
        with pytest.raises(TypeError, match=r"^expected context to be a contextvars.Context, got \{\}"):
            task.add_done_callback(print, context=context)
        assert task.result(10) == 1
