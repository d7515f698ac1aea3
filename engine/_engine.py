"""The engine: one awaitable API in front of an event loop, a pool of threads and a pool of worker processes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Never

from . import _checks, _exit, _sigint
from ._latch import Latch
from ._lineage import check_no_import
from ._options import DEFAULT, TaskOptions
from ._settings import EngineSettings
from ._states import Lane, TaskState, state_of
from ._submit import Calls, EngineView, Submitter, not_started
from .errors import EngineForked, PickleError

if TYPE_CHECKING:
    from ._blocking import BlockingEngine
    from ._core import Core
    from ._records import TaskInfo
    from ._snapshot import Snapshot
    from ._stop import ShutdownReport

__all__ = ["Engine"]


class Engine(Submitter):
    """Runs coroutines on the loop, blocking calls in threads, and CPU-bound calls in worker processes.

    ``async with Engine() as engine:`` lives on the running loop; ``with Engine() as engine:`` gives a BlockingEngine
    with a loop of its own. Leaving waits for all accepted work; leaving with an exception stops at once.

    Args:
        processes: worker processes; by default what this process may use (cgroups and affinity counted).
        threads: pool threads; by default 4 more than processors, at most 32.
        coroutines: how many coroutines may run at once.
        max_pending: how many accepted tasks may wait for a slot; None for no bound. Retries are not counted.
        default_lane: "process" or "thread", for plain functions that say nothing themselves.
        initializer, initargs: called once in every worker process before its first task. Functions of ``__main__``,
            closures and lambdas are snapshots: they share no globals in the worker, and a new one is taken at the
            first submit after a global name was bound anew, so put an initializer and the functions that use what it
            loads into a module.
        max_tasks_per_worker: replace a worker after that many tasks; None for never.
        worker_memory_limit: bytes that a worker process may hold for itself (RssAnon: without shared memory and mapped
            files); None for no bound. One that holds more between two tasks is replaced. A task that takes more than
            the limit leaves in a fresh worker is killed with WorkerMemoryExceeded; so a worker may hold up to twice
            the limit while a task runs. It is looked at every 50 ms. Only with the native process backend.
        worker_idle_timeout: seconds after which an idle worker leaves.
        worker_start_timeout: seconds in which a started worker must be ready, initializer included.
        process_backend: what runs the worker processes. "native" is our own protocol (Linux); "loky" runs one loky
            executor per worker, slower and a little weaker (README, "Where it runs"); "auto" is "native" where
            the system has what it needs, else "loky".
        inner_threads: limit for OpenMP, MKL, OpenBLAS and numexpr in workers; "auto" shares the processors out,
            None sets nothing.
        context: addresses ("pkg.mod:var") of the context variables that process tasks see; the other lanes see all.
        grace: seconds between asking a task to stop and killing or abandoning it.
        history: how many finished tasks ``tasks()`` remembers (without arguments and results).
        name: prefix of thread names, seen in logs.

    Raises:
        ValueError: a value is out of range.
    """

    def __init__(
        self,
        *,
        processes: int | None = None,
        threads: int | None = None,
        coroutines: int = 1000,
        max_pending: int | None = None,
        default_lane: Literal["process", "thread"] = "process",
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        max_tasks_per_worker: int | None = None,
        worker_memory_limit: int | None = None,
        worker_idle_timeout: float = 60.0,
        worker_start_timeout: float = 30.0,
        process_backend: Literal["auto", "native", "loky"] = "auto",
        inner_threads: int | Literal["auto"] | None = "auto",
        context: Sequence[str] = (),
        grace: float = 0.5,
        history: int = 10_000,
        name: str = "engine",
        **others: Never,
    ) -> None:
        for other in others:
            remedy = "use processes=..., threads=..." if other == "max_workers" else ""
            raise _checks.no_such("the options of Engine", EngineSettings._fields, other, remedy)
        self._settings = EngineSettings(
            processes=processes, threads=threads, coroutines=coroutines, max_pending=max_pending,
            default_lane=default_lane, initializer=initializer, initargs=initargs,
            max_tasks_per_worker=max_tasks_per_worker, worker_memory_limit=worker_memory_limit,
            worker_idle_timeout=worker_idle_timeout, worker_start_timeout=worker_start_timeout,
            process_backend=process_backend, inner_threads=inner_threads, context=context, grace=grace,
            history=history, name=name,
        ).checked()  # fmt: skip
        super().__init__(Calls(Lane(self._settings.default_lane), self._settings.grace), DEFAULT)
        self._running: Core | None = None
        self._thread: threading.Thread | None = None  # the private loop's, of a BlockingEngine
        self._is_started = Latch()  # of a BlockingEngine: it has started, or could not

    # -- from start to stop -------------------------------------------------------------------------------------

    async def start(self) -> Engine:
        """Start on the running loop, which becomes the engine's home. ``async with`` does it for you.

        Raises:
            RuntimeError: the engine was started before; an engine lives once. Or a worker process imports the module
                that starts it.
            EngineClosed: the interpreter exits.
        """
        if self._running is not None:
            raise started_before(self._running)
        check_no_import("an engine to be started")
        _exit.check_open()
        with _sigint.deferred():  # one that strikes an import may leave Python's import lock taken
            from ._core import Core  # here: half of the time of ``import engine`` would be its, and its lanes'
        core = Core(self._settings)
        await core.tie()
        self._running = core
        return self

    async def stop(self, timeout: float | None = None, *, cancel_pending: bool = False) -> ShutdownReport:
        """Refuse new work, wait for what was accepted, then end every worker. Idempotent.

        Of an engine that never started nothing is to be ended; its report is all zero, so that ``finally`` is a place
        for it.

        Args:
            timeout: seconds to wait; what then still waits or runs is cancelled, and killed after ``grace``. So it
                returns within ``timeout + grace + 1`` seconds, provided the loop turns. None waits for all.
            cancel_pending: cancel at once what has not started.
        """
        if timeout is not None:
            timeout = _checks.seconds("timeout", timeout, zero=True, remedy="use timeout=None to wait for all work")
        _checks.flag("cancel_pending", cancel_pending)
        core = self._running
        if core is None:
            return nothing_done()
        if core.scheduler.forked:
            raise EngineForked
        stopper = core.stopper
        if asyncio.get_running_loop() is core.loop:
            return await stopper.stop(timeout, cancel_pending)
        core.ask_to_stop(timeout, cancel_pending)
        return await stopper.ended.wait_here()

    async def __aenter__(self) -> Engine:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        core = self._running
        if core is not None and not core.scheduler.forked:  # else the engine, and its workers, are the parent's
            core.scheduler.is_leaving |= error is not None and not isinstance(error, Exception)
            if isinstance(error, GeneratorExit):  # the coroutine around us is dropped: nothing can be awaited any more
                core.stop_or_abort(0, core.settings.grace)
                return
            await self.stop(timeout=None if error is None else 0)

    def __enter__(self) -> BlockingEngine:
        from ._blocking import BlockingEngine

        return BlockingEngine(self).__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        from ._blocking import BlockingEngine

        BlockingEngine(self).__exit__(kind, error, traceback)

    def __del__(self) -> None:
        core = self.__dict__.get("_running")
        if core is not None:
            core.let_go()

    @property
    def _core(self) -> Core:
        core = self._running
        if core is None:
            raise not_started()
        if core.scheduler.forked:
            raise EngineForked
        return core

    def _view(self, options: TaskOptions) -> EngineView:
        return EngineView(self, self._calls, options)

    # -- looking in and steering --------------------------------------------------------------------------------

    def tasks(self, *, state: TaskState | str | None = None, name: str | None = None) -> list[TaskInfo]:
        """Return pictures of the remembered finished tasks, as they finished, then of the live ones, oldest first."""
        wanted = None if state is None else state_of(state)
        name = _name(name)
        return [
            info
            for info in self._core.registry.infos()
            if (wanted is None or info.state is wanted) and (name is None or info.name == name)
        ]

    def get(self, task_id: int) -> TaskInfo | None:
        """Return a picture of one task, None if there is none or it is forgotten (see ``history``)."""
        task_id = _checks.positive_int("task_id", task_id)
        with self._core.registry.lock:
            task = self._core.registry.live.get(task_id)
        if task is not None:
            return task.info()
        return next((info for info in self._core.registry.infos() if info.id == task_id), None)

    def cancel(self, *, id: int | None = None, name: str | None = None) -> int:
        """Cancel the live tasks with this id or name; return how many there were.

        Raises:
            ValueError: neither was given.
        """
        if id is None and name is None:
            raise _checks.wrong("id or name", "given", None, "use stop() to end everything")
        id, name = None if id is None else _checks.positive_int("id", id), _name(name)
        with self._core.registry.lock:
            tasks = [
                task
                for task in self._core.registry.live.values()
                if (id is None or task.id == id) and (name is None or task.name == name)
            ]
        return sum(task.cancel() for task in tasks)

    @property
    def process_backend(self) -> str:
        """Give what runs the worker processes here: "native" or "loky"."""
        return self._settings.backend

    def snapshot(self) -> Snapshot:
        """Return counts, workers and queues at this instant. Any thread; about 0.1 ms and a look at each process."""
        from ._snapshot import take_snapshot

        return take_snapshot(self._core)

    def stacks(self) -> dict[str, str]:
        """Return what every worker process and thread, and every coroutine, is doing now, as formatted stacks.

        Any thread. Waits at most a quarter of a second for the worker processes; one that does not answer (C code that
        holds the GIL) says so in its place.
        """
        return {title: stack for lane in self._core.lanes.values() for title, stack in lane.stacks().items()}

    async def warm_up(self) -> None:
        """Start every worker process now, and return when all are ready.

        Raises:
            WorkerStartupError: they cannot start.
        """
        self._core.scheduler.admission.check_open()
        for lane in self._core.lanes.values():
            await lane.warm_up()

    async def restart_workers(self) -> None:
        """Have every worker process replaced: idle ones leave now, busy ones when their task is over. Does not wait."""
        self._core.scheduler.admission.check_open()
        for lane in self._core.lanes.values():
            await lane.restart()

    def __repr__(self) -> str:
        core = self._running
        return f"<Engine {self._settings.name!r} {core.scheduler.phase if core is not None else 'not started'}>"

    def __reduce__(self) -> Any:
        raise PickleError(
            "expected picklable arguments, got an Engine: a process task cannot submit to its parent's engine; "
            "return what is to be done next, or use lane='thread'"
        )


def nothing_done() -> ShutdownReport:
    """Build the report of an engine that never started."""
    from ._stop import ShutdownReport  # here: what stops an engine is not needed before one has started

    return ShutdownReport(
        submitted=0, completed=0, failed=0, cancelled=0, stopping=0, cancelled_by_stop=0, abandoned=0, killed=0,
        seconds=0.0,
    )  # fmt: skip


def started_before(core: Core | None) -> RuntimeError:
    """Build the error of an engine that is started again; ``core`` is None where the first start is not over."""
    got, remedy = "one that was", "an engine lives once: create a new Engine"
    if core is not None and core.stopper.ended.done():
        got = "one that has stopped"
    elif core is not None:
        got, remedy = "one that runs", "use it as it is, or create a new Engine"
    return RuntimeError(f"expected an engine that has not been started, got {got}; {remedy}")


def _name(value: str | None) -> str | None:
    """Refuse what can be no name."""
    return None if value is None else _checks.string(_checks.instance("name", value, str, "a string"))
