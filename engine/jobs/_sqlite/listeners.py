"""Who is told when something in the file may have changed.

Guarantees
    Shared: ``_listeners``.  Guarded by: ``_lock``, held for a few dict operations; listeners are called outside it.
    Callers: any thread. A listener may still be called once while ``stop`` returns on another thread.
"""

import itertools
import logging
import threading
from collections.abc import Callable

__all__ = ["Listeners"]

_logger = logging.getLogger("engine.jobs")


class Listeners:
    """The listeners of one store."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: dict[int, Callable[[], None]] = {}
        self._numbers = itertools.count()

    def __bool__(self) -> bool:
        return bool(self._listeners)

    def add(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have ``listener`` called; return how to stop it."""
        number = next(self._numbers)
        with self._lock:
            self._listeners[number] = listener

        def stop() -> None:
            with self._lock:
                self._listeners.pop(number, None)

        return stop

    def notify(self) -> None:
        """Call them all."""
        with self._lock:
            listeners = list(self._listeners.values())
        for listener in listeners:
            try:
                listener()
            except Exception:
                _logger.exception("a listener of a store failed")
