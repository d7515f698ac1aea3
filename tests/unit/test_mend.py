"""What a Ctrl-C broke off in the middle of ``submit`` is mended."""

import asyncio
import dis
import linecache
import signal
import sys
import threading
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from engine import BlockingEngine, Engine, Lane, Task, TaskState, _sigint
from engine._admission import Admission
from engine._lanes._process.functions import Functions
from engine._lanes.base import new_attempt
from engine._lanes.threads import ThreadLane
from engine._limits import Slots
from engine._mailbox import Mailbox
from engine._queue import ReadyQueue
from engine._registry import Registry
from engine._scheduler import Scheduler
from tests.support import eventually

STUCK = 30.0


class Breaker:
    """A Ctrl-C, or another exception, at the n-th line of some functions, as a trace function sees them.

    Not at the line of a ``with``: there the tracer breaks in between the block and ``__exit__``, where Python looks for
    no signal (it does so after calls and at jumps back), and leaves the lock held.
    """

    def __init__(
        self, at: int, functions: list[Callable[..., Any]], error: type[BaseException] = KeyboardInterrupt
    ) -> None:
        self.left = at
        self._error = error
        self._codes = {function.__code__ for function in functions}

    def __call__(self, frame: types.FrameType, event: str, argument: Any) -> Any:
        if frame.f_code not in self._codes:
            return None
        if event == "line" and not linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip().startswith(
            "with "
        ):
            self.left -= 1
            if self.left == 0:
                raise self._error
        return self


STEPS: list[Callable[..., Any]] = [
    Admission.submit, Registry.admit_locked, ReadyQueue.push, Mailbox.post,
]  # fmt: skip


@pytest.mark.parametrize("lane", ["thread", "loop"])
def test_a_ctrl_c_at_any_line_of_submit_loses_neither_wake_up_nor_count(lane: str) -> None:
    """N10: somebody who interrupts a notebook's cell and goes on must find an engine that works."""

    async def give(value: int) -> int:
        return value

    lines = sum(len(list(dis.findlinestarts(step.__code__))) for step in STEPS)
    with Engine(threads=1, coroutines=1, default_lane="thread", max_pending=3) as engine:
        fn: Any = give if lane == "loop" else abs
        interrupted = 0
        for at in range(1, lines):
            before = sys.gettrace()
            sys.settrace(Breaker(at, STEPS))
            try:
                engine.submit(fn, at)
            except KeyboardInterrupt:
                interrupted += 1
            finally:
                sys.settrace(before)
            assert engine.submit(fn, at).result(STUCK) == at, f"interrupted at line {at}"
        report = engine.stop(timeout=STUCK)
    assert interrupted > 20
    assert report.submitted == report.completed + report.cancelled
    assert report.stopping == 0
    assert engine.snapshot().count(TaskState.PENDING) == 0


CLAIM: list[Callable[..., Any]] = [
    ThreadLane._goes_on, Scheduler.take, Scheduler._after_claim, Slots.has_room, Slots.park, ReadyQueue.first,
    new_attempt, ReadyQueue.take_first,
]  # fmt: skip
BEGIN_AND_END: list[Callable[..., Any]] = [
    ThreadLane._run_one, Registry.enter, Scheduler.return_taken, Scheduler._return_locked, Scheduler.end_taken,
    Scheduler._end_locked, Registry.release_locked, Scheduler._decide_locked, Registry.complete_locked,
    Registry.settle_locked, Registry._close_locked, Scheduler._conclude, Scheduler.leave, Scheduler.tell,
]  # fmt: skip


class Late(Exception):
    """What another thread throws."""


def strike(at: int, functions: list[Callable[..., Any]]) -> tuple[bool, list[Any]]:
    """Throw ``Late`` into a pool thread at the n-th line of ``functions``; say whether, and how three tasks ended."""
    breaker = Breaker(at, functions, Late)
    before = threading.gettrace()
    threading.settrace(breaker)
    try:
        with Engine(threads=1, default_lane="thread", max_pending=10) as engine:
            tasks = [engine.submit(abs, -n) for n in range(3)]
            ended = [task.exception(STUCK) or task.result() for task in tasks]
            snapshot, registry = engine.snapshot(), engine._engine._core.registry
            assert (snapshot.count(TaskState.PENDING), snapshot.count(TaskState.RUNNING)) == (0, 0)
            eventually(lambda: not registry.slots[Lane.THREAD].taken, STUCK)
            assert registry.waiting == 0
    finally:
        threading.settrace(before)
    return breaker.left <= 0, ended


def lines_of(functions: list[Callable[..., Any]]) -> range:
    return range(1, sum(len(list(dis.findlinestarts(function.__code__))) for function in functions))


