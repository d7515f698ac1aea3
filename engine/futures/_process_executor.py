"""A drop-in for ``ProcessPoolExecutor``."""

from __future__ import annotations

import concurrent.futures
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from .. import _checks
from .._states import Lane
from ._own_engine import OwnEngine, refuse_few, refuse_few_workers, refuse_uncallable

__all__ = ["ProcessExecutor"]


class ProcessExecutor(OwnEngine, concurrent.futures.ProcessPoolExecutor):
    """Calls functions in worker processes: a ``ProcessPoolExecutor`` that one crash does not break.

    Args:
        max_workers: worker processes; by default what this process may use (cgroups and affinity counted).
        mp_context: taken for what it says of the start method; workers are always started fresh, so one that forks is
            refused.
        initializer, initargs: called once in every worker before its first call.
        max_tasks_per_child: replace a worker after so many calls; None for never.
        broken_on_crash: end every call at the first crash and refuse more, as the standard pool does. By default only
            the call that the worker ran fails, with ``WorkerCrashed``, which is a ``BrokenProcessPool``.

    Raises:
        ValueError, TypeError: a value is out of range, as the standard says.
    """

    def __init__(
        self, max_workers: int | None = None, mp_context: Any = None,
        initializer: Callable[..., object] | None = None, initargs: Iterable[Any] = (), *,
        max_tasks_per_child: int | None = None, broken_on_crash: bool = False,
    ) -> None:  # fmt: skip
        _refuse_fork(mp_context)
        refuse_uncallable(initializer)
        if max_tasks_per_child is not None:
            refuse_few("max_tasks_per_child", max_tasks_per_child, "max_tasks_per_child must be >= 1")
        refuse_few_workers(max_workers)
        broken = _broken_by_a_crash if _checks.flag("broken_on_crash", broken_on_crash) else None
        super().__init__(
            Lane.PROCESS, None, broken, processes=max_workers, initializer=initializer,
            initargs=tuple(initargs), max_tasks_per_worker=max_tasks_per_child,
        )  # fmt: skip
        self._ledger.on_broken = weakref.WeakMethod(self._give_up)

    def _give_up(self) -> None:
        """End the workers of a pool that has broken."""
        self._break_off(_broken_by_a_crash, kill=False)

    def terminate_workers(self) -> None:
        """End every worker now, asking first: calls that run fail with BrokenProcessPool, others are cancelled.

        A call that does not end within half a second of being asked is killed. The executor is shut down.
        """
        self._break_off(_ended_by_hand, kill=False)

    def kill_workers(self) -> None:
        """Kill every worker now: calls that run fail with BrokenProcessPool, others are cancelled.

        The executor is shut down.
        """
        self._break_off(_ended_by_hand, kill=True)


def _broken_by_a_crash() -> BaseException:
    return BrokenProcessPool(
        "A process in the process pool was terminated abruptly while the future was running or pending; with "
        "broken_on_crash=False only the call that it ran fails, and the others go on"
    )


def _ended_by_hand() -> BaseException:
    return BrokenProcessPool("The worker process of this call was ended by terminate_workers or kill_workers")


def _refuse_fork(mp_context: Any) -> None:
    if mp_context is None:
        return
    ask = getattr(mp_context, "get_start_method", None)
    if not callable(ask):
        raise _checks.wrong("mp_context", "a context of multiprocessing", mp_context)
    if ask() == "fork":
        remedy = "leave it out: workers are started fresh; hand them what they need by an initializer"
        raise _checks.wrong("mp_context", 'one that starts processes fresh ("spawn", "forkserver")', mp_context, remedy)
