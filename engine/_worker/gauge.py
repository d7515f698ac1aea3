"""How much memory a worker holds, looked at by itself between its tasks; design/0007."""

import gc
import os
from collections.abc import Callable

from .._wire.page import StartPage
from .._wire.statm import private_bytes

__all__ = ["Gauge"]


class Gauge:
    """Compares what this process holds with the limit, and leaves word of it in the start page; 2 µs per task."""

    def __init__(self, limit: int, page: StartPage) -> None:
        self._limit = limit
        self._page = page
        try:
            self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # no /proc: nothing is measured, and the parent says so
            self._statm = -1
        self._trim: Callable[[int], object] | None = None  #: not known before it is needed
        page.weigh_fresh(self._measure())

    def is_over(self) -> bool:
        """Look, after a task; say whether more is held than may be, and not only as garbage."""
        size = self._measure()
        if size > self._limit:
            gc.collect()
            self._give_back()
            size = self._measure()
        self._page.weigh(size)
        return size > self._limit

    def _give_back(self) -> None:
        """Have the allocator return pages that it keeps free between blocks in use: they are no leak either."""
        if self._trim is None:
            self._trim = _trimmer()
        self._trim(0)

    def _measure(self) -> int:
        """Return the bytes held; 0 if that cannot be known."""
        try:
            return private_bytes(os.pread(self._statm, 128, 0)) or 0
        except OSError:  # a task has closed the descriptor
            return 0


def _trimmer() -> Callable[[int], object]:
    """Return glibc's ``malloc_trim``, or what does nothing where the allocator has no such thing."""
    try:
        import ctypes  # here, since few workers ever need its 2 MiB

        trim: Callable[[int], object] = ctypes.CDLL(None).malloc_trim
    except (ImportError, OSError, AttributeError):
        return lambda _: None
    return trim