def test_what_is_thrown_into_a_pool_thread_at_any_line_of_a_claim_loses_no_task() -> None:
    """E24: the thread had taken the task out of the queue and not noted that it has it; nobody ever settled it."""
    runs = [strike(at, CLAIM) for at in lines_of(CLAIM)]
    assert [ended for _, ended in runs] == [[0, 1, 2]] * len(runs)
    assert sum(is_struck for is_struck, _ in runs) > 40


def test_what_is_thrown_into_a_pool_thread_as_a_task_begins_or_ends_fails_that_task_at_most() -> None:
    """E24: the same a moment later; who waited for a task that was over in part waited for ever."""
    for at in lines_of(BEGIN_AND_END):
        _, ended = strike(at, BEGIN_AND_END)
        assert [value for value in ended if type(value) is not Late] in ([0, 1, 2], [1, 2], [0, 2], [0, 1])


def hold_thread(engine: BlockingEngine, breaker: Breaker, gate: threading.Event) -> Task[bool]:
    """Have the one pool thread of ``engine``, and no other thread, traced by ``breaker``, and wait for ``gate``."""
    begun = threading.Event()

    def hold() -> bool:
        begun.set()
        return gate.wait(STUCK)

    before = threading.gettrace()
    threading.settrace(breaker)
    try:
        task = engine.submit(hold)
        assert begun.wait(STUCK)
    finally:
        threading.settrace(before)
    return task


LAST_END: list[Callable[..., Any]] = [
    Scheduler.return_taken, Scheduler._return_locked, Registry.release_locked, Registry.complete_locked,
    Registry._close_locked, Registry.quiet_locked, Registry.is_quiet_locked, Scheduler._conclude, Scheduler.leave,
    Scheduler.tell, Mailbox.post,
]  # fmt: skip


def stop_beside_a_strike(at: int) -> bool:
    """Throw ``Late`` into a pool thread at the n-th line of the last end, for which ``stop`` waits; say whether."""
    breaker, gate = Breaker(sys.maxsize, LAST_END, Late), threading.Event()
    with Engine(threads=1, default_lane="thread") as engine, ThreadPoolExecutor(1) as other:
        try:
            task = hold_thread(engine, breaker, gate)
            stopping = other.submit(engine.stop, timeout=STUCK)
            eventually(lambda: engine._engine._core.registry.quiet_waiters, STUCK)
            breaker.left = at
        finally:
            gate.set()
        report = stopping.result(2 * STUCK)
    assert task.done()
    assert report.cancelled == report.abandoned == 0
    assert report.seconds < STUCK / 2, f"expected the stop to hear of the end, struck at line {at}"
    return breaker.left <= 0


def test_what_is_thrown_into_a_pool_thread_at_any_line_of_the_last_end_leaves_no_stop_waiting() -> None:
    """E218: it had taken the list of those who wait for quiet, and told nobody."""
    struck = [stop_beside_a_strike(at) for at in lines_of(LAST_END)]
    assert sum(struck) > 20


OPENING: list[Callable[..., Any]] = [
    Scheduler._after_claim, Scheduler.tell, Scheduler.open_room, Scheduler.tell_of_room, Registry.room_opened_locked,
    Mailbox.post,
]  # fmt: skip


def run_beside_a_strike(at: int) -> bool:
    """Throw ``Late`` into a pool thread at the n-th line of its opening room, for which two wait; say whether."""
    breaker, gate = Breaker(sys.maxsize, OPENING, Late), threading.Event()
    with Engine(threads=1, default_lane="thread", max_pending=1) as engine, ThreadPoolExecutor(2) as others:
        try:
            hold_thread(engine, breaker, gate)
            waiting = engine.submit(abs, -1)
            running = [others.submit(engine.run, abs, value) for value in (-2, -3)]
            eventually(lambda: len(engine._engine._core.registry.room_waiters) == 2, STUCK)
            breaker.left = at
        finally:
            gate.set()
        assert [each.result(STUCK) for each in running] == [2, 3], f"struck at line {at}"
        assert waiting.exception(STUCK) is None
        registry = engine._engine._core.registry
        eventually(lambda: not registry.opening, STUCK)
        assert not registry.room_waiters
    return breaker.left <= 0


def test_what_is_thrown_into_a_pool_thread_at_any_line_of_its_opening_room_leaves_nobody_waiting() -> None:
    """E219: it had taken the one who waits off the list, and told nobody."""
    struck = [run_beside_a_strike(at) for at in lines_of(OPENING)]
    assert sum(struck) > 10


