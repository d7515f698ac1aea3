"""Long arguments, pickled away from the loop: a thread that lets the others run after every piece.

What holds the loop is not the copying but the walk through nested Python objects, 10 to 20 ms per MB. How long a pickle
becomes is known when so much of it has been written; what is longer than ``LOOP_BYTES`` starts anew on this thread.

Guarantees
    ``do`` and ``close`` are for the home loop. The thread starts with the first job and ends with ``close``; what it
    has done is posted to the loop, in the order in which it was asked for. It breaks off what nobody wants any more.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

from ..._mailbox import Mailbox
from ...errors import PickleError
from ..base import Attempt
from .encoder import Encoded, Encoder
from .functions import Functions
from .worker import OVER

__all__ = ["LOOP_BYTES", "LongPacker", "Packing"]

LOOP_BYTES = 256 << 10  #: of a pickle, buffers apart: about 4 ms of nested objects

Packing = Encoded | PickleError | None  #: None: it is not wanted any more


class _Unwanted(Exception):
    """The attempt at hand was cancelled, or the lane is closed."""


class LongPacker:
    """Pickles one attempt after the other, and reports each through ``done``."""

    def __init__(self, functions: Functions, home: Mailbox, done: Callable[[Attempt, Packing], None]) -> None:
        self._encoder = Encoder(functions, between=self._let_others_run)
        self._home = home
        self._done = done
        self._queue: SimpleQueue[Attempt | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._at_hand: Attempt | None = None  #: written by the thread
        self._is_closed = False

    def do(self, attempt: Attempt) -> None:
        """Have ``attempt`` pickled. Where no thread can be had it is done here, and holds the loop."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="engine-long-packer", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # too many threads
                self._home.post(self._done, attempt, self._pack(attempt))
                return
            self._thread = thread
        self._queue.put(attempt)

    def _run(self) -> None:
        while (attempt := self._queue.get()) is not None:
            self._home.post(self._done, attempt, self._pack(attempt))
            del attempt  # or it is held until the next one comes

    def _pack(self, attempt: Attempt) -> Packing:
        self._at_hand = attempt
        try:
            return self._encoder.encode(attempt)
        except PickleError as error:
            return error
        finally:
            self._at_hand = None

    def _let_others_run(self) -> None:
        attempt = self._at_hand
        if self._is_closed or attempt is None or attempt.over or attempt.lane_data is OVER:
            raise _Unwanted
        time.sleep(0)

    def abandon(self) -> None:
        """Have the thread end as soon as it can; nobody waits for it."""
        self._is_closed = True
        self._queue.put(None)

    async def close(self, seconds: float) -> None:
        """End the thread; wait up to ``seconds``, as a ``__reduce__`` may take any time."""
        self.abandon()
        end = time.monotonic() + seconds
        while self._thread is not None and self._thread.is_alive() and time.monotonic() < end:  # noqa: ASYNC110  # a thread tells nobody that it has ended
            await asyncio.sleep(0.001)
