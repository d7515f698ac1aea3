"""SCENARIOS S2, S5, S6, S12: data that misbehaves where it is pickled or rebuilt, through the public Engine.

``test_process_scenarios.py`` has S1, S3, S4, S7 and S8, ``test_liars.py`` workers that lie, ``test_payload_sizes.py``
sizes. design/0008 says who pays for what.
"""

import asyncio
import collections
import os
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, Task
from engine._lanes._process import ahead, decoder_threads
from engine.errors import PickleError, RemoteError, RemoteTraceback, ResultDecodeError
from tests.contracts import functions
from tests.integration import hostile_data as data
from tests.support import REPOSITORY, eventually_async

STUCK = 30.0  #: seconds; a bound for what never happens, not a measurement


async def within(awaitable: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(awaitable, STUCK)


async def is_healthy(engine: Engine) -> bool:
    return bool(await within(engine.run(functions.give, 42)) == 42)


# -- S2: arguments that misbehave where they are pickled -----------------------------------------------------------


@pytest.mark.parametrize("place", ["argument", "keyword", "nested", "function"])
@pytest.mark.parametrize(
    ("how", "cause"),
    [
        ((data.throw, SystemExit(3)), SystemExit), ((data.throw, KeyboardInterrupt()), KeyboardInterrupt),
        ((data.throw, RuntimeError("no")), RuntimeError), ((data.throw, GeneratorExit()), GeneratorExit),
        ((data.throw, asyncio.CancelledError()), asyncio.CancelledError), ((data.throw_mute,), data.RaisesMute),
        ((data.recurse,), RecursionError),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)  # fmt: skip
async def test_what_misbehaves_while_it_is_pickled_fails_its_own_task(
    place: str, how: tuple[Any, ...], cause: type[BaseException]
) -> None:
    """S2: whatever ``__reduce__`` raises, in an argument, a keyword argument, deep inside one, or the function."""
    bad = data.DoesWhenPickled(*how)
    async with Engine(processes=1) as engine:
        before = engine.submit(functions.give, 1)
        submits: dict[str, Callable[[], Task[Any]]] = {
            "argument": lambda: engine.submit(data.give, bad),
            "keyword": lambda: engine.submit(data.give, value=bad),
            "nested": lambda: engine.submit(data.give, [{"x": (bad,)}]),
            "function": lambda: engine.submit(data.CallableThatDoes(*how), 1),
        }
        task = submits[place]()
        behind = engine.submit(functions.give, 2)
        with pytest.raises(PickleError) as caught:
            await within(task)
        assert (caught.value.what, caught.value.where, caught.value.task_id) == ("arguments", "parent", task.id)
        assert type(caught.value.__cause__) is cause
        assert "send " in str(caught.value)  # the remedy
        assert task.started_at is None
        assert await within(asyncio.gather(before, behind)) == [1, 2]


async def test_slow_pickling_stalls_for_as_long_as_it_takes_and_then_all_goes_on() -> None:
    """S2: one second of sleep in ``__reduce__``."""
    async with Engine(processes=1) as engine:
        slow = engine.submit(data.give, data.DoesWhenPickled(time.sleep, 1.0))
        behind = engine.submit(functions.give, 2)
        assert await within(slow) is None
        assert await within(behind) == 2


async def test_arguments_are_neither_compared_nor_hashed_nor_shown() -> None:
    """What cannot be compared, hashed, shown or asked for its truth is an argument like any other."""
    async with Engine(processes=1) as engine:
        assert await within(engine.submit(data.receive, data.Unequal(), x=data.Unequal())) == (1, ["x"])
        result = await within(engine.submit(data.make, "unequal"))
        assert type(result) is data.Unequal


async def test_any_keyword_goes_to_the_function() -> None:
    names = ["self", "fn", "args", "kwargs", "timeout", "lane", "name", "a b", "", "class", "\udcff", "é" * 1000]
    async with Engine(processes=1) as engine:
        assert await within(engine.submit(data.receive, **dict.fromkeys(names, 1))) == (0, sorted(names))


# -- S5, S6: results that misbehave where they are rebuilt ----------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        ("raises", ValueError), ("raises_mute", data.RaisesMute), ("exits", SystemExit),
        ("interrupts", KeyboardInterrupt), ("recurses", RecursionError),
    ],
)  # fmt: skip
async def test_a_result_that_misbehaves_where_it_is_rebuilt_fails_its_own_task(
    kind: str, cause: type[BaseException]
) -> None:
    """S5: the parent lives, the worker is the same, the others complete."""
    async with Engine(processes=1) as engine:
        pid = await within(engine.submit(os.getpid))
        task = engine.submit(data.make, kind)
        behind = engine.submit(functions.give, 2)
        with pytest.raises(ResultDecodeError) as caught:
            await within(task)
        assert type(caught.value.__cause__) is cause
        assert caught.value.task_id == task.id
        assert "return plain data" in str(caught.value)
        assert await within(behind) == 2
        assert await within(engine.submit(os.getpid)) == pid


