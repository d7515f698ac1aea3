"""Ctrl-C while an engine runs on a loop of the main thread: no callback of the loop is lost; design/0005."""

import asyncio
import contextlib
import functools
import gc
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from engine import Engine, RemoteError, Task, _exit, _sigint
from engine._wire.frames import RESULT
from tests.contracts.process_front import native_workers
from tests.contracts.process_tasks import identity, pass_gate
from tests.sent_ahead import send_ahead
from tests.support import eventually, eventually_async


def presser(*modules: str, name: str = "press") -> Callable[[], None]:
    """Give a function that passes for one of the first module, and calls one of the second, and so on: there Ctrl-C is
    pressed.
    """
    call: Callable[[], None] = functools.partial(signal.raise_signal, signal.SIGINT)
    for module in reversed(modules):
        namespace: dict[str, Any] = {"__name__": module, "call": call}
        exec(f"def {name}(): call()", namespace)
        call = namespace[name]
    return call


@pytest.fixture(autouse=True)
def _handler_comes_back() -> Iterator[None]:
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    yield
    gc.collect()  # what asyncio says of the tasks that were broken off, it says here
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("modules", [("asyncio.events",), ("engine._mailbox",), ("asyncio.events", "weakref")])
def test_ctrl_c_does_not_break_into_the_loop(modules: tuple[str, ...]) -> None:
    """E30: in asyncio's code, and in ours, it waits for a callback of its own; the loop can go on afterwards."""
    assert steps_of_a_program(presser(*modules)) == ["went on"]


@pytest.mark.parametrize("modules", [("user",), ("user", "weakref"), ("engine._latch",)])
def test_ctrl_c_breaks_into_user_code(modules: tuple[str, ...]) -> None:
    """E30: there it is raised where it stands, also where a thread of the program waits for an engine."""
    assert steps_of_a_program(presser(*modules)) == []


def steps_of_a_program(press: Callable[[], None]) -> list[str]:
    """Press Ctrl-C in a callback of a loop; say how far that callback came when the loop was broken off."""
    steps: list[str] = []
    # As a callback of asyncio's would be: what is in between counts as called by asyncio.
    namespace: dict[str, Any] = {"__name__": "asyncio.events", "press": press, "steps": steps}
    exec("def callback():\n press()\n steps.append('went on')", namespace)

    async def main() -> str:
        async with Engine(threads=1) as engine:
            asyncio.get_running_loop().call_soon(namespace["callback"])
            for _ in range(5):
                await asyncio.sleep(0)
            return await engine.options(lane="thread").run(str, 1)

    loop = asyncio.new_event_loop()
    try:
        task = loop.create_task(main())
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(task)
        so_far = list(steps)
        assert loop.run_until_complete(task) == "1"
        return so_far
    finally:
        loop.close()


def test_a_further_ctrl_c_forces_the_stop_and_the_program_unwinds_in_order() -> None:
    """N10, E30: the first one cancels the program's task, the second one ends the stop that it waits in."""
    steps: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        try:
            async with Engine(threads=1, grace=600) as engine:
                engine.submit(ignore_all, steps)
                await asyncio.sleep(0.01)
                signal.raise_signal(signal.SIGINT)
                loop.call_later(0.05, presser("asyncio.events"))
                await asyncio.sleep(600)
        except asyncio.CancelledError:
            steps.append("cancelled")
            await asyncio.sleep(0)
            steps.append("cleaned up")
            raise

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert steps == ["cancelled", "cleaned up"]


async def ignore_all(until: list[str]) -> None:
    """Go on, whatever is asked."""
    while not until:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(1)


