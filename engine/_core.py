"""One running engine: its registry, scheduler and lanes, tied to its home loop.

Guarantees
    ``_cores`` is a weak set of what runs in this process, for ``os.fork``; guarded by ``_cores_lock``.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from ._lanes.base import Lane as LaneContract
from ._lanes.loop import LoopLane
from ._lanes.threads import ThreadLane
from ._limits import Slots
from ._mailbox import Mailbox
from ._registry import Registry
from ._scheduler import Scheduler
from ._settings import EngineSettings, exported_variables
from ._states import Lane
from ._watchdog import watch

if TYPE_CHECKING:
    from ._lanes.processes import ProcessSettings

__all__ = ["Core"]

_cores: weakref.WeakSet[Core] = weakref.WeakSet()
_cores_lock = threading.Lock()


class Core:
    """What Engine, BlockingEngine and their views share while the engine runs."""

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        from ._lanes.processes import ProcessLane  # here: a third of the time of ``import engine`` is its

        self.loop = asyncio.get_running_loop()
        home = Mailbox(self.loop)
        threads = settings.thread_slots
        slots = {
            Lane.LOOP: Slots(settings.coroutines),
            Lane.THREAD: Slots(threads, takers=12 * threads, spawnable=threads),
            Lane.PROCESS: Slots(None),
        }
        self.registry = Registry(max_pending=settings.max_pending, history=settings.history, slots=slots)
        self.scheduler = Scheduler(self.registry, home, exported_variables(settings.context))
        if settings.backend == "loky":
            from ._lanes.portable import PortableLane as ProcessLane  # loky's own parts: only where they are used
        self.processes = ProcessLane(self.scheduler, home, _process_settings(settings))
        self.threads = ThreadLane(self.scheduler, home, settings.name)
        lanes: list[LaneContract] = [LoopLane(self.scheduler, home), self.threads, self.processes]
        for lane in lanes:
            self.scheduler.lanes[lane.name] = lane
            slots[lane.name].wake = lane.wake
        self.scheduler.snapshot_function = self.processes.snapshot_function
        slots[Lane.THREAD].grow = self.threads.grow
        self._sizes = {Lane.LOOP: settings.coroutines, Lane.THREAD: threads}
        live = self.registry.live
        self.watch = watch(self.loop, settings.name, lambda: bool(live))
        with _cores_lock:
            _cores.add(self)

    @property
    def lanes(self) -> dict[Lane, LaneContract]:
        """Give the lanes by name."""
        return self.scheduler.lanes

    def size(self, lane: Lane) -> int:
        """Return how many attempts of ``lane`` may run at once."""
        return self.processes.size if lane is Lane.PROCESS else self._sizes[lane]

    def room(self) -> asyncio.Future[None]:
        """Return a future of the running loop that is done when a submit may find room again."""
        future = asyncio.get_running_loop().create_future()
        mailbox = self.scheduler.waiters.mailbox()

        def give() -> None:
            if future.done():  # who waited has given up: the room is the next one's
                self.pass_room_on()
            else:
                future.set_result(None)

        def opened() -> None:
            if not mailbox.post(give):
                self.pass_room_on()

        with self.registry.lock:
            self.registry.room_waiters[opened] = None
        future.add_done_callback(lambda _: self.no_room_for(opened))
        return future

    def no_room_for(self, opened: Callable[[], object]) -> None:
        """Forget a waiter for room, if it is still remembered."""
        with self.registry.lock:
            self.registry.room_waiters.pop(opened, None)

    def pass_room_on(self) -> None:
        """Wake the next waiter for room: the one that was called does not use it."""
        with self.registry.lock:
            opened = self.registry.room_opened_locked()
        if opened is not None:
            opened()

    def forget(self) -> None:
        """Note that the engine has stopped."""
        self.watch.close()
        with _cores_lock:
            _cores.discard(self)


def _process_settings(settings: EngineSettings) -> ProcessSettings:
    from ._lanes.processes import ProcessSettings

    return ProcessSettings(
        processes=settings.processes,
        initializer=settings.initializer,
        initargs=settings.initargs,
        max_tasks_per_worker=settings.max_tasks_per_worker,
        worker_memory_limit=settings.worker_memory_limit,
        worker_idle_timeout=settings.worker_idle_timeout,
        worker_start_timeout=settings.worker_start_timeout,
        inner_threads=settings.inner_threads,
        grace=settings.grace,
        name=settings.name,
    )


def _after_fork_in_child() -> None:
    """Mark every engine of the parent as forked here, and close this process's copies of its descriptors."""
    global _cores_lock
    _cores_lock = threading.Lock()
    for core in list(_cores):
        core.scheduler.forked = True
        core.registry.lock = threading.RLock()  # another thread of the parent may have held it at the fork
        core.processes.forget_in_child()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork_in_child)
