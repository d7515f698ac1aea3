"""Notices that an engine's home loop does not turn, and says in the log what holds it.

One thread for all engines of the process: it lives while an engine runs. Four times a second it asks each loop whose
engine has live tasks to answer; one that has not for a second is reported with the stack of its thread, again
after 2, 4, 8 ... seconds, and once more when it turns again.

Guarantees
    Shared: the watches and the thread, guarded by ``_changed``; what a watch remembers, guarded by its ``_lock``. Both
    are re-entrant (design/0002), held for a few assignments, never across a log call, and do not nest.
    Callers: ``watch`` and ``LoopWatch.close`` any thread; ``_look`` the watchdog's thread; ``_answer`` the loop.
    A watch holds no engine, and the thread no watch while it sleeps: an engine that nobody stops can be collected.
    When the watchdog itself comes late, C code held the GIL, and is reported, or the process was stopped (SIGSTOP, a
    laptop's lid), which is nobody's fault. Processor time tells the two apart, on a busy machine with how often it
    was taken away, so C code that *sleeps* with the GIL held goes unnoticed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable
from types import FrameType

if sys.platform != "win32":
    import resource

__all__ = ["LoopWatch", "watch"]

log = logging.getLogger("engine.watchdog")

LOOK_EVERY = 0.25  #: seconds
BLOCKED_AFTER = 1.0  #: seconds without an answer that are worth a word
_BUSY = 0.5  # share of processor time from which on a process that stood still was computing, not stopped
_CONTENDED = 0.1  # the same share on a busy machine, if it was also
_PREEMPTIONS = 10  # times a second put off its processor: that never happens to who is stopped

_REMEDY_FOR_ARGUMENTS = "send less, such as a path, or what is quick to pickle, such as arrays and bytes"
_REMEDY = "use lane='thread' for what blocks and lane='process' for what computes"


class LoopWatch:
    """What is known of one loop: whether it owes an answer, and how long it was blocked so far."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, name: str, has_work: Callable[[], bool], doing: Callable[[], str]
    ) -> None:
        self.stalls = 0  #: how often the loop did not turn for longer than BLOCKED_AFTER
        self.longest_stall = 0.0  #: seconds
        self._loop = loop
        self._name = name
        self._has_work = has_work
        self._doing = doing
        self._lock = threading.RLock()
        self._thread_id = threading.get_ident()  #: the loop's
        self._asked_at: float | None = None  #: monotonic; None: it owes nothing
        self._next_word = 0.0  #: monotonic; when it is worth a word again

    def close(self) -> None:
        """Watch no more, and end the thread if this was the last loop."""
        thread = _forget(self)
        if thread is not None and thread is not threading.current_thread():
            thread.join(0.5)

    @property
    def blocked_for(self) -> float:
        """Give the seconds for which the loop has owed an answer; 0.0 if it turns. Any thread."""
        with self._lock:
            return 0.0 if self._asked_at is None else time.monotonic() - self._asked_at

    def _look(self) -> None:
        """Ask the loop if it turns, or speak if it has owed the answer for long."""
        now, seconds, thread_id = time.monotonic(), 0.0, 0
        with self._lock:
            must_ask = self._asked_at is None and self._loop.is_running() and self._has_work()
            if must_ask:
                self._asked_at, self._next_word = now, now + BLOCKED_AFTER
            elif self._asked_at is not None and now >= self._next_word and self._loop.is_running():
                seconds = now - self._asked_at
                self._next_word = self._asked_at + 2 * seconds
                thread_id = self._thread_id
        if must_ask:
            self._ask()
        elif seconds:
            self._speak(seconds, sys._current_frames().get(thread_id))

    def _ask(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._answer)
        except RuntimeError:  # it was closed this instant
            with self._lock:
                self._asked_at = None

    def _answer(self) -> None:
        """Note that the loop turns."""
        with self._lock:
            if self._asked_at is None:
                return
            seconds = time.monotonic() - self._asked_at
            was_told = self._next_word > self._asked_at + BLOCKED_AFTER
            self._asked_at = None
            self._thread_id = threading.get_ident()
            if was_told:
                self._count(seconds)
        if was_told:
            log.warning("the event loop of engine %r turns again; it was blocked for %.1f s", self._name, seconds)

    def _count(self, seconds: float) -> None:
        self.stalls += 1
        self.longest_stall = max(self.longest_stall, seconds)

    def _stood_still(self, seconds: float, *, was_computing: bool) -> None:
        """Start anew: not even the watchdog could run so long. Speak, unless the whole process was stopped."""
        with self._lock:
            if self._asked_at is not None:
                self._asked_at = time.monotonic()
                self._next_word = self._asked_at + BLOCKED_AFTER
            is_stall = was_computing and self._has_work()
            if is_stall:
                self._count(seconds)
        if is_stall:
            log.warning(
                "the event loop of engine %r was blocked for %.1f s by C code that held the GIL, %s: no stack could be "
                "taken; meanwhile nothing was dispatched, timed out or killed: %s",
                self._name, seconds, self._doing() or "in some thread", self._remedy(),
            )  # fmt: skip

    def _speak(self, seconds: float, frame: FrameType | None) -> None:
        stack = "".join(traceback.format_stack(frame)) if frame is not None else "  (its thread has no stack)\n"
        log.warning(
            "the event loop of engine %r has been blocked for %.1f s%s; meanwhile nothing is dispatched, timed out or "
            "killed: %s. It is at:\n%s", self._name, seconds, self._culprit(), self._remedy(), stack,
        )  # fmt: skip

    def _remedy(self) -> str:
        return _REMEDY_FOR_ARGUMENTS if self._doing() else _REMEDY

    def _culprit(self) -> str:
        doing = self._doing()
        if doing:
            return f" by {doing}"
        try:
            task = asyncio.current_task(self._loop)
        except RuntimeError:  # a version of asyncio that answers its own thread only
            task = None
        return f" by asyncio task {task.get_name()!r}" if task is not None else ""


