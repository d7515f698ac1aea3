"""Feeds workers: claims attempts, has them pickled, and sends them.

Guarantees
    Home loop only, but for ``take_unsent``. A claimed attempt is sent, ended, or given back; or it is with the
    ``LongPacker`` or in ``_packed``, whose attempts are unsent like any that was claimed: a recall marks them, and they
    are dropped in their turn. Not more than ``LONG_AT_ONCE`` long ones are held: a further one waits in the queue, and
    what is behind it too.
"""

import threading
from collections import deque
from collections.abc import Callable

from ..._mailbox import Mailbox
from ..._states import Lane
from ..._wire.frames import CHUNK
from ..._wire.pickling import TooLong
from ...errors import PickleError
from ..base import Attempt, Front, Outcome
from .encoder import Encoded, Encoder
from .functions import Functions
from .long_packer import LOOP_BYTES, LongPacker, Packing
from .settings import Counters
from .worker import OVER, Worker

__all__ = ["Feeder"]

LONG_AT_ONCE = 4


class Feeder:
    """What a worker is sent next."""

    def __init__(
        self,
        front: Front,
        home: Mailbox,
        functions: Functions,
        counters: Counters,
        claim_lock: threading.RLock,
        *,
        workers: Callable[[], tuple[Worker, ...]],
        pump: Callable[[], None],
        on_sent: Callable[[], None] | None,
        on_chunk: Callable[[], None],
    ) -> None:
        self.encoder = Encoder(functions, most=LOOP_BYTES)
        self._front = front
        self._home = home
        self._functions = functions
        self._counters = counters
        self._claim_lock = claim_lock
        self._workers = workers
        self._pump = pump
        self._on_sent = on_sent
        self._on_chunk = on_chunk
        self._long = LongPacker(functions, home, self._on_packed)
        self._long_count = 0  #: with the LongPacker, or packed by it and not sent
        self._is_full = False
        self._packed: deque[tuple[Attempt, Encoded]] = deque()

    def send_next(self, worker: Worker, most: int = 1, seconds: float = 0.0) -> int:
        """Claim attempts until one could be sent, and up to ``most`` of the same call with it; return how many were.

        Those behind the first only if all together are expected to take ``seconds`` or little more. 0: there is none,
        and the front, or ``pump``, will wake us.
        """
        while (following := self._next()) is not None:
            if self._functions.forgotten:
                forgotten = self._functions.take_forgotten()
                for each in self._workers():
                    each.forget_functions(forgotten)
            if worker.send(*following):
                if self._on_sent is not None:
                    self._on_sent()
                if following[1].flags & CHUNK:
                    self._on_chunk()
                more = most - 1
                if more and worker.last_cost > 0:
                    more = int(min(more, seconds / worker.last_cost))  # the latter is infinite if a worker says so
                return 1 + (self._send_like(worker, following[0], more) if more > 0 else 0)
        return 0

    def _send_like(self, worker: Worker, first: Attempt, most: int) -> int:
        """Send up to ``most`` attempts of the call of ``first``; return how many were."""
        attempts = self._front.claim_like(first, most)
        ready: list[tuple[Attempt, Encoded]] = []
        at = chunks = 0
        try:
            ready += self._encode_row(attempts)
            for at, attempt in enumerate(attempts[len(ready) :], len(ready)):
                try:
                    encoded = self.encoder.encode(attempt)
                except PickleError as error:
                    self._front.end(attempt, Outcome(error=error, retryable=False))
                except TooLong:
                    self._give_back_row(attempts[at + 1 :])
                    self._take_long(attempt)
                    break
                except BaseException:  # Ctrl-C, as in ``_next``
                    self._give_back_row(attempts[at:])
                    self._home.post(self._pump)
                    raise
                else:
                    if encoded is not None:
                        ready.append((attempt, encoded))
                        chunks |= encoded.flags & CHUNK
        finally:
            sent = worker.send_row(ready)
            if chunks:  # of a map, behind a task of its function or an item that travels by itself
                self._on_chunk()
        return sent

    def _encode_row(self, attempts: list[Attempt]) -> list[tuple[Attempt, Encoded]]:
        """Pickle the first ones of ``attempts`` together, as far as they are made for it."""
        try:
            return self.encoder.encode_row(attempts)
        except BaseException:  # Ctrl-C: their function may have been forgotten since the first was sent
            self._give_back_row(attempts)
            self._home.post(self._pump)
            raise

    def _give_back_row(self, attempts: list[Attempt]) -> None:
        for attempt in reversed(attempts):
            self.give_back_unsent(attempt)

    def waiting(self) -> int:
        """Count the attempts that are ready for a worker and are not in the queue any more."""
        return len(self._packed)

    def _next(self) -> tuple[Attempt, Encoded] | None:
        if self._packed:
            self._long_count -= 1
            self._is_full = False
            return self._packed.popleft()
        while not self._is_full and (attempt := self._front.claim(Lane.PROCESS)) is not None:
            try:
                encoded = self._encode(attempt)
            except PickleError as error:
                self._front.end(attempt, Outcome(error=error, retryable=False))
            except BaseException:  # Ctrl-C: the task waits as before, for a loop that may be run again
                self.give_back_unsent(attempt)
                self._home.post(self._pump)
                raise
            else:
                if encoded is not None:
                    return attempt, encoded
        return None

    def _encode(self, attempt: Attempt) -> Encoded | None:
        """Pickle ``attempt`` here, or have it pickled elsewhere if it is long. None: then, and if it was recalled."""
        try:
            return self.encoder.encode(attempt)
        except TooLong:
            self._take_long(attempt)
            return None

    def _take_long(self, attempt: Attempt) -> None:
        if self._long_count >= LONG_AT_ONCE:
            self._is_full = True
            self.give_back_unsent(attempt)
            return
        self._long_count += 1
        try:
            self._long.do(attempt)
        except BaseException:  # Ctrl-C, where it is pickled here after all
            self._long_count -= 1
            self.give_back_unsent(attempt)
            self._home.post(self._pump)
            raise

    def _on_packed(self, attempt: Attempt, packing: Packing) -> None:
        if isinstance(packing, Encoded) and attempt.lane_data is not OVER:
            self._packed.append((attempt, packing))
        else:
            self._long_count -= 1
            self._is_full = False
            if isinstance(packing, PickleError):
                self._front.end(attempt, Outcome(error=packing, retryable=False))
        self._pump()

    def take_unsent(self, attempt: Attempt) -> bool:
        """Take an attempt that is in no worker, unless another does so first. Any thread."""
        with self._claim_lock:
            is_unsent = attempt.lane_data is None
            if is_unsent:
                attempt.lane_data = OVER
            return is_unsent

    def give_back_unsent(self, attempt: Attempt) -> None:
        """Give back an attempt that is in no worker, unless it was recalled since it left one."""
        if self.take_unsent(attempt):
            self._counters.given_back += 1
            self._front.give_back(attempt)

    def give_back_packed(self) -> None:
        """Give back what is packed: no worker can be had for it."""
        while self._packed:
            self._long_count -= 1
            self.give_back_unsent(self._packed.pop()[0])
        self._is_full = False

    def abandon(self) -> None:
        """End without the loop, which will not turn again."""
        self._long.abandon()

    async def close(self, seconds: float) -> None:
        """Have the packing thread end; no attempt is in the lane."""
        await self._long.close(seconds)