@pytest.mark.parametrize("how", ["runner", "by hand"])
def test_ctrl_c_in_a_coroutine_task_is_the_programs(how: str, caplog: pytest.LogCaptureFixture) -> None:
    """E32: it ends the loop's run, as it does without an engine; it is no failure of the task alone."""

    async def compute() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)  # a Runner's first one only cancels the program's task

    async def main() -> None:
        async with Engine() as engine:
            await asyncio.gather(engine.submit(compute), return_exceptions=True)
            pytest.fail("the program goes on")

    loop = asyncio.new_event_loop()
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main()) if how == "runner" else loop.run_until_complete(main())
    loop.close()
    del loop
    gc.collect()
    ours = [record.getMessage() for record in caplog.records if "_drive" in record.getMessage()]
    assert not ours  # asyncio complains of tasks that it has lost; of the program's own, too


def exits(number: int, frame: FrameType | None) -> None:
    """Handle SIGTERM as the README does."""
    sys.exit(143)


class Slow:
    """While this is pickled, SIGTERM comes."""

    def __reduce__(self) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return int, ()


def by_value(slow: Slow) -> Callable[[], object]:
    """Give a function that is pickled with what it holds."""
    return lambda: slow


async def ask_for_the_end() -> None:
    """Have SIGTERM come while a coroutine task runs."""
    signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("where", ["function", "arguments", "coroutine"])
def test_what_a_signal_handler_raises_is_the_programs(where: str) -> None:
    """E32: SIGTERM with a handler that exits, in the middle of a pickling or of a coroutine task."""
    before = signal.signal(signal.SIGTERM, exits)

    async def main() -> None:
        async with Engine(processes=1) as engine:
            if where == "function":
                task: Any = engine.submit(by_value(Slow()))
            elif where == "arguments":
                task = engine.options(lane="process").submit(id, Slow())
            else:
                task = engine.submit(ask_for_the_end)
            await asyncio.gather(task, return_exceptions=True)
            pytest.fail("the program goes on")

    try:
        with pytest.raises(SystemExit) as caught:
            asyncio.run(main())
        assert caught.value.code == 143
    finally:
        signal.signal(signal.SIGTERM, before)


def test_what_a_task_raises_itself_is_its_own_all_the_same() -> None:
    """S2, E32: also while handlers are set."""
    before = signal.signal(signal.SIGTERM, exits)

    async def end() -> None:
        sys.exit(3)

    async def main() -> None:
        async with Engine() as engine:
            error = (await asyncio.gather(engine.submit(end), return_exceptions=True))[0]
            assert isinstance(error, RemoteError)

    try:
        asyncio.run(main())
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_guard_that_is_put_back_after_its_engines_gives_way() -> None:
    """E32: a program saves the handler and restores it later; the next Runner's own handler comes in its place."""

    async def main() -> Any:
        async with Engine():
            return signal.getsignal(signal.SIGINT)

    signal.signal(signal.SIGINT, asyncio.run(main()))
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_loop_that_does_not_turn_is_broken_into(monkeypatch: pytest.MonkeyPatch) -> None:
    """E30: a Ctrl-C that the loop has not taken up within a second is raised where it stands."""
    monkeypatch.setattr(_sigint, "PATIENCE", -1.0)
    steps = []

    async def main() -> None:
        async with Engine():
            presser("engine._mailbox")()
            steps.append("once")
            presser("engine._mailbox")()
            steps.append("twice")

    loop = asyncio.new_event_loop()
    try:
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(main())
    finally:
        loop.close()
    assert steps == ["once"]


def test_a_first_one_that_the_loop_does_not_hear_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """E32: a Runner's first one raises nothing; if the loop is in a blocking call by then, the second one breaks in."""
    monkeypatch.setattr(_sigint, "PATIENCE", -1.0)
    steps: list[str] = []
    namespace: dict[str, Any] = {"__name__": "asyncio.events", "press": presser("time"), "steps": steps}
    exec("def callback():\n press()\n steps.append('once')\n press()\n steps.append('twice')", namespace)

    async def main() -> None:
        async with Engine():
            asyncio.get_running_loop().call_soon(namespace["callback"])
            await asyncio.sleep(60)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert steps == ["once"]


