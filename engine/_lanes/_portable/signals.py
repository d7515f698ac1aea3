"""Signals that must not reach what is done around a worker over loky.

A write to a dead worker sends SIGPIPE to the thread that writes. A program that has set it to its default, as command
lines do, would end; with the signal blocked in that thread the write raises BrokenPipeError alone.

Guarantees
    ``keep_away`` is for a thread of ours: loky's threads, which it starts, inherit what is blocked. ``unbroken`` may be
    used on any thread, and leaves its mask as it was. Both do nothing on Windows.
"""

import contextlib
import signal
import sys
from collections.abc import Iterator

__all__ = ["keep_away", "unbroken"]


def keep_away() -> None:
    """Block SIGPIPE in this thread, and SIGINT: the process to come starts with it blocked, until it ignores it.

    loky's tracker processes are started first: their start unblocks SIGINT in this thread.
    """
    from loky.backend import resource_tracker

    resource_tracker.ensure_running()
    if sys.platform != "win32":
        from multiprocessing import resource_tracker as standard_tracker

        standard_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGPIPE})


@contextlib.contextmanager
def unbroken() -> Iterator[None]:
    """Have a write to a dead worker raise BrokenPipeError and nothing else."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})
        yield
    except BrokenPipeError:
        if signal.SIGPIPE not in before and signal.SIGPIPE in signal.sigpending():
            signal.sigwait({signal.SIGPIPE})
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
