"""What the threads of a store have in common: a queue, a connection, a pause for forks, an end.

Guarantees
    Shared: ``_queue``, a SimpleQueue: C, with a lock of its own; signal handlers and the collector may put into it.
    All else with an underscore is the thread's, but ``_is_over``, ``_wait_until`` and ``_is_wanted``, which others look
    at or set.

    No wake-up is lost: whoever wants something of the thread puts it into the queue, and the thread sleeps nowhere but
    in ``get``, which returns at once if there is anything. There is no flag to be set between a look and a sleep.

    No answer is lost: at its end the thread sets ``_is_over``, then refuses what is left in the queue. Who puts
    something in looks at ``_is_over`` afterwards, and refuses what is left itself. Either its put came before the
    thread's last look, or its own look comes after ``_is_over`` was set; ``get_nowait`` gives an item to one of them.
"""

from __future__ import annotations

import abc
import contextlib
import logging
import math
import queue
import threading
import time
from typing import Any

from .._reply import answers_here, wake
from ..errors import StoreClosed
from .connection import Database
from .pause import Pause

__all__ = ["DatabaseThread", "Stop"]

_logger = logging.getLogger("engine.jobs")


class Stop:
    """Ask a thread to end: when it has done what waits, or at ``deadline`` on the monotonic clock."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline


class DatabaseThread(abc.ABC):
    """A thread with a connection, which does what is put into its queue."""

    def __init__(self, name: str, database: Database) -> None:
        self._database = database
        self._path = database.path
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._is_over = False
        self._wait_until = math.inf  #: on the monotonic clock; to then it may wait for other processes
        self._is_wanted = False  #: somebody is about to fork
        self._deadline = math.inf
        self._thread = threading.Thread(target=self._run, name=f"engine-jobs-{name} {self._path}", daemon=True)

    # -- any thread

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop_soon(self, seconds: float = 0.0) -> None:
        """Ask it to end within about ``seconds``. Signal handlers and the collector may call."""
        deadline = time.monotonic() + seconds
        self._wait_until = min(self._wait_until, deadline)
        self._queue.put(Stop(deadline))

    def is_current(self) -> bool:
        """Say whether this is the thread."""
        return self._thread is threading.current_thread()

    def join(self, seconds: float) -> bool:
        """Wait for its end; False if that does not come within ``seconds``, or never could on this thread."""
        if not self.is_current():
            self._thread.join(max(0.0, seconds))
        return not self._thread.is_alive()

    def pause(self, seconds: float) -> Pause | None:
        """Have it close its connection; None if that takes longer than ``seconds``."""
        pause = Pause()
        if self.is_current():
            return None
        if not self._thread.is_alive():
            return pause
        self._is_wanted = True
        self._queue.put(pause)
        if not pause.reached.wait(seconds):
            pause.over.set()
        self._is_wanted = False
        return pause if pause.reached.is_set() else None

    def _put(self, item: Any) -> None:
        self._queue.put(item)
        if self._is_over:
            self._refuse_rest()

    def _refuse_rest(self) -> None:
        """Answer all that is left that it comes too late."""
        waiters = []
        with contextlib.suppress(queue.Empty):
            while True:
                item = self._queue.get_nowait()
                if isinstance(item, Pause):
                    item.reached.set()  # there is no connection any more
                elif (reply := getattr(item, "reply", None)) is not None:
                    waiters += reply.settle(None, closed(self._path))
        wake(waiters)

    # -- the thread

    def _run(self) -> None:
        answers_here()
        try:
            self._work()
        except BaseException:
            _logger.exception("a thread of the store %s failed", self._path)
        finally:
            self._close()
            self._end()
            self._is_over = True
            self._refuse_rest()

    @abc.abstractmethod
    def _work(self) -> None:
        """Do what is in the queue until asked to stop."""

    @abc.abstractmethod
    def _close(self) -> None:
        """Close the connection."""

    @abc.abstractmethod
    def _end(self) -> None:
        """Answer what was taken from the queue and not done."""

    def _may_wait(self) -> bool:
        """Say whether it may go on waiting for another process."""
        return not self._is_wanted and time.monotonic() < self._wait_until

    def _wait_out(self, pause: Pause) -> None:
        if pause.over.is_set():
            return
        self._close()
        pause.reached.set()
        pause.over.wait()


def closed(path: str) -> StoreClosed:
    """Build the error for whoever comes after ``close``."""
    return StoreClosed(f"expected an open store, got {path} after close(); make a new one", path=path)