def test_a_module_without_a_proper_name_is_the_users() -> None:
    """E32: whatever a program has put into ``__name__``."""
    namespace: dict[str, Any] = {"__name__": 5, "press": functools.partial(signal.raise_signal, signal.SIGINT)}
    exec("async def main(engine):\n async with engine:\n  press()", namespace)
    loop = asyncio.new_event_loop()
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(namespace["main"](Engine()))
    loop.close()


def test_one_that_would_only_be_printed_in_a_del_of_ours_is_dropped() -> None:
    """E30: what a ``__del__`` raises is printed and forgotten."""
    engine: Any = object()
    _sigint.guard.enter(engine)
    try:
        presser("engine._core", name="__del__")()
        with pytest.raises(KeyboardInterrupt):
            presser("user", name="__del__")()
    finally:
        _sigint.guard.leave(engine)


def test_a_runner_that_returned_meanwhile_has_its_handler_taken_back_for_it() -> None:
    """E30: else the next ``asyncio.run`` would take what it left for the program's own."""

    class Leftover:
        engine: Any = object()

    async def main() -> None:
        _sigint.guard.enter(Leftover.engine)

    asyncio.run(main())
    handler: object = signal.getsignal(signal.SIGINT)
    assert handler is _sigint.guard
    _sigint.guard.leave(Leftover.engine)


def test_at_exit_a_ctrl_c_in_the_middle_of_the_end_waits_for_nothing() -> None:
    """N10: a handler that waited, with a lock held that it broke into, took half a second for each Ctrl-C."""
    calls = []

    class Living:
        def begin_exit(self, drain: float) -> None:
            calls.append("begin_exit")
            signal.raise_signal(signal.SIGINT)

        def hurry_exit(self) -> None:
            calls.append("hurry_exit")

        def wait_ended(self, seconds: float) -> bool:
            calls.append("wait_ended")
            return True

    living: Any = Living()
    _exit._end_all([living])
    assert calls == ["begin_exit", "hurry_exit", "wait_ended"]


def test_handlers_of_the_program_stay() -> None:
    """E30: only Python's own handler, and asyncio's, are guarded."""
    seen = []

    def mine(number: int, frame: FrameType | None) -> None:
        seen.append(number)

    async def main() -> None:
        async with Engine():
            assert signal.getsignal(signal.SIGINT) is mine
            presser("asyncio.events")()

    before = signal.signal(signal.SIGINT, mine)
    try:
        asyncio.run(main())
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [signal.SIGINT]


class PressesOnce:
    """Ctrl-C comes when this is pickled for the first time."""

    def __init__(self) -> None:
        self._is_new = True

    def __reduce__(self) -> Any:
        if self._is_new:
            self._is_new = False
            signal.raise_signal(signal.SIGINT)
        return int, (7,)


def test_answers_behind_the_one_in_whose_turn_ctrl_c_comes_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """E46: six answers are read at once, and what follows the first of them is pickled: the other five were lost."""
    send_ahead(monkeypatch, 6)
    gate = tmp_path / "gate"
    engine = Engine(processes=1)
    tasks: list[Task[Any]] = []

    async def press() -> None:
        await engine.start()
        await engine.warm_up()
        tasks.extend([engine.submit(pass_gate, str(gate) if n == 0 else "") for n in range(6)])
        tasks.append(engine.submit(identity, PressesOnce()))
        (worker,) = native_workers(engine)
        await eventually_async(lambda: worker.count() == 6)
        gate.touch()
        eventually(lambda: len(worker.child.stream.recv(1 << 12, socket.MSG_PEEK)) > 6 * RESULT.size)
        await asyncio.sleep(20)

    async def results() -> list[Any]:
        return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)

    loop = asyncio.new_event_loop()
    try:
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(press())
        assert loop.run_until_complete(results()) == [None] * 6 + [7]
        assert (engine.snapshot().crashes, engine.snapshot().malformed) == (0, 0)
    finally:
        loop.run_until_complete(engine.stop())
        loop.close()
