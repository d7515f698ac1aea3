"""Items of a chunk that change nothing share one context, and none of them can tell."""

import contextvars
import decimal
import signal
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine._worker.interrupts import Interrupts

ONE: contextvars.ContextVar[int] = contextvars.ContextVar("ONE")
TWO: contextvars.ContextVar[int] = contextvars.ContextVar("TWO", default=7)

#: What one item does, step by step; a number says which of the kept tokens, contexts or generators it is about.
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["set", "reset", "other", "decimal", "local", "copy", "begin", "go on"]), st.integers(0, 3)
    ),
    max_size=6,
)


class Program:
    """What items do, and what they saw; tokens and generators stay behind from one to the next."""

    def __init__(self) -> None:
        self.tokens: list[Any] = []
        self.generators: list[Any] = []
        self.seen: list[Any] = []

    def item(self, steps: list[tuple[str, int]]) -> None:
        self.look()
        for step, number in steps:
            try:
                self.step(step, number)
            except (ValueError, RuntimeError) as error:
                self.seen.append(type(error))
            self.look()

    def step(self, step: str, number: int) -> None:
        if step == "set":
            self.tokens.append(ONE.set(number))
        elif step == "reset" and self.tokens:
            ONE.reset(self.tokens.pop(number % len(self.tokens)))
        elif step == "other":
            TWO.reset(TWO.set(number))
        elif step == "decimal":
            decimal.getcontext().prec = 30 + number
        elif step == "local":
            with decimal.localcontext() as context:
                context.prec = 3
        elif step == "copy":
            self.seen.append(len(contextvars.copy_context()))
        elif step == "begin":
            self.generators.append(generate(number))
            next(self.generators[-1])
        elif step == "go on" and self.generators:
            next(self.generators.pop(number % len(self.generators)), None)

    def look(self) -> None:
        self.seen.append((ONE.get(None), TWO.get(), decimal.getcontext().prec if ONE.get(None) == 2 else None))


def generate(number: int) -> Generator[None]:
    token = ONE.set(number + 10)
    yield
    ONE.reset(token)


def seen_by(items: list[Any], run: Callable[[Program], Callable[[Any], object]]) -> list[Any]:
    program = Program()
    run_item = run(program)
    for steps in items:
        run_item(steps)
    return program.seen


@pytest.fixture(scope="module", autouse=True)
def _handler_comes_back() -> Iterator[None]:
    before = signal.getsignal(signal.SIGURG)
    yield
    signal.signal(signal.SIGURG, before)


@pytest.mark.parametrize("is_exported", [False, True])
@given(items=st.lists(STEPS, max_size=8))
@settings(max_examples=300)
def test_items_see_what_they_would_in_a_context_each(items: list[Any], is_exported: bool) -> None:
    """E63: variables, tokens, decimal contexts and generators that go on in a later item."""
    exported = {f"{__name__}:ONE": 5} if is_exported else None

    def ours(program: Program) -> Callable[[Any], object]:
        return Interrupts().runner(1, program.item, exported, is_rows=False)

    def fresh(program: Program) -> Callable[[Any], object]:
        def run(item: Any) -> object:
            context = contextvars.Context()
            if exported:
                context.run(ONE.set, 5)
            return context.run(program.item, item)

        return run

    assert seen_by(items, ours) == seen_by(items, fresh)
