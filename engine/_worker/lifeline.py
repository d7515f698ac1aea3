"""The worker's life hangs on a pipe: when the parent ends, for whatever reason, the kernel kills the whole group.

Also with the GIL held in C code, or while stopped. ``PR_SET_PDEATHSIG`` would not do: it fires when the parent's
starting *thread* ends.
"""

import fcntl
import os
import select
import signal

__all__ = ["hang_on"]

F_SETSIG = getattr(fcntl, "F_SETSIG", 10)  # Linux; named in the fcntl module only where it was there at build time


def hang_on(fd: int) -> None:
    """Become the leader of a session and group that the kernel kills as soon as ``fd`` is readable or hung up."""
    os.setsid()
    fcntl.fcntl(fd, fcntl.F_SETOWN, -os.getpgid(0))
    fcntl.fcntl(fd, F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    if poll.poll(0):  # the parent ended, or wants us dead, before we were set up: no signal will tell
        os.killpg(0, signal.SIGKILL)
