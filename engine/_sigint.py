"""Keeps KeyboardInterrupt out of what must not be left half done: a few steps of ours, and the event loop.

Python raises it between any two bytecodes of the main thread, and whoever presses Ctrl-C twice meets our own code, or
asyncio's, sooner or later. Blocking the signal would not help: the kernel gives it to another thread, and Python raises
it in the main one all the same. So the handler is exchanged: by ``deferred`` for a few rare and heavy steps (2 µs
each: starting a process, ending an engine by force), by ``guard`` for as long as an engine runs on a loop of the main
thread. The hot paths of blocking programs mend themselves (``design/0005-stopping.md``).

Guarantees
    Only the main thread exchanges the handler, and only one that Python code has set: handlers of event loops
    (``add_signal_handler``) raise nothing and stay. Sections nest. Callers: any thread.
"""

import asyncio
import contextlib
import functools
import inspect
import opcode
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import CodeType, FrameType
from typing import Any, Protocol

from ._clock import now

__all__ = ["Guarded", "came_by_signal", "deferred", "guard"]

PATIENCE = 1.0  #: seconds that a loop has to take up a Ctrl-C; one that it does not turn for is raised on the spot
_RAISE = opcode.opmap["RAISE_VARARGS"]


@contextlib.contextmanager
def deferred(*, is_dropped: bool = False) -> Iterator[None]:
    """Hold Ctrl-C back until the block is left; then it does what it would have done, or is dropped: what a
    ``__del__`` raises is only printed.
    """
    before = signal.getsignal(signal.SIGINT)
    is_ours = isinstance(before, _Keeper) or getattr(before, "__module__", "").startswith(("asyncio.unix", "uvloop"))
    if not callable(before) or is_ours or threading.current_thread() is not threading.main_thread():
        yield
        return
    keeper = _Keeper()
    signal.signal(signal.SIGINT, keeper)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        guard.tidy()  # the last engine may have ended in the block
        if keeper.pressed and not is_dropped:
            before(signal.SIGINT, keeper.frame)


class _Keeper:
    """The handler meanwhile."""

    def __init__(self) -> None:
        self.pressed = False
        self.frame: FrameType | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.pressed, self.frame = True, frame


def came_by_signal(error: BaseException) -> bool:
    """Say whether ``error``, caught around user code, is what a signal's handler raised rather than that code.

    Such an error is the program's: Ctrl-C, or a handler for SIGTERM that calls ``sys.exit``. Python's own handler
    breaks in at any instruction, but at no ``raise``; asyncio's, and those that the user has set, raise in a frame of
    their own.
    """
    trace = error.__traceback__
    if isinstance(error, Exception) or trace is None or threading.current_thread() is not threading.main_thread():
        return False
    handlers = {_code_of(signal.getsignal(number)) for number in signal.valid_signals()} - {None}
    while True:
        code = trace.tb_frame.f_code
        if code in handlers:
            return True
        if trace.tb_next is None:
            break
        trace = trace.tb_next
    if not isinstance(error, KeyboardInterrupt):
        return False
    return code.co_name == "_on_sigint" or code.co_code[trace.tb_lasti] != _RAISE


def _code_of(handler: Any) -> CodeType | None:
    """Return the code that ``handler`` runs, if it is of Python: a function, a method, a partial or a callable."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    if not callable(handler):  # SIG_DFL, SIG_IGN, or one that C code has set
        return None
    code = getattr(handler, "__code__", None)  # a method hands on its function's
    if code is None:
        code = getattr(inspect.getattr_static(type(handler), "__call__", None), "__code__", None)
    return code if isinstance(code, CodeType) else None


# -- a loop and what it runs ----------------------------------------------------------------------------------------


class Guarded(Protocol):
    """What a running engine lets itself be told here."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Give its home loop."""

    def hurry(self, then: Callable[[], object] | None) -> bool:
        """End by force, if a stop is under way, and call ``then``; False: there is none."""


