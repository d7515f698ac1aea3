"""The same engine for code without an event loop: its loop runs in a private thread.

Guarantees
    The private loop lives from ``__enter__`` until the engine has ended; every method may be called from any thread
    but that loop's own, ``stop`` from that one too. The thread holds no BlockingEngine and no Engine: who drops
    the last one lets go of the engine, which finishes its work and ends the thread.
    Waiting happens on the caller's thread, on something that the engine's end releases as well.
    A wait never keeps the engine from what it waits for: ``stop`` does not wait where the engine's own code is what
    was interrupted, by a signal handler or by the collector (``_is_inside``).
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Coroutine
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from . import _checks, _exit, _sigint
from ._blocking_calls import BlockingCalls
from ._lanes import loop as loop_lane
from ._lanes import threads as thread_lane
from ._latch import Latch
from ._lineage import check_no_import
from ._states import TaskState
from ._submit import not_started
from ._system import fill_standard_descriptors
from .errors import EngineClosed, EngineForked

if TYPE_CHECKING:
    from ._core import Core
    from ._engine import Engine
    from ._records import TaskInfo
    from ._snapshot import Snapshot
    from ._stop import ShutdownReport

__all__ = ["BlockingEngine"]

T = TypeVar("T")

log = logging.getLogger("engine")

_LAST_SECONDS = 0.2  #: in which coroutines may still end that the engine had to abandon
_LEEWAY = 1.5  #: seconds past ``timeout + grace`` after which a private loop that does not turn is given up


class BlockingEngine(BlockingCalls):
    """An Engine whose methods block instead of being awaited. ``with Engine() as engine:`` makes one.

    Where an event loop runs already, as in a notebook, it works too, and holds that loop up while it waits; in a
    coroutine use ``async with Engine()``.
    """

    def __init__(self, engine: Engine | None = None, **settings: Any) -> None:
        from ._engine import Engine as AsyncEngine

        self._engine = engine if engine is not None else AsyncEngine(**settings)
        super().__init__(self._engine)

    def start(self) -> BlockingEngine:
        """Start the engine on a private loop. ``with`` does it for you, and stops it; else call ``stop``.

        Raises:
            RuntimeError: the engine was started before; an engine lives once. Or the interpreter exits, or a worker
                process imports the module that starts it.
        """
        engine = self._engine
        if engine._thread is not None or engine._running is not None:
            from ._engine import started_before

            raise started_before(engine._running)
        check_no_import("an engine to be started")
        _exit.check_open()  # before the thread: some versions of Python say of it merely that it cannot start
        with _sigint.deferred():  # imported here: after a Ctrl-C the private loop must not be in the middle of it
            from ._core import process_lane

            process_lane(engine._settings)
        name = f"{engine._settings.name}-loop"
        start = _Start(engine)
        thread = threading.Thread(target=start.run, name=name, daemon=True)
        engine._thread, engine._is_started = thread, start.is_over
        try:
            thread.start()
            start.is_over.wait()
        except BaseException as error:
            if start.is_first():  # no thread can be had; or Ctrl-C, and one that is on its way finds nothing to do
                engine._thread = None
                start.is_over.set()
            elif not isinstance(error, Exception):  # Ctrl-C while it starts: nobody will have it
                start.cancel()
            raise
        if start.error is not None:
            thread.join()
            raise start.error
        return self

    def __enter__(self) -> BlockingEngine:
        return self.start()

    async def __aenter__(self) -> NoReturn:
        raise TypeError(
            "expected a BlockingEngine to be entered with 'with', got 'async with'; use 'async with Engine()', whose"
            " methods are awaited, or 'with'"
        )

    async def __aexit__(self, *_: object) -> None:
        """Be there for ``async with``, which looks for it before it enters."""

    def stop(self, timeout: float | None = None, *, cancel_pending: bool = False) -> ShutdownReport:
        """Stop as ``Engine.stop`` does, and end the private loop. Idempotent; any thread; before the start too.

        Called by a signal handler or the collector in the middle of the engine's own code, or on its own loop (from a
        done callback, from a coroutine), it must not wait: then it begins to stop and reports what there is so far.

        Raises:
            EngineForked: the engine is the parent process's.
        """
        if timeout is not None:
            timeout = _checks.seconds("timeout", timeout, zero=True, remedy="use timeout=None to wait for all work")
        _checks.flag("cancel_pending", cancel_pending)
        engine = self._engine
        if engine._thread is not None and engine._running is None:
            engine._is_started.wait()  # somebody starts it this instant
        core, thread = engine._running, engine._thread
        if core is None or thread is None:  # never started
            from ._engine import nothing_done

            return nothing_done()
        if core.scheduler.forked:
            raise EngineForked
        core.ask_to_stop(timeout, cancel_pending)
        if thread is threading.current_thread() or _is_inside():
            ended = core.stopper.ended
            return ended.result() if ended.done() else core.stopper.report_so_far()
        loop = asyncio._get_running_loop()
        if loop is not None and (held := core.scheduler.endings.end_on(loop)):
            log.warning(
                "expected the coroutines of this thread's loop to have ended before the engine is stopped here, which"
                " holds up the loop, got %s that had not; they were cancelled. Await them first, or use run", held,
            )  # fmt: skip
        return _wait_for_the_end(core, thread, timeout)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        core = self._engine._running
        if core is not None and not core.scheduler.forked:  # else the engine, and its workers, are the parent's
            core.scheduler.is_leaving |= error is not None and not isinstance(error, Exception)
            self.stop(timeout=None if error is None else 0)

    def _on_loop(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run ``coroutine`` on the private loop and wait for it.

        Raises:
            EngineClosed: the engine ended before the coroutine did.
        """
        core = self._engine._running
        try:
            if threading.current_thread() is self._engine._thread:
                raise RuntimeError(
                    "expected a call from another thread than the engine's own loop, which it would block"
                )
            if core is None:
                raise not_started()
            core.scheduler.admission.check_open()
            return run_on(core, coroutine)
        finally:
            coroutine.close()  # nothing happens if it has run

    def tasks(self, *, state: TaskState | str | None = None, name: str | None = None) -> list[TaskInfo]:
        """Return pictures of the remembered finished tasks, as they finished, then of the live ones, oldest first."""
        return self._engine.tasks(state=state, name=name)

    def get(self, task_id: int) -> TaskInfo | None:
        """Return a picture of one task, None if there is none or it is forgotten."""
        return self._engine.get(task_id)

    def cancel(self, *, id: int | None = None, name: str | None = None) -> int:
        """Cancel the live tasks with this id or name; return how many there were."""
        return self._engine.cancel(id=id, name=name)

    @property
    def process_backend(self) -> str:
        """Give what runs the worker processes here: "native" or "loky"."""
        return self._engine.process_backend

    def snapshot(self) -> Snapshot:
        """Return counts, workers and queues at this instant."""
        return self._engine.snapshot()

    def stacks(self) -> dict[str, str]:
        """Return what every worker process and thread, and every coroutine, is doing now."""
        return self._engine.stacks()

    def warm_up(self) -> None:
        """Start every worker process now, and return when all are ready."""
        self._on_loop(self._engine.warm_up())

    def restart_workers(self) -> None:
        """Have every worker process replaced: idle ones leave now, busy ones when their task is over. Does not wait."""
        self._on_loop(self._engine.restart_workers())

    def __reduce__(self) -> Any:
        return self._engine.__reduce__()


