"""One running engine: its registry, scheduler and lanes, tied to its home loop.

Guarantees
    A core holds no Engine: who drops the last Engine lets go of it, and it ends when its work is done.
    ``let_go``, ``is_somebodys``, ``begin_exit``, ``wait_ended`` and ``abort`` may be called from any thread; ``let_go``
    also by the collector, so it takes no lock but a re-entrant one.
    Whoever closes the home loop under a running engine ends it: a timer that never fires holds ``_Watch``, and is
    dropped by ``loop.close``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import weakref
from collections.abc import AsyncGenerator, Callable
from math import inf
from typing import TYPE_CHECKING

from . import _exit, _sigint
from ._abort import abort
from ._lanes.base import Lane as LaneContract
from ._lanes.loop import LoopLane
from ._lanes.threads import ThreadLane
from ._limits import Slots
from ._mailbox import Mailbox
from ._registry import Registry
from ._scheduler import Scheduler
from ._settings import EngineSettings, exported_variables
from ._states import Lane
from ._stop import Stopper
from ._watchdog import watch

if TYPE_CHECKING:
    from ._lanes.processes import ProcessLane, ProcessSettings

__all__ = ["Core", "process_lane"]

_NEVER = 1e9  #: seconds; some thirty years
_EXIT_GRACE = 0.5  #: seconds between asking and killing at interpreter exit, whatever ``grace`` says

log = logging.getLogger("engine")


class Core:
    """What Engine, BlockingEngine and their views share while the engine runs."""

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        self.loop = asyncio.get_running_loop()
        self.stopper = Stopper(self)
        _sigint.guard.enter(self)
        try:
            self._assemble(settings)
        except BaseException:
            _sigint.guard.leave(self)
            raise

    def _assemble(self, settings: EngineSettings) -> None:
        home = Mailbox(self.loop)
        threads = settings.thread_slots
        slots = {
            Lane.LOOP: Slots(settings.coroutines),
            Lane.THREAD: Slots(threads, takers=12 * threads, spawnable=threads),
            Lane.PROCESS: Slots(None),
        }
        self.registry = Registry(max_pending=settings.max_pending, history=settings.history, slots=slots)
        self.scheduler = Scheduler(self.registry, home, exported_variables(settings.context))
        self.processes = process_lane(settings)(self.scheduler, home, _process_settings(settings))
        self.threads = ThreadLane(self.scheduler, home, settings.name)
        lanes: list[LaneContract] = [LoopLane(self.scheduler, home), self.threads, self.processes]
        for lane in lanes:
            self.scheduler.lanes[lane.name] = lane
            slots[lane.name].wake = lane.wake
        self.scheduler.admission.snapshot_function = self.processes.snapshot_function
        slots[Lane.THREAD].grow = self.threads.grow
        slots[Lane.PROCESS].floor, slots[Lane.PROCESS].overtake = inf, self.processes.overtake
        self._sizes = {Lane.LOOP: settings.coroutines, Lane.THREAD: threads}
        live = self.registry.live
        self.watch = watch(self.loop, settings.name, lambda: bool(live), self.processes.encoder.doing)
        self.owner = threading.current_thread()  #: who has the engine in its hands; see ``is_somebodys``
        self.shared: dict[object, int] = {}  #: sizes of the shared objects that are open; see ``_shared``
        self._tie: AsyncGenerator[None, None] | None = None
        _exit.register(self)

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
        self.scheduler.open_room()

    # -- the end ------------------------------------------------------------------------------------------------

    async def tie(self) -> None:
        """Have the engine stop at once when the loop shuts its asynchronous generators down, or is closed."""
        self._tie = self._until_the_loop_ends()
        await anext(self._tie)
        self.scheduler.keeper = self  # whoever holds a task keeps its engine
        self._end_of_loop = weakref.ref(self.loop.call_later(_NEVER, _Watch(self).look_away))
        self.stopper.ended.add_done_callback(self.untie)

    async def _until_the_loop_ends(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            if not self.stopper.ended.done() and not self.scheduler.forked:
                self.scheduler.is_leaving = True
                await self.stopper.stop(0, cancel_pending=False)

    def untie(self) -> None:
        """Let go of the loop, once the engine has ended."""
        self.scheduler.keeper = None
        timer = self._end_of_loop()
        if timer is not None and self.loop.is_running() and not self.scheduler.home.is_here():  # ended from elsewhere
            self.scheduler.later(timer.cancel)
        elif timer is not None:
            timer.cancel()
        tie, self._tie = self._tie, None
        if tie is not None and not tie.ag_running:  # type: ignore[attr-defined]  # typeshed leaves it to AsyncGeneratorType
            with contextlib.suppress(StopIteration, RuntimeError):  # it does not suspend, so it needs no loop
                tie.aclose().send(None)

    def ask_to_stop(self, timeout: float | None, cancel_pending: bool = False, *, grace: float | None = None) -> bool:
        """Have the home loop begin to stop. Any thread; takes no lock. False: the loop is closed."""
        begin = self.stopper.begin
        try:
            self.loop.call_soon_threadsafe(lambda: begin(timeout, cancel_pending, grace=grace))
        except RuntimeError:
            return False
        return True

    def let_go(self) -> None:
        """Have the engine finish what it accepted, then end: nobody has it any more. The collector may call this."""
        if self.stopper.ended.done() or self.scheduler.forked or self.scheduler.phase != "running":
            return
        _exit.keep(self)
        self.scheduler.later(self._finish_alone)

    def _finish_alone(self) -> None:
        log.debug("engine %s was dropped without a stop; it finishes its work", self.settings.name)
        self.stopper.begin(None)

    def forget(self) -> None:
        """Note that the engine has stopped."""
        self.watch.close()
        _exit.forget(self)
        _sigint.guard.leave(self)

    def hurry(self, then: Callable[[], object] | None) -> bool:
        """End by force, if a stop is under way, and call ``then``; False: there is none."""
        return self.stopper.hurry(then)

    # -- at exit and after a fork (``_exit.Living``)

    def is_somebodys(self) -> bool:
        """Say whether a thread has the engine in its hands that the interpreter waits for."""
        owner = self.owner
        return owner.is_alive() and not owner.daemon and owner is not threading.main_thread()

    def begin_exit(self, drain: float) -> None:
        """Refuse all; let what runs end within ``drain`` seconds, then force it."""
        self.scheduler.refusal = "interpreter shutdown"
        self.watch.close()  # that something is blocked now is no news: it is about to end
        self.stop_or_abort(drain, _EXIT_GRACE if drain else 0.0)

    def hurry_exit(self) -> None:
        """Force it at once. A signal handler calls, maybe in the middle of ``begin_exit``: it waits for nothing."""
        self.stop_or_abort(0, 0.0)

    def stop_or_abort(self, timeout: float, grace: float) -> None:
        """Begin to stop where the loop turns; end the engine by force where it does not."""
        self.scheduler.is_leaving = True
        if not self.loop.is_running() or not self.ask_to_stop(timeout, grace=grace):
            self.abort("the engine was stopped")

    def wait_ended(self, seconds: float) -> bool:
        """Wait until the engine has stopped."""
        return self.stopper.ended.wait(seconds)

    def abort(self, why: str) -> None:
        """End the engine here and now, without its loop."""
        abort(self, why)

    def forget_in_child(self) -> None:
        """In a forked child: mark it, and close this process's copies of its descriptors."""
        self.scheduler.forked = True
        _sigint.guard.leave(self)
        self.registry.lock = threading.RLock()  # another thread of the parent may have held it at the fork
        self.processes.forget_in_child()


class _Watch:
    """Notices that the home loop was closed: the loop drops its timers, and this with one of them."""

    def __init__(self, core: Core) -> None:
        self._core = weakref.ref(core)

    def look_away(self) -> None:
        """Be called never."""

    def __del__(self) -> None:
        core = self._core()
        if core is None or core.stopper.ended.done() or not core.loop.is_closed():
            return
        while not core.stopper.ended.done():
            try:
                abort(core, "the event loop of its engine was closed", is_collected=True)
            except KeyboardInterrupt:  # before it was held back: it would only be printed
                continue


def process_lane(settings: EngineSettings) -> type[ProcessLane]:
    """Import and return the lane of ``settings.backend``."""
    if settings.backend == "loky":  # loky's own parts: only where they are used
        from ._lanes.portable import PortableLane, end_first

        end_first(_exit.when_the_main_thread_is_done)
        return PortableLane
    from ._lanes._process.child import load_starter
    from ._lanes.processes import ProcessLane  # here: a third of the time of ``import engine`` is its

    with contextlib.suppress(ImportError, OSError):  # the start of a worker will say so
        load_starter()
    return ProcessLane


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
