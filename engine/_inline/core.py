"""What runs an inline engine: one loop in virtual time, and the functions between its turns.

Guarantees
    One thread, the one that started the engine; another one is refused.
    A function runs when the loop stands still, so that it may wait for other tasks: ``pump`` is entered again then.
    Time goes on only where somebody waits and nothing is left to do at this instant, to the next instant at which
    something is due.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from .._core import Core
from .._lanes.base import Lane as LaneContract
from .._lanes.loop import LoopLane, silence
from .._latch import Latch
from .._limits import Slots
from .._mailbox import Mailbox
from .._registry import Registry
from .._settings import EngineSettings, exported_variables
from .._states import Lane
from .._stop import Stopper
from .._system import cpus_allowed
from .._task import Task
from .clock import VirtualClock
from .lanes import InlineLane
from .loop import VirtualLoop
from .scheduler import InlineScheduler
from .travel import Travel

__all__ = ["InlineCore"]

_PATIENCE = 5.0  #: real seconds for another thread to end what an inline engine waits for


class InlineCore(Core):
    """The core of an inline engine; what it has in common with the real one is inherited."""

    def __init__(
        self, settings: EngineSettings, clock: VirtualClock, *, autorun: bool, check_pickle: bool,
        rng: Callable[[], float],
    ) -> None:  # fmt: skip
        self.settings = settings
        self.clock = clock
        self.autorun = autorun
        self.rng = rng
        self.exported = exported_variables(settings.context)
        self.loop: VirtualLoop = VirtualLoop(clock.now)
        self.stopper = Stopper(self)
        self.owner = threading.current_thread()
        self.shared = {}
        self.watch = cast(Any, SimpleNamespace(stalls=0, longest_stall=0.0))  # nothing watches the loop
        self.groups = 0  #: blocks of groups that are open: there what is submitted waits
        self._depth = 0  #: functions that run, one waiting for the next
        self._assemble_inline(Travel() if check_pickle else None)
        clock.join(self)

    def _assemble_inline(self, travel: Travel | None) -> None:
        settings, home, threads = self.settings, Mailbox(self.loop), self.settings.thread_slots
        slots = {Lane.LOOP: Slots(settings.coroutines), Lane.THREAD: Slots(threads), Lane.PROCESS: Slots(None)}
        self.registry = Registry(max_pending=settings.max_pending, history=settings.history, slots=slots)
        self.scheduler: InlineScheduler = InlineScheduler(self, self.registry, home)
        processes = settings.processes if settings.processes is not None else cpus_allowed()
        self._inline = {
            Lane.THREAD: InlineLane(Lane.THREAD, self.scheduler, threads, settings, None),
            Lane.PROCESS: InlineLane(Lane.PROCESS, self.scheduler, processes, settings, travel),
        }
        self.threads, self.processes = cast(Any, self._inline[Lane.THREAD]), cast(Any, self._inline[Lane.PROCESS])
        self._sizes = {Lane.LOOP: settings.coroutines, Lane.THREAD: threads}
        lanes: list[LaneContract] = [LoopLane(self.scheduler, home), *self._inline.values()]
        for lane in lanes:
            self.scheduler.lanes[lane.name] = lane
            slots[lane.name].wake = lane.wake
        self.scheduler.admission.snapshot_function = (lambda fn: True) if travel is None else travel.snapshot

    def check_thread(self) -> None:
        """Raise RuntimeError on another thread than the engine's."""
        if threading.current_thread() is not self.owner:
            raise RuntimeError(
                f"expected an inline engine to be used by {self.owner.name}, which started it, got "
                f"{threading.current_thread().name}; use a real engine where threads are"
            )

    # -- doing the work

    def after_submit(self) -> None:
        """Run what was submitted, unless it is to wait, or something runs already and will see to it."""
        if self.autorun and not self.groups and not self._depth and not self.loop.is_running():
            self.run_until_idle()

    def run_until_idle(self) -> int:
        """Run all that is ready at this instant; return how many functions that were."""
        self.check_thread()
        count = 0
        while self.run_next() is not None:
            count += 1
        return count

    def run_next(self) -> Task[Any] | None:
        """Let coroutines go on, then run the most urgent function that is ready; None if none is."""
        self.check_thread()
        self.loop.turn()
        lane = self._most_urgent()
        attempt = self.scheduler.claim(lane) if lane is not None else None
        if lane is None or attempt is None:
            return None
        task: Task[Any] = attempt.task
        self._depth += 1
        try:
            self._inline[lane].run(attempt)
        finally:
            self._depth -= 1
        self.loop.turn()
        try:
            return task
        finally:
            del attempt, task  # an error's traceback reaches this frame: it must not hold the task that holds the error

    def _most_urgent(self) -> Lane | None:
        """Return the lane whose first task comes first: the higher priority, then the older task."""
        found: list[tuple[int, int, Lane]] = []
        for lane in self._inline:
            task = self.registry.ready[lane].first() if self.registry.slots[lane].has_room() else None
            if task is not None:
                found.append((-task._call.priority, task.id, lane))
        return min(found)[2] if found else None

    def pump(self, until: Callable[[], bool], seconds: float | None = None) -> bool:
        """Work until ``until()``, and let time pass where there is nothing to do; False after virtual ``seconds``.

        Raises:
            RuntimeError: nothing is left that could make it true.
        """
        self.check_thread()
        end = None if seconds is None else self.clock.now() + seconds
        self.loop.has_stood_still = False
        while not until():
            if self.run_next() is not None or until() or self.clock.step(end) or until():
                self.loop.has_stood_still = False
                continue
            if end is not None:
                self.clock.jump(end)
                return False
            if self.loop.has_stood_still:
                raise RuntimeError(
                    "expected something that can still happen to end this wait, got none: every task left waits for "
                    f"another one, or for what is outside of the engine ({self._left()})"
                )
            self.loop.wait(_PATIENCE)
        return True

    def _left(self) -> str:
        live = list(self.registry.live.values())
        shown = ", ".join(f"task {task.id} ({task.name}) {task.state.value}" for task in live[:5])
        return shown + (f" and {len(live) - 5} more" if len(live) > 5 else "") or "no task"

    # -- how others wait (``Scheduler.wait`` and ``next_in``)

    def wait(self, latch: Latch, timeout: float | None = None, is_over: Callable[[], bool] | None = None) -> bool:
        """Work until ``latch`` is set."""
        return self.pump(latch.is_set, timeout)

    def next_in(self, results: queue.SimpleQueue[Any]) -> Any:
        """Work until there is something in ``results``, and take it."""
        self.pump(lambda: not results.empty())
        return results.get_nowait()

    # -- as a part of the clock

    def settle(self) -> None:
        """Do what is to be done at this instant; functions only where none runs and nobody chooses them."""
        if threading.current_thread() is not self.owner or self.loop.is_running():
            return  # a coroutine moves the clock: the loop goes on when it lets it
        if self.autorun and not self._depth:
            self.run_until_idle()
        else:
            self.loop.turn()

    def next_at(self) -> float | None:
        """Return the instant of the next timer."""
        if self.loop.is_running() or self.loop.is_closed() or self.loop.idle_for is None:
            return None
        return self.clock.now() + self.loop.idle_for

    # -- the end

    def end(self) -> None:
        """Wait for the end that was asked for, and close the loop once nothing runs."""
        self.pump(self.stopper.ended.done)
        self.close()

    def close(self) -> None:
        """Close the loop, unless a function of it runs."""
        if not self._depth and not self.loop.is_closed() and not self.loop.is_running():
            self.clock.leave(self)
            self.loop.turn()
            for task in asyncio.all_tasks(self.loop):
                silence(task)  # it swallows cancellations, or nobody has stopped the engine
            self.loop.close()

    def forget(self) -> None:
        """Do nothing: nobody keeps a list of inline engines."""

    def let_go(self) -> None:
        """Close the loop: nobody has the engine any more, and nothing runs by itself."""
        if threading.current_thread() is self.owner:
            self.close()

    def is_somebodys(self) -> bool:
        """Say that it is: it is in the hands of the thread that runs it."""
        return True
