"""The answer of a store, for coroutines and for threads alike.

Guarantees
    Shared: ``_value``, ``_error``, ``_waiters``.  Guarded by: ``_lock``, held for a few attribute operations.
    ``settle`` is called once, by the store; asking, on any thread and any loop, any number of times.
    A waiter is either told by ``_add`` that the answer is there, or is among those that ``settle`` returns to be woken.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from engine.testing import VirtualLoop

from .. import _checks
from .._latch import Latch

__all__ = ["Reply", "answers_here", "wake"]

T = TypeVar("T")
U = TypeVar("U")

#: Who waits: a coroutine by a future of its loop, or a thread.
Waiter = asyncio.Future[None] | Latch

#: Tells why an answer is late, of which so many seconds were given.
Late = Callable[[float], "Reply[str]"]

_PENDING = object()
_logger = logging.getLogger("engine.jobs")


_here = threading.local()


def answers_here() -> None:
    """Have no reply waited for on this thread, for it is the one that answers them."""
    _here.is_answering = True


class Reply(Generic[T]):
    """What a store answers: ``await`` it on a loop, or call ``result(timeout)`` on a thread that has none.

    What was asked is under way already: it is done whether anybody waits for it or not. A failure that nobody asked
    for is logged, unless ``is_wait``: it asked for nothing, so whoever has stopped waiting misses nothing. No virtual
    time passes while somebody awaits an answer, but in an ``is_wait``: that may be for a job which is not even due.
    """

    __slots__ = ("__weakref__", "_error", "_is_told", "_is_wait", "_lock", "_value", "_waiters")

    def __init__(self, *, is_wait: bool = False) -> None:
        self._lock = threading.Lock()
        self._value: Any = _PENDING
        self._error: BaseException | None = None
        self._waiters: dict[Waiter, None] = {}  # in their order
        self._is_wait = self._is_told = is_wait

    @classmethod
    def of(cls, value: U) -> Reply[U]:
        """Give a reply that is there already."""
        reply: Reply[U] = Reply()
        reply.settle(value)
        return reply

    @classmethod
    def failed(cls, error: BaseException) -> Reply[Any]:
        """Give a reply that has failed already."""
        reply: Reply[Any] = Reply()
        reply.settle(None, error)
        return reply

    def convert(self, fn: Callable[[T], U]) -> Reply[U]:
        """Give a reply that answers ``fn(answer)``; ``fn`` is called by whoever asks, each time, and must be pure."""
        return _Converted(self, fn)

    def within(self, timeout: float | None, late: Late | None = None) -> Reply[T]:
        """Give a reply that waits for this one for ``timeout`` seconds at most, each time that somebody asks.

        ``late`` gives the text of the TimeoutError, be it of this timeout or of that of ``result``.
        """
        if timeout is not None:
            timeout = _checks.seconds("timeout", timeout, zero=True)
        from ._reply_in_time import InTime  # which is a Reply itself

        return self if timeout is None and late is None else InTime(self, timeout, late)

    def done(self) -> bool:
        """Say whether the answer is there."""
        return self._value is not _PENDING

    def tell(self, listener: Callable[[], object]) -> bool:
        """Have ``listener()`` called once the answer is there, on the store's thread; False if it is there already."""
        return not self._add(_Listener(listener))

    def result(self, timeout: float | None = None) -> T:
        """Wait for the answer, at most ``timeout`` seconds, and return it, or raise what went wrong.

        Raises:
            TimeoutError: it did not come in time; what was asked goes on.
            RuntimeError: a loop runs on this thread, which the wait would hold up; await the reply there. Or this is
                the store's own thread (that of ``on_rescue``), which would wait for itself.
        """
        if timeout is not None:
            timeout = _checks.seconds("timeout", timeout, zero=True)
        if not self.done():
            if asyncio._get_running_loop() is not None:
                raise RuntimeError(
                    "expected a thread without a running loop to call result(), got one that runs; await the reply"
                )
            if getattr(_here, "is_answering", False):
                raise RuntimeError(
                    "expected result() to be called on a thread that answers nobody, got the store's own, which would "
                    "wait for itself; what was asked is done all the same, so do not ask for the answer there"
                )
            done = Latch()
            if not self._add(done) and not self._wait_for(done, timeout):
                raise TimeoutError(f"expected the store to answer within {timeout} s, got nothing yet; it goes on")
        try:
            return self._outcome()
        finally:
            del self  # or an error's traceback, through this frame, would hold the reply that holds the error

    def __await__(self) -> Generator[Any, None, T]:
        if not self.done():
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            if not self._add(future):
                try:
                    yield from future
                except BaseException:  # cancelled, say: whoever asks again and again must leave nothing behind
                    self._drop(future)
                    raise
        try:
            return self._outcome()
        finally:
            del self  # as in result

    def settle(self, value: Any, error: BaseException | None = None) -> list[Waiter]:
        """Record the answer, once; return whom to ``wake``."""
        with self._lock:
            self._error = error
            self._value = value
            waiters, self._waiters = self._waiters, {}
        return list(waiters)

    def _add(self, waiter: Waiter) -> bool:
        """Have ``waiter`` woken; True if there is nothing to wait for."""
        with self._lock:
            if self._value is not _PENDING:
                return True
            self._waiters[waiter] = None
        if not self._is_wait and isinstance(waiter, asyncio.Future):
            loop = waiter.get_loop()
            if isinstance(loop, VirtualLoop):
                loop.promise(waiter)
        return False

    def _wait_for(self, done: Latch, timeout: float | None) -> bool:
        is_there = False
        try:
            is_there = done.wait(timeout)
        finally:
            if not is_there:
                self._drop(done)
        return is_there

    def _drop(self, waiter: Waiter) -> None:
        """Wake ``waiter`` no more, if it was not yet."""
        with self._lock:
            self._waiters.pop(waiter, None)

    def _outcome(self) -> T:
        self._is_told = True
        if self._error is None:
            return self._value  # type: ignore[no-any-return]  # what the operation returned
        try:
            raise self._error
        finally:
            del self  # as in result

    def __del__(self) -> None:
        if self._error is not None and not self._is_told:
            _logger.error("nobody asked how it went: %s: %s", type(self._error).__name__, self._error)

    if not TYPE_CHECKING:  # a type checker says it by itself

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(
                f"expected the answer (a Job, say) to be asked for {name!r}, got a Reply that stands for it; await it, "
                "or call .result() on a thread without a loop", name=name,
            )  # fmt: skip

        def _is_no_answer(self, *_: Any) -> Any:
            raise TypeError(
                "expected the answer (a list, say) to be looked into, got a Reply that stands for it; await it, "
                "or call .result() on a thread without a loop"
            )

        __iter__ = __aiter__ = __len__ = __bool__ = __getitem__ = __contains__ = _is_no_answer

    def __repr__(self) -> str:
        state = "waiting" if not self.done() else "failed" if self._error is not None else "done"
        return f"<Reply {state}>"


