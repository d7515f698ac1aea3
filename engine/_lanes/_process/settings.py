"""What the process lane is told, and what it counts."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..._forks import whole
from ..._system import cpus_allowed

__all__ = ["Counters", "ProcessSettings", "thread_limits", "usable_cpus"]

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """Options of the process lane; the engine has checked them."""

    processes: int | None  #: tasks that run at once; None is what ``usable_cpus`` says, asked when it matters
    initializer: Callable[..., Any] | None = None  #: called in each worker before its first task
    initargs: tuple[Any, ...] = ()
    max_tasks_per_worker: int | None = None  #: a worker is replaced after so many, None for never
    worker_memory_limit: int | None = None  #: bytes of its own (RssAnon) that a worker may hold, None for no bound
    worker_idle_timeout: float = 60.0  #: seconds after which an idle worker leaves
    worker_start_timeout: float = 30.0  #: seconds until a starting worker counts as failed
    inner_threads: int | str | None = "auto"  #: threads of OpenMP and the like per worker; "auto" shares the CPUs
    grace: float = 0.5
    name: str = "engine"


@dataclass(slots=True)
class Counters:
    """What has happened; written on the home loop only, read by anyone."""

    started: int = 0  #: workers that said hello
    start_failures: int = 0  #: workers that never did, or died at once
    last_start_error: tuple[float, str] | None = None  #: when the last of them failed, and why
    crashes: int = 0  #: tasks whose worker died under them
    idle_deaths: int = 0  #: workers that died without a task
    killed: int = 0  #: workers ended because an interrupted task did not stop in time
    retired: int = 0  #: workers replaced because an interrupt was raised in them
    recycled: int = 0  #: workers replaced after max_tasks_per_worker, over worker_memory_limit, or by restart
    memory_exceeded: int = 0  #: tasks that took too much memory and were killed with their worker
    given_back: int = 0  #: attempts that were sent and had not begun, taken back from a worker and queued again
    malformed: int = 0  #: workers replaced because they broke the protocol
    decode_timeouts: int = 0  #: results and exceptions given up because rebuilding them took too long
    decode_refusals: int = 0  #: those not even tried, because every decoder thread was stuck
    stuck_decoders: int = 0  #: decoder threads left behind, which still rebuild something


def usable_cpus() -> int:
    """Return how many processors cgroups and affinity leave us, as loky counts them; the import costs 25 ms."""
    try:
        with whole():
            import loky

            return int(loky.cpu_count())
    except (OSError, RuntimeError):  # no descriptor left to import with; or the interpreter exits: loky cannot register
        return len(os.sched_getaffinity(0))


def thread_limits(settings: ProcessSettings) -> dict[str, str]:
    """Return the environment that keeps OpenMP and the like within bounds; what the user has set stays."""
    if settings.inner_threads is None:
        return {}
    count = settings.inner_threads
    if count == "auto":
        processes = settings.processes
        is_one_each = processes is None or processes >= cpus_allowed()  # then no need to count
        count = 1 if is_one_each or processes is None else max(1, usable_cpus() // processes)
    return {name: str(count) for name in _THREAD_VARIABLES if name not in os.environ}