class Guard:
    """The handler of Ctrl-C while engines run on loops of the main thread; see ``design/0005-stopping.md``.

    In the user's own code KeyboardInterrupt is raised where it stands, as ever. In asyncio's and ours it is raised by a
    callback of its own: otherwise a callback that the loop has already taken from its queue is lost, and who waits for
    it waits for ever. A further one while an engine stops ends that engine by force.
    """

    def __init__(self) -> None:
        self._engines: list[Guarded] = []
        self._before: Any = signal.default_int_handler
        self._asked: float | None = None  #: when a Ctrl-C was handed to the loop that it has not taken up
        self._is_due = False  #: and it is to be raised
        self._is_leaving = False  #: one was raised: the program is on its way out

    def enter(self, engine: Guarded) -> None:
        """Guard the loop of ``engine``, whose thread calls; in other threads nothing is raised anyway."""
        if threading.current_thread() is not threading.main_thread():
            return
        handler = signal.getsignal(signal.SIGINT)
        if handler is not self:
            if handler is not signal.default_int_handler and not _is_runners(handler):
                return  # the program does something of its own
            self._before, self._asked, self._is_due, self._is_leaving = handler, None, False, False
            signal.signal(signal.SIGINT, self)
        self._engines.append(engine)

    def leave(self, engine: Guarded) -> None:
        """Guard it no longer. Any thread; in another than the main one the handler stays, and hands on."""
        if engine in self._engines:
            self._engines.remove(engine)
        self.tidy()

    def tidy(self) -> None:
        """Put the handler back that was there, if no loop is guarded any more."""
        is_main = threading.current_thread() is threading.main_thread()
        handler: object = signal.getsignal(signal.SIGINT)
        if is_main and not self._engines and handler is self:
            signal.signal(signal.SIGINT, signal.default_int_handler if _is_over(self._before) else self._before)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.tidy()  # a program may have put us back after the end of our engines
        where = _place(frame)
        loop = asyncio._get_running_loop() or self._loop_to_come(where)
        is_deaf = self._asked is not None and now() - self._asked > PATIENCE
        if loop is None or is_deaf or where == "user's":
            self._asked, self._is_due, self._is_leaving = None, False, True
            if where != "in __del__":  # there it would only be printed
                self._before(number, frame)
            return
        if self._asked is None:
            self._asked = now()
        try:
            self._before(number, frame)
        except KeyboardInterrupt:
            self._is_due = True
            self._hand_over(loop, self._take_up)
        else:  # the first one under a Runner
            self._hand_over(loop, self._hear)

    def _hand_over(self, loop: asyncio.AbstractEventLoop, call: Callable[[asyncio.AbstractEventLoop], None]) -> None:
        with contextlib.suppress(RuntimeError):  # closed meanwhile: the program is on its way out
            loop.call_soon_threadsafe(call, loop)

    def _hear(self, loop: asyncio.AbstractEventLoop) -> None:
        """Note that the loop turns."""
        if not self._is_due:
            self._asked = None

    def _loop_to_come(self, where: str) -> asyncio.AbstractEventLoop | None:
        """Return a loop that asyncio is about to run once more, to clean up after a Ctrl-C that was raised."""
        if self._is_leaving and where == "asyncio's":
            return next((engine.loop for engine in self._engines if not engine.loop.is_closed()), None)
        return None

    def _take_up(self, loop: asyncio.AbstractEventLoop) -> None:
        """Do what the Ctrl-C asks for, where nothing is half done."""
        if not self._is_due:  # one of several, and another one did it
            return
        is_first = self._before is signal.default_int_handler  # nothing has told the program yet: it is told afterwards
        again = functools.partial(self._hand_over, loop, self._take_up) if is_first else None
        for engine in self._engines:
            if engine.loop is loop and engine.hurry(again):
                if not is_first:  # the first one has cancelled the program's task, which waits for this stop
                    self._asked, self._is_due = None, False
                return
        self._asked, self._is_due, self._is_leaving = None, False, True
        raise KeyboardInterrupt


guard = Guard()  #: the one of this process


def _is_runners(handler: Any) -> bool:
    """Say whether it is asyncio.Runner's: its first call cancels the main task, further ones raise."""
    method = handler.func if isinstance(handler, functools.partial) else None
    return isinstance(getattr(method, "__self__", None), asyncio.Runner)


def _is_over(handler: Any) -> bool:
    """Say whether it belongs to a ``Runner.run`` that has returned meanwhile, and could not take it back."""
    if not _is_runners(handler):
        return False
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code is asyncio.Runner.run.__code__ and frame.f_locals.get("self") is handler.func.__self__:
            return False
        frame = frame.f_back
    return True


def _place(frame: FrameType | None) -> str:
    """Say whose code ``frame`` is: "user's", "asyncio's", "ours", or "in __del__" of ours.

    The standard library's is its caller's. A thread that waits for an engine (``_latch``) does so in the user's code:
    no loop turns meanwhile.
    """
    place = ""
    while frame is not None and place in ("", "ours"):
        name = str(frame.f_globals.get("__name__") or "")  # whatever a program has made of it
        top = name.partition(".")[0]
        is_ours = top == __package__
        if is_ours and frame.f_code.co_name == "__del__":
            return "in __del__"
        if not place:
            if is_ours:
                place = "user's" if name == f"{__package__}._latch" else "ours"
            elif top == "asyncio":
                place = "asyncio's"
            elif top not in sys.stdlib_module_names and not top.startswith("namedtuple_"):
                place = "user's"
        frame = frame.f_back
    return place or "user's"