async def test_others_flow_while_results_are_being_rebuilt(tmp_path: Path) -> None:
    """S6: plain results, and those that need a thread, though three before them have not been rebuilt yet."""
    gate = tmp_path / "gate"
    async with Engine(processes=2) as engine:
        slow = [engine.submit(data.make, "waits", str(gate)) for _ in range(3)]
        for n in range(20):
            assert await within(engine.submit(functions.give, n)) == n
            assert (await within(engine.submit(data.Node, n))).child == n
        assert not any(task.done() for task in slow)
        gate.touch()
        assert await within(asyncio.gather(*slow)) == [str(gate)] * 3
        assert engine.snapshot().decode_timeouts == 0


@pytest.mark.parametrize("kind", ["sleeps", "burns"])
async def test_a_result_that_is_rebuilt_for_ever_fails_alone_while_others_flow(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """S6: sleeping or burning in Python: plain results and those that need a thread flow, the bound ends it."""
    monkeypatch.setattr(decoder_threads, "SECONDS", 0.5)
    async with Engine(processes=2) as engine:
        task = engine.submit(data.make, kind, 2.0)
        while not task.done():
            assert await is_healthy(engine)
        with pytest.raises(ResultDecodeError) as caught:
            await task
        assert isinstance(caught.value.__cause__, TimeoutError)
        assert engine.snapshot().decode_timeouts == 1
        assert engine.snapshot().stuck_decoders == 1
        await eventually_async(lambda: engine.snapshot().stuck_decoders == 0, STUCK)


async def test_results_that_wait_to_be_rebuilt_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """S6 in great number: workers get nothing new to do while much waits, and all of it arrives."""
    monkeypatch.setattr(decoder_threads, "WAITING_BYTES", 4 << 20)
    monkeypatch.setattr(ahead, "AHEAD_SECONDS", -1.0)  # nothing is sent ahead: how much would depend on how quick it is
    most = 0
    async with Engine(processes=2) as engine:
        await within(engine.submit(functions.give, 1))
        threads = engine._core.processes._decoder._threads
        tasks = [engine.submit(data.make_slow, 1 << 20, 0.02) for _ in range(60)]
        while not all(task.done() for task in tasks):
            most = max(most, threads._waiting_bytes)
            await asyncio.sleep(0.001)
        assert [len((await task)[0]) for task in tasks] == [1 << 20] * 60
        assert await is_healthy(engine)
        assert await within(asyncio.gather(*[engine.submit(functions.give, n) for n in range(50)])) == list(range(50))
    assert 4 << 20 < most <= 8 * ((1 << 20) + 100)  # eight results, each a little longer than its payload


async def test_a_result_that_claims_to_be_harmless_does_not_burn_on_the_loop() -> None:
    """S6: ``__reduce__`` that says ``deque, (range(...),)``: its class is not on the list, so a thread does it."""
    async with Engine(processes=1) as engine:
        result = await within(engine.submit(data.make, "lies", 1000))
        assert result == collections.deque(range(1000))
        assert [thread.name for thread in threading.enumerate()].count("engine-decoder") == 1


async def test_a_cancel_ends_the_wait_for_a_result(tmp_path: Path) -> None:
    """The attempt is over at once, and its slot free, though the thread goes on."""
    gate = tmp_path / "gate"
    async with Engine(processes=1) as engine:
        task = engine.submit(data.make, "waits", str(gate))
        await eventually_async(lambda: engine._core.processes._decoder._threads._open, STUCK)
        assert task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually_async(lambda: not engine._core.registry.attempts, decoder_threads.SECONDS / 2)
        assert await is_healthy(engine)
        gate.touch()
        await decoders_are_gone(engine)


async def decoders_are_gone(engine: Engine) -> None:
    """Wait until no thread is at a result any more, so that the test leaves none."""
    threads = engine._core.processes._decoder._threads
    await eventually_async(lambda: all(thread.job is None for thread in threads._threads), STUCK)


async def test_stop_is_not_held_by_a_stuck_result() -> None:
    """A stuck thread is a daemon: ``stop`` leaves it."""
    engine = Engine(processes=1)
    async with engine:
        task = engine.submit(data.make, "sleeps", 2.0)
        await eventually_async(lambda: engine._core.processes._decoder._threads._open, STUCK)
        before = time.monotonic()
        report = await within(engine.stop(timeout=0))
        assert time.monotonic() - before < 15
        assert task.done()
        assert report is not None


def test_the_interpreter_exits_while_a_result_is_stuck() -> None:
    """The exit is quick and says nothing, though a thread will never end."""
    code = """
import asyncio
from engine import Engine, Task
from tests.integration import hostile_data as data
from tests.contracts import functions

async def main():
    async with Engine(processes=1) as engine:
        task = engine.submit(data.make, "sleeps", 1000.0)
        while not engine._core.processes._decoder._threads._open:
            await asyncio.sleep(0.01)
        assert await engine.run(functions.give, 1) == 1
        task.cancel()
    print("left")

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "left\n", "")


# -- S12: depth -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["list", "tuple", "dict", "object", "mixed"])
async def test_what_is_nested_too_deep_fails_its_own_task(kind: str) -> None:
    """S12: 100,000 levels as argument and as result: RecursionError is the cause; parent and worker live."""
    async with Engine(processes=1) as engine:
        pid = await within(engine.submit(os.getpid))
        with pytest.raises(PickleError) as caught:
            await within(engine.submit(functions.give, data.nested(kind, 100_000)))
        assert isinstance(caught.value.__cause__, RecursionError)
        assert "less deeply nested" in str(caught.value)
        with pytest.raises(PickleError) as caught:
            await within(engine.submit(data.nested, kind, 100_000))
        assert caught.value.where == "worker"
        assert isinstance(caught.value.__cause__, RecursionError)
        assert "less deeply nested" in str(caught.value)
        assert await within(engine.submit(os.getpid)) == pid


@pytest.mark.parametrize("kind", ["list", "tuple", "dict", "object"])
async def test_what_is_nested_less_deep_travels(kind: str) -> None:
    """S12: what pickle takes, the engine does too."""
    async with Engine(processes=1) as engine:
        assert data.depth_of(await within(engine.submit(data.nested, kind, 150))) == 150
        assert await within(engine.submit(data.depth_of, data.nested(kind, 150))) == 150


async def test_a_short_result_that_becomes_deep_here_arrives() -> None:
    """S12: built where it is rebuilt; nothing of ours walks down into it."""
    async with Engine(processes=1) as engine:
        assert data.depth_of(await within(engine.submit(data.make_deep_when_loaded, 100_000))) == 100_000
        assert await is_healthy(engine)


# -- exceptions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "args", "name", "text"),
    [
        ("wide_group", (10_000,), "ExceptionGroup", "wide"),
        ("wide_group_with_a_bad_leaf", (10_000,), "ExceptionGroup", "wide"),
        ("deep_group", (10_000,), "ExceptionGroup", ""),
        ("long_chain", (10_000,), "RuntimeError", "link 9999"),
        ("circle_of_contexts", (), "ValueError", "one"),
        ("big_pickle", (100_000_000,), "ValueError", "xxx"),
        ("big_attribute", (100_000_000,), "ValueError", "with luggage"),
        ("deep_args", (100_000,), "ValueError", ""),
        ("many_notes", (10_000,), "ValueError", "noted"),
        ("notes_that_are_none", (), "ValueError", "noted"),
        ("becomes", (os.getpid(),), "BecomesAnotherHere", str(os.getpid())),
        ("claims", (os.getpid(),), "ClaimsHere", str(os.getpid())),
    ],
)
async def test_an_awkward_exception_says_what_it_was(kind: str, args: tuple[Any, ...], name: str, text: str) -> None:
    """S7, S8, S12: too wide, too deep, too long, too big, or another thing here: type, message, traceback arrive."""
    async with Engine(processes=1) as engine:
        pid = await within(engine.submit(os.getpid))
        error = (await within(asyncio.gather(engine.submit(data.raise_a, kind, *args), return_exceptions=True)))[0]
        if isinstance(error, RemoteError):
            assert error.type_name.endswith(name)
            assert len(error.text) < 70_000
            trace = error.traceback
        else:
            assert type(error).__name__ == name
            assert isinstance(error.__cause__, RemoteTraceback)
            trace = error.__cause__.traceback
        assert text in str(error)
        assert "raise_a" in trace
        assert name in trace
        assert len(trace) < 140_000
        assert await within(engine.submit(os.getpid)) == pid


async def test_an_exception_that_sleeps_where_it_is_rebuilt_arrives_as_its_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """S6 for exceptions: off the loop and bounded; what it was and where it was raised is known without it."""
    monkeypatch.setattr(decoder_threads, "SECONDS", 0.3)
    async with Engine(processes=1) as engine:
        task = engine.submit(data.raise_a, "sleeps", os.getpid(), 2.0)
        while not task.done():
            assert await is_healthy(engine)
        with pytest.raises(RemoteError) as caught:
            await task
        assert caught.value.type_name.endswith("SleepsInSetstate")
        assert "raise_a" in caught.value.traceback
        await decoders_are_gone(engine)
