"""joblib's ``Parallel`` on an engine: ``register()``, then ``parallel_config(backend="engine")``.

Guarantees
    Shared: ``_engines``, guarded by ``_lock``, held while an engine starts; whose a backend is, guarded by
    ``_claiming``, held for a look and an assignment.  Callers: any thread.
    A backend serves one call at a time; another that comes meanwhile, on any thread, is given one like it.
    After a call of ``Parallel`` none of its tasks is left and nothing that it shared; the engine stays for the next
    one, as joblib's own workers do. ``stop``, or the end of the program, ends it.
"""

import asyncio
import os
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import joblib
from joblib.parallel import AutoBatchingMixin, FallbackToBackend, ParallelBackendBase, SequentialBackend

from engine import BlockingEngine, Engine, EngineClosed, Lane, Retry, WorkerCrashed, _checks

from . import _joblib_call
from ._joblib_call import Call, Job
from ._joblib_pack import Arrays

__all__ = ["EngineBackend", "register", "stop"]

#: A batch whose worker died is tried again: joblib's own workers take the whole call with them.
RETRY = Retry(max_attempts=3, base_delay=0, on=(WorkerCrashed,))

#: What would be ignored there: joblib hands on to ``configure`` whatever its ``Parallel`` does not know.
_NOT_OF_PARALLEL = {"engine", "retry", "idle_worker_timeout", "initializer", "initargs"}


def register(*, make_default: bool = False) -> None:
    """Have joblib know ``backend="engine"``; with ``make_default`` it is what ``Parallel`` uses if nobody says else."""
    joblib.register_parallel_backend("engine", EngineBackend, make_default=make_default)


def stop(timeout: float | None = None) -> None:
    """Stop the engines that the backend made for itself; the next ``Parallel`` makes one anew. See ``Engine.stop``."""
    with _lock:
        engines = list(_engines.values())
        _engines.clear()
    for engine in engines:
        engine.stop(timeout)


class EngineBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]  # joblib has no types
    """A backend of joblib's that runs batches in the worker processes of an engine.

    Args:
        engine: an engine of yours that runs; by default one for each ``n_jobs``, which is made when it is needed and
            used again. With yours, no more run at once than it has processes.
        retry: when a batch is tried again; by default up to twice, after a crash of its worker. None for never.
        idle_worker_timeout: seconds after which a worker of the backend's own engine leaves if it has nothing to do.
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True

    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        engine: Engine | BlockingEngine | None = None,
        retry: Retry | None = RETRY,
        idle_worker_timeout: float = 300.0,
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        if engine is not None and not isinstance(engine, Engine | BlockingEngine):
            raise _checks.wrong("engine", "an Engine or a BlockingEngine", engine, "use engine=None for one of its own")
        if retry is not None:
            _checks.instance("retry", retry, Retry, "a Retry, or None")
        self.parallel: Any = None  #: the one that uses this backend, or used it last
        self._given = engine
        self._retry = retry
        self._idle_worker_timeout = _checks.seconds("idle_worker_timeout", idle_worker_timeout)
        self._engine: Engine | BlockingEngine | None = None
        self._is_used = False
        self._limit: int | None = None
        self._max_nbytes: int | None = None
        self._call: Call | None = None

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many batches may run at once; inside of one, 1."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None or _joblib_call.is_inside:
            return 1
        slots = joblib.cpu_count() if self._given is None else self._given.snapshot().lanes[Lane.PROCESS].slots
        if n_jobs < 0:
            return max(1, int(slots) + 1 + n_jobs)
        return n_jobs if self._given is None else min(n_jobs, slots)

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        max_nbytes: int | None = 1_000_000,
        mmap_mode: str | None = "r",
        **others: Any,
    ) -> int:
        """Find the engine for one call of ``Parallel``, or for the length of its ``with`` block.

        ``others`` are what joblib says to every backend.
        """
        if misplaced := sorted(others.keys() & _NOT_OF_PARALLEL):
            raise TypeError(
                f"expected Parallel to be told of no {misplaced[0]}; say it to parallel_config(backend='engine', ...),"
                " to EngineBackend(...), or to the engine that you give to one of them"
            )
        if self._given is not None and self._given.snapshot().phase != "running":
            raise EngineClosed(
                "expected the engine of Parallel to be running, got one that has stopped; give it another"
            )
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        if mmap_mode not in ("r", "c", None):
            raise _checks.wrong("mmap_mode", 'one of "r", "c" or None', mmap_mode,
                                "give the tasks a numpy.memmap that you have opened yourself")  # fmt: skip
        with _claiming:
            if self._is_used and self.parallel is not parallel:  # another call is not over: a generator, or in a thread
                raise FallbackToBackend(self._twin())
            self._is_used, self.parallel = True, parallel
        self._max_nbytes = max_nbytes if mmap_mode == "r" else None
        try:
            self._engine, self._limit = self._find_engine(n_jobs)
        except BaseException:
            self._is_used = False
            raise
        return n_jobs

    def _find_engine(self, n_jobs: int) -> tuple[Engine | BlockingEngine, int | None]:
        """Return the engine for a call, and how many batches of it may be there at once."""
        if self._given is None:
            return _engine_for(_Kind(n_jobs, self.inner_max_num_threads, self._idle_worker_timeout)), None
        if self.inner_max_num_threads is not None:
            raise _checks.wrong("inner_max_num_threads", "None where the engine is given", self.inner_max_num_threads,
                                "make the engine with inner_threads")  # fmt: skip
        if isinstance(self._given, Engine) and _has_loop():
            raise RuntimeError(
                "expected Parallel on an Engine to be called where no event loop runs, got a loop that it would block; "
                "use asyncio.to_thread, or 'with Engine()'"
            )
        return self._given, n_jobs

    def _twin(self) -> "EngineBackend":
        """Return a backend of the same options that no call uses."""
        return EngineBackend(
            self.nesting_level, self.inner_max_num_threads, self._given, self._retry, self._idle_worker_timeout
        )

    def start_call(self) -> None:
        """Begin one call of ``Parallel``."""
        assert self._engine is not None
        left: Any = getattr(
            self.parallel, "_ready_batches", None
        )  # of an interrupted call; joblib would run it in this
        while left is not None and not left.empty():
            left.get_nowait()
        view = self._engine.options(lane=Lane.PROCESS, retry=self._retry, name="joblib")
        self._call = Call(view, self._limit, Arrays(self._engine.share, self._max_nbytes))

    def submit(self, func: Callable[[], Any], callback: Callable[[Job], object]) -> Job:
        """Run one batch, then call back."""
        call = self._call
        return Job(callback) if call is None else call.submit(func, callback)  # None: it was aborted this instant

    apply_async = submit  # what joblib before 1.5 calls it

    def retrieve_result_callback(self, out: Job) -> Any:
        """Return the results of a batch that is done, or raise what it raised."""
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancel what is left of the call: running functions are interrupted, then killed. The engine goes on."""
        if self._call is not None:
            self._call.cancel()

    def stop_call(self) -> None:
        """End one call of ``Parallel``."""
        if self._call is not None:
            self._call.close()
            self._call = None

    def terminate(self) -> None:
        """Let go of the engine; it is there for the next call."""
        self.stop_call()
        self.reset_batch_stats()
        self._engine = None
        self._is_used = False  # last: from here on it is another one's


class _Kind(NamedTuple):
    """What tells the backend's own engines from one another."""

    processes: int
    inner_threads: int | None
    idle_worker_timeout: float


_engines: dict[_Kind, BlockingEngine] = {}
_lock = threading.Lock()
_claiming = threading.RLock()  # re-entrant: the collector may call in


def _engine_for(kind: _Kind) -> BlockingEngine:
    """Return the engine of this kind, started if there is none that runs."""
    with _lock:
        engine = _engines.get(kind)
        if engine is None or engine.snapshot().phase != "running":
            engine = _engines[kind] = BlockingEngine(
                processes=kind.processes,
                inner_threads=kind.inner_threads if kind.inner_threads is not None else "auto",
                worker_idle_timeout=kind.idle_worker_timeout,
                history=0,
                name="joblib",
            ).start()
        return engine


def _has_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _forget_in_child() -> None:
    """In a forked child: the engines are the parent's, and another thread may have held the lock."""
    global _claiming, _lock
    _lock = threading.Lock()
    _claiming = threading.RLock()
    _engines.clear()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forget_in_child)