_changed = threading.Condition(threading.RLock())
_watches: weakref.WeakSet[LoopWatch] = weakref.WeakSet()
_thread: threading.Thread | None = None


def watch(
    loop: asyncio.AbstractEventLoop, name: str, has_work: Callable[[], bool], doing: Callable[[], str] = str
) -> LoopWatch:
    """Watch ``loop``, whose thread this is, while ``has_work()`` and until the watch is closed or dropped.

    ``doing`` says what the engine itself does with the loop just then that may take long, empty for nothing.
    """
    global _thread
    new = LoopWatch(loop, name, has_work, doing)
    with _changed:
        _watches.add(new)
        if _thread is not None:
            return new
        _thread = thread = threading.Thread(target=_run, name="engine-watchdog", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:  # no thread to be had; an engine works without being watched
        with _changed:
            _thread = None
        log.warning("the event loop of engine %r is not watched: %s", name, error)
    return new


def _forget(old: LoopWatch) -> threading.Thread | None:
    """Take ``old`` out; return the thread if it has nothing left to watch."""
    with _changed:
        _watches.discard(old)
        if _watches:
            return None
        _changed.notify_all()
        return _thread


def _run() -> None:
    """Look at every loop, again and again, until there is none."""
    global _thread
    while True:
        slept_at, effort = time.monotonic(), _effort()
        with _changed:
            if not _watches:
                _thread = None
                return
            _changed.wait(LOOK_EVERY)
            watches = list(_watches)
        late = time.monotonic() - slept_at - LOOK_EVERY
        _look_at(watches, late, was_computing=_was_computing(effort, late))
        del watches  # or they would live on while this thread sleeps


def _effort() -> tuple[float, int]:
    """Return the processor time of this process, and how often it had to give a processor up to somebody else."""
    switches = 0 if sys.platform == "win32" else resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
    return time.process_time(), switches


def _was_computing(before: tuple[float, int], late: float) -> bool:
    """Say whether this process computed for most of ``late`` seconds, or would have, had others let it."""
    seconds, switches = (now - then for now, then in zip(_effort(), before, strict=True))
    return seconds > _BUSY * late or (seconds > _CONTENDED * late and switches > _PREEMPTIONS * late)


def _look_at(watches: list[LoopWatch], late: float, *, was_computing: bool) -> None:
    for each in watches:
        try:
            if late > BLOCKED_AFTER:
                each._stood_still(late, was_computing=was_computing)
            each._look()
        except Exception:  # a handler of logging that raises must not end the watch over the others
            log.exception("the watchdog failed")


def _after_fork_in_child() -> None:
    global _changed, _thread
    _changed, _thread = threading.Condition(threading.RLock()), None
    _watches.clear()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork_in_child)
