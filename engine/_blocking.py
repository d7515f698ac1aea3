"""The same engine for code without an event loop: its loop runs in a private thread.

Guarantees
    The private loop lives from ``__enter__`` to the end of ``stop``; every method may be called from any thread but
    that loop's own. Waiting happens on the caller's thread, on an Event or a queue that the settling thread fills.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from ._blocking_calls import BlockingCalls
from ._states import TaskState
from .errors import EngineForked

if TYPE_CHECKING:
    from ._engine import Engine
    from ._records import TaskInfo
    from ._snapshot import Snapshot
    from ._stop import ShutdownReport

__all__ = ["BlockingEngine"]

T = TypeVar("T")


class BlockingEngine(BlockingCalls):
    """An Engine whose methods block instead of being awaited. ``with Engine() as engine:`` makes one."""

    def __init__(self, engine: Engine | None = None, **settings: Any) -> None:
        from ._engine import Engine as AsyncEngine

        self._engine = engine if engine is not None else AsyncEngine(**settings)
        super().__init__(self._engine)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop_lock = threading.Lock()
        self._report: ShutdownReport | None = None
        self._stopping = 0  #: how many wait for the report

    def __enter__(self) -> BlockingEngine:
        if self._thread is not None:
            raise RuntimeError("expected an engine that has not been started, got one that was; create a new Engine")
        ready: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        name = f"{self._engine._settings.name}-loop"
        self._thread = threading.Thread(target=self._run_loop, args=(ready,), name=name, daemon=True)
        self._thread.start()
        error = ready.get()
        if error is not None:
            self._thread.join()
            raise error
        return self

    def _run_loop(self, ready: queue.SimpleQueue[BaseException | None]) -> None:
        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            try:
                runner.run(self._start())
            except BaseException as error:  # handed to the thread that waits in __enter__
                ready.put(error)
                return
            self._loop = loop
            ready.put(None)
            loop.run_forever()

    async def _start(self) -> None:
        await self._engine.start()

    def stop(self, timeout: float | None = None, *, cancel_pending: bool = False) -> ShutdownReport:
        """Stop as ``Engine.stop`` does, and end the private loop. Idempotent; any thread; before the start too."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            from ._engine import nothing_done

            return nothing_done()
        with self._stop_lock:
            if self._report is not None:
                return self._report
            self._stopping += 1
        report = None
        try:
            report = self._on_loop(self._engine.stop(timeout, cancel_pending=cancel_pending))
        finally:
            with self._stop_lock:
                self._stopping -= 1
                if report is not None:
                    self._report = report
                if self._report is not None and not self._stopping:  # the loop outlives everyone who asked it to stop
                    loop.call_soon_threadsafe(loop.stop)
        if thread is not threading.current_thread():
            thread.join()
        return report

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._engine._core.scheduler.forked:  # else the engine, its loop and its workers are the parent's
            self.stop(timeout=None if error is None else 0)

    def _on_loop(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("expected a call from another thread than the engine's own loop, which it would block")
        if self._engine._core.scheduler.forked:
            coroutine.close()
            raise EngineForked
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def tasks(self, *, state: TaskState | str | None = None, name: str | None = None) -> list[TaskInfo]:
        """Return pictures of the live tasks and the remembered finished ones, oldest first."""
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
        """Replace every worker process: the idle ones now, the busy ones when their task is over."""
        self._on_loop(self._engine.restart_workers())

    def __reduce__(self) -> Any:
        return self._engine.__reduce__()
