"""Something that happens once, and that any event loop can wait for.

Guarantees
    Shared: ``_has_happened``, ``_futures``.  Guarded by: ``_lock``, held for one list operation; innermost.
    Callers: any thread for ``set``, any loop for ``wait``.
    A wake-up cannot be lost: a waiter is added in the step that found it had not happened, and ``set`` takes the whole
    list in the step that makes it happen.
"""

import asyncio
import threading

__all__ = ["Once"]


class Once:
    """An event for many loops that is never cleared."""

    __slots__ = ("_futures", "_has_happened", "_lock")

    def __init__(self) -> None:
        self._lock = threading.RLock()  # signal handlers and the collector may call us from inside
        self._has_happened = False
        self._futures: list[asyncio.Future[None]] = []

    def set(self) -> None:
        """Let everybody go who waits now or later. Idempotent; any thread."""
        with self._lock:
            self._has_happened = True
            futures, self._futures = self._futures, []
        for future in futures:
            loop = future.get_loop()
            if loop is asyncio._get_running_loop():
                _wake(future)
                continue
            try:
                loop.call_soon_threadsafe(_wake, future)
            except RuntimeError:  # its loop is closed, and nobody waits there any more
                pass

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait at most ``timeout`` seconds; say whether it has happened. Zero or less never suspends."""
        with self._lock:
            if self._has_happened:
                return True
            if timeout is not None and timeout <= 0:
                return False
            future = asyncio.get_running_loop().create_future()
            self._futures.append(future)
        try:
            await asyncio.wait([future], timeout=timeout)
        finally:
            with self._lock:
                if future in self._futures:
                    self._futures.remove(future)
                happened = self._has_happened
        return happened  # what happened by the deadline wins over the deadline


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
