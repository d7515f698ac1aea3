"""Keeps KeyboardInterrupt out of a few steps that must not be left half done.

Python raises it between any two bytecodes of the main thread, and whoever presses Ctrl-C twice meets our own code
sooner or later. Blocking the signal would not help: the kernel gives it to another thread, and Python raises it in the
main one all the same. So the handler is exchanged for the time. It costs about 2 µs, so this is for rare and
heavy steps: starting a process, ending an engine by force. The hot ones mend themselves (``design/0005-stopping.md``).

Guarantees
    Only the main thread exchanges the handler, and only one that Python code has set: handlers of event loops
    (``add_signal_handler``) raise nothing and stay. Sections nest. Callers: any thread.
"""

import contextlib
import opcode
import signal
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["deferred", "is_ctrl_c"]

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
        if keeper.pressed and not is_dropped:
            before(signal.SIGINT, keeper.frame)


class _Keeper:
    """The handler meanwhile."""

    def __init__(self) -> None:
        self.pressed = False
        self.frame: FrameType | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.pressed, self.frame = True, frame


def is_ctrl_c(error: BaseException) -> bool:
    """Say whether ``error``, caught around user code, is the user's Ctrl-C rather than raised by that code.

    Python's handler breaks in at any instruction, but at no ``raise``; asyncio's, and one that the user has set, raise
    in a frame of their own.
    """
    trace = error.__traceback__
    if not isinstance(error, KeyboardInterrupt) or trace is None:
        return False
    if threading.current_thread() is not threading.main_thread():
        return False
    handler = getattr(signal.getsignal(signal.SIGINT), "__code__", None)
    while trace.tb_next is not None:
        if trace.tb_frame.f_code is handler:
            return True
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    if code is handler:
        return True
    return code.co_name == "_on_sigint" or code.co_code[trace.tb_lasti] != _RAISE