def test_a_mailbox_whose_post_was_interrupted_is_not_deaf() -> None:
    """1. The post notes that the loop is awake. 2. Ctrl-C. 3. Later posts would wait for a drain that never comes."""
    loop = asyncio.new_event_loop()
    wake = loop.call_soon_threadsafe
    seen: list[int] = []

    def break_once(*args: Any, **kwargs: Any) -> Any:
        loop.call_soon_threadsafe = wake  # type: ignore[method-assign]  # as it was
        raise KeyboardInterrupt

    mailbox = Mailbox(loop)
    loop.call_soon_threadsafe = break_once  # type: ignore[method-assign, assignment]  # the Ctrl-C
    with pytest.raises(KeyboardInterrupt):
        mailbox.post(seen.append, 1)
    mailbox.post(seen.append, 2)
    loop.call_soon(loop.call_soon, loop.stop)
    loop.run_forever()
    loop.close()
    assert seen == [1, 2]


def test_a_drain_that_was_interrupted_keeps_the_rest() -> None:
    """A loop that is run again after a KeyboardInterrupt finds what was posted."""
    loop = asyncio.new_event_loop()
    mailbox = Mailbox(loop)
    seen: list[int] = []

    def press() -> None:
        raise KeyboardInterrupt

    mailbox.post(press)
    mailbox.post(seen.append, 2)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    loop.call_soon(loop.call_soon, loop.stop)
    loop.run_forever()
    loop.close()
    assert seen == [2]


def test_ctrl_c_is_told_from_a_keyboard_interrupt_that_user_code_raises() -> None:
    """S2 wants the one on its task, N10 wants the other to end the program."""

    def raising() -> None:
        raise KeyboardInterrupt

    def pressed() -> None:
        signal.raise_signal(signal.SIGINT)

    caught: list[KeyboardInterrupt] = []
    for fn in (raising, pressed):
        try:
            fn()
        except KeyboardInterrupt as error:
            caught.append(error)
    assert [_sigint.came_by_signal(error) for error in caught] == [False, True]


def test_ctrl_c_is_held_back_and_comes_after_the_block() -> None:
    """The sections that must not be left half done: a process that starts, an engine that is ended by force."""
    steps = []
    with pytest.raises(KeyboardInterrupt), _sigint.deferred():  # noqa: PT012  # that the block goes on is tested
        with _sigint.deferred():
            signal.raise_signal(signal.SIGINT)
            steps.append("inner")
        steps.append("outer")
    assert steps == ["inner", "outer"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with _sigint.deferred(is_dropped=True):
        signal.raise_signal(signal.SIGINT)
    thread = threading.Thread(target=_sigint.deferred().__enter__)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class Presses:
    """Somebody presses Ctrl-C once while this is pickled."""

    def __init__(self) -> None:
        self.left = 1

    def __int__(self) -> int:
        return 0

    def __reduce__(self) -> Any:
        while self.left:
            self.left -= 1
            signal.raise_signal(signal.SIGINT)
        return int, ()


def interrupt(number: int, frame: types.FrameType | None) -> None:
    """Do as Python's own handler, in Python."""
    raise KeyboardInterrupt


@pytest.mark.parametrize("handler", [signal.default_int_handler, interrupt])
@pytest.mark.parametrize("behind", [0, 1])
def test_a_ctrl_c_while_the_loop_pickles_arguments_is_no_pickle_error(behind: int, handler: Any) -> None:
    """E28: and the loop, run again, finds the task where it was, and the answer that made room for it."""
    before = signal.signal(signal.SIGINT, handler)
    loop = asyncio.new_event_loop()

    async def main() -> list[int]:
        async with Engine(processes=1) as engine:
            await engine.warm_up()
            return await asyncio.gather(*[engine.submit(abs, -1) for _ in range(behind)], engine.submit(int, Presses()))

    try:
        task = loop.create_task(main())
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(asyncio.wait_for(task, STUCK))
        assert loop.run_until_complete(asyncio.wait_for(task, STUCK)) == [1] * behind + [0]
    finally:
        signal.signal(signal.SIGINT, before)
        loop.close()


@pytest.mark.parametrize("handler", [signal.default_int_handler, interrupt])
def test_a_ctrl_c_while_the_loop_pickles_a_function_is_not_remembered_as_its_error(handler: Any) -> None:
    """E28: every later task of that function failed with it."""
    presses = Presses()
    functions = Functions()

    def fn() -> Presses:
        return presses

    before = signal.signal(signal.SIGINT, handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            functions.get(fn, "fn")
    finally:
        signal.signal(signal.SIGINT, before)
    entry = functions.get(fn, "fn")
    assert entry is not None
    assert entry.error is None
