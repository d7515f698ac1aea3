"""Items of a chunk that change nothing share one context, and none of them can tell."""

import contextvars
import decimal
import os
import signal
import socket
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine._wire.page import PAGE_BYTES, StartPage
from engine._worker.interrupts import Interrupts
from engine._worker.outlet import StreamOutlet
from engine._worker.packets import PacketRunner
from engine._worker.parts import Parts
from engine._worker.voice import Printer, Voice

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


def seen_by(items: list[Any], run: Callable[[Program, list[Any]], object]) -> list[Any]:
    program = Program()
    run(program, items)
    return program.seen


@pytest.fixture(scope="module")
def runner() -> Iterator[PacketRunner]:
    """Give the main loop of a worker, which here is asked to run items and nothing else."""
    before = signal.getsignal(signal.SIGURG)
    ours, theirs = socket.socketpair()
    fd = os.memfd_create("page")
    os.truncate(fd, PAGE_BYTES)
    page = StartPage(fd)
    voice, interrupts = Voice(ours), Interrupts()
    parts = Parts(ours, voice)
    outlet = StreamOutlet(ours, interrupts, voice, (Printer(voice, 1), Printer(voice, 2)), parts)
    nobody: Any = None
    yield PacketRunner(nobody, nobody, outlet, page, voice, interrupts, parts)
    page.close()
    os.close(fd)
    ours.close()
    theirs.close()
    signal.signal(signal.SIGURG, before)


@pytest.mark.parametrize("is_exported", [False, True])
@given(items=st.lists(STEPS, max_size=8))
@example(items=[[("set", 0), ("set", 1), ("reset", 0)], [("reset", 0)]])  # nothing is left set, and a token is
@settings(max_examples=300)
def test_items_see_what_they_would_in_a_context_each(runner: PacketRunner, items: list[Any], is_exported: bool) -> None:
    """E63: variables, tokens, decimal contexts and generators that go on in a later item."""
    exported = {f"{__name__}:ONE": 5} if is_exported else None

    def ours(program: Program, items: list[Any]) -> None:
        runner._run_items(1, items, program.item, exported, 0.0, is_rows=False)
        assert runner._parts.values == [None] * len(items)  # none has failed
        runner._parts.values.clear()

    def fresh(program: Program, items: list[Any]) -> None:
        for item in items:
            context = contextvars.Context()
            if exported:
                context.run(ONE.set, 5)
            context.run(program.item, item)

    assert seen_by(items, ours) == seen_by(items, fresh)