# -- the private loop -----------------------------------------------------------------------------------------------


class _Start:
    """Starts an engine on a loop of the thread that calls ``run``, and turns the loop until the engine has ended.

    The thread holds this, so it lets go of the Engine as soon as that has started.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine: Engine | None = engine
        self._owner = threading.current_thread()
        self._is_cancelled = False
        self._ticket = [None]
        self.error: BaseException | None = None
        self.is_over = Latch()  #: it has started, or could not

    def is_first(self) -> bool:
        """Say whether nobody has asked this before: the thread as it begins, or who gives the thread up."""
        try:
            self._ticket.pop()
        except IndexError:
            return False
        return True

    def cancel(self) -> None:
        """Stop the engine as soon as it has started; nobody wants it."""
        self._is_cancelled = True
        engine = self._engine
        core = engine._running if engine is not None else None
        if core is not None:
            core.ask_to_stop(0)

    def run(self) -> None:
        """Do all that."""
        if not self.is_first():
            return
        try:
            fill_standard_descriptors()
            with asyncio.Runner() as runner:
                loop = runner.get_loop()
                core = runner.run(self._start())
                core.owner = self._owner
                core.stopper.ended.add_done_callback(lambda: _end_soon(loop))
                if self._is_cancelled:
                    core.ask_to_stop(0)
                del core
                self._engine = None
                self.is_over.set()
                loop.run_forever()
                loop.call_later(_LAST_SECONDS, _leave_behind, loop)
        except BaseException as error:  # handed to the thread that waits in __enter__
            self.error = error
            self._engine = None
            self.is_over.set()

    async def _start(self) -> Core:
        engine = self._engine
        assert engine is not None
        await engine.start()
        assert engine._running is not None
        return engine._running


def _leave_behind(loop: asyncio.AbstractEventLoop) -> None:
    """Have asyncio close ``loop`` though coroutines go on whatever is asked of them: each was logged as abandoned."""
    for task in asyncio.all_tasks(loop):
        loop_lane.silence(task)
    loop.stop()


def _end_soon(loop: asyncio.AbstractEventLoop) -> None:
    """Stop ``loop`` when what was posted to it has run: the callbacks of the last tasks."""
    try:
        loop.call_soon_threadsafe(loop.call_soon, loop.stop)
    except RuntimeError:  # it is closed
        pass


def _wait_for_the_end(core: Core, thread: threading.Thread, timeout: float | None) -> ShutdownReport:
    """Wait until ``core`` has stopped and its private loop has ended.

    A loop that user code blocks past the promised time is left behind; a second Ctrl-C kills what runs.
    """
    ended = core.stopper.ended
    bound = None if timeout is None else timeout + core.settings.grace + _LEEWAY
    try:
        if not ended.wait(bound):
            core.abort("the engine was stopped")
        thread.join(None if bound is None else 1.0)
    except BaseException:  # Ctrl-C: nobody waits any more
        core.processes.kill()
        core.ask_to_stop(0, grace=0.0)
        raise
    return ended.result()


def _is_inside() -> bool:
    """Say whether this call came out of the engine's own code: a signal handler or the collector broke into it.

    Then locks may be held below us that the engine needs before it can stop, ours or the standard library's.
    """
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_globals.get("__name__") in _FACES:
        frame = frame.f_back
    while frame is not None:
        if frame.f_code in _DOORS:  # user code that the engine called in the ordinary way, and holds no lock around
            return frame.f_code is _THREAD_DOOR and "running" in frame.f_locals  # or it broke into the door itself
        if frame.f_globals.get("__name__", "").startswith("engine._"):
            return True
        frame = frame.f_back
    return False


_FACES = frozenset({"engine._blocking", "engine._engine"})
_THREAD_DOOR = thread_lane._enter.__code__
_DOORS = frozenset({_THREAD_DOOR, loop_lane._drive.__code__})


def run_on(core: Core, coroutine: Coroutine[Any, Any, T]) -> T:
    """Run ``coroutine`` on the loop of ``core`` and wait for it on this thread; Ctrl-C cancels it.

    Not ``asyncio.run_coroutine_threadsafe``: its future has a lock that Ctrl-C may leave held; then the loop stands.

    Raises:
        EngineClosed: the engine ended before the coroutine did.
    """
    over = Latch()
    tasks: list[asyncio.Task[T]] = []

    def begin() -> None:
        tasks.append(core.loop.create_task(coroutine))
        tasks[0].add_done_callback(over.set)

    ended = core.stopper.ended
    ended.add_done_callback(over.set)
    try:
        core.loop.call_soon_threadsafe(begin)
        core.scheduler.wait(over)
        if not tasks or not tasks[0].done() or tasks[0].cancelled():
            raise ended_meanwhile()
        return tasks[0].result()
    except RuntimeError:
        if core.loop.is_closed() and not tasks:
            raise ended_meanwhile() from None
        raise
    finally:
        ended.remove_done_callback(over.set)
        if tasks and not tasks[0].done():
            core.scheduler.later(tasks[0].cancel)


def ended_meanwhile() -> EngineClosed:
    """Build the error for a call that the end of the engine overtook."""
    return EngineClosed("expected the engine to run until the call is done, got one that was stopped: cannot schedule "
                        "new futures after shutdown; create a new Engine")  # fmt: skip