class _Converted(Reply[U]):
    """The answer of another reply in another shape."""

    __slots__ = ("_fn", "_inner")

    def __init__(self, inner: Reply[T], fn: Callable[[T], U]) -> None:
        super().__init__()
        self._inner: Reply[Any] = inner
        self._fn: Callable[[Any], U] = fn

    def done(self) -> bool:
        return self._inner.done()

    def _add(self, waiter: Waiter) -> bool:
        return self._inner._add(waiter)

    def _drop(self, waiter: Waiter) -> None:
        self._inner._drop(waiter)

    def _outcome(self) -> U:
        try:
            return self._fn(self._inner._outcome())
        finally:
            del self  # as in result


class _Listener(Latch):
    """Who does not wait, but is called."""

    __slots__ = ("_listener",)

    def __init__(self, listener: Callable[[], object]) -> None:
        super().__init__()
        self._listener = listener

    def set(self, *_: object) -> None:
        self._listener()


def wake(waiters: Iterable[Waiter]) -> None:
    """Wake everybody, each loop once."""
    of_loops: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for waiter in waiters:
        if isinstance(waiter, Latch):
            waiter.set()
        else:
            of_loops.setdefault(waiter.get_loop(), []).append(waiter)
    for loop, futures in of_loops.items():
        try:
            loop.call_soon_threadsafe(_wake_on_loop, futures)
        except RuntimeError:  # the loop is closed: nobody waits there any more
            pass


def _wake_on_loop(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():  # cancelled meanwhile
            future.set_result(None)
