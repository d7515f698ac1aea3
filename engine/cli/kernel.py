"""Checks of what the kernel can do, each by doing it."""

import errno
import mmap
import os
import signal
import socket
import subprocess
import sys
import time

from .findings import Finding, checks, good, lack
from .units import duration

__all__ = ["KERNEL_CHECKS", "LIFELINE_CHILD"]

_KERNEL = "use Linux 5.4 or later, and a sandbox (seccomp) that allows it"

#: Hangs its life on the pipe it inherits, as a worker does, says so, and then does nothing for ever.
LIFELINE_CHILD = """\
import fcntl, os, signal, sys, time
fd = int(sys.argv[1])
os.setsid()
fcntl.fcntl(fd, fcntl.F_SETOWN, -os.getpgid(0))
fcntl.fcntl(fd, getattr(fcntl, "F_SETSIG", 10), signal.SIGKILL)
fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)
os.write(1, b"ready")
while True:
    time.sleep(3600)
"""


@checks("memfd", _KERNEL)
def _memfd() -> Finding:
    fd = os.memfd_create("engine-doctor", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, mmap.PAGESIZE)
        with mmap.mmap(fd, mmap.PAGESIZE) as page:
            page[:4] = b"page"
    finally:
        os.close(fd)
    return good("memfd", "a page could be made and mapped")


@checks("pidfd", _KERNEL)
def _pidfd() -> Finding:
    fd = os.pidfd_open(os.getpid())
    try:
        signal.pidfd_send_signal(fd, 0)
        try:
            os.waitid(os.P_PIDFD, fd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:  # rightly: we are not our own child; a kernel without it says EINVAL
            pass
    except OSError as error:
        return lack("pidfd", f"{errno.errorcode.get(error.errno or 0)}: {error.strerror}", _KERNEL)
    finally:
        os.close(fd)
    return good("pidfd", "pidfd_open, pidfd_send_signal and waitid(P_PIDFD) work")


@checks("packet sockets", _KERNEL)
def _packets() -> Finding:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.send(b"one")
        ours.send(b"two")
        packets = [theirs.recv(16, socket.MSG_DONTWAIT) for _ in range(2)]
    if packets != [b"one", b"two"]:
        return lack("packet sockets", f"packets were not kept apart: {packets}", _KERNEL)
    return good("packet sockets", "SOCK_SEQPACKET keeps packets apart")


@checks("lifeline", _KERNEL)
def _lifeline() -> Finding:
    """Start a child whose life hangs on a pipe, close the pipe, and see the kernel kill it."""
    read, write = os.pipe()
    child = None
    try:
        command = [sys.executable, "-I", "-S", "-c", LIFELINE_CHILD, str(read)]
        child = subprocess.Popen(command, pass_fds=[read], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stderr is not None
        if child.stdout.read(5) != b"ready":
            last = child.stderr.read().decode(errors="replace").strip().rpartition("\n")[2]
            return lack("lifeline", f"F_SETSIG with O_ASYNC: {last}", _KERNEL)
        began = time.perf_counter()
        os.close(write)
        write = -1
        child.wait(5)
        seconds = time.perf_counter() - began
    except subprocess.TimeoutExpired:
        return lack("lifeline", "a process did not die with its pipe (F_SETSIG, O_ASYNC)", _KERNEL)
    finally:
        for fd in (read, write):
            if fd != -1:
                os.close(fd)
        if child is not None:
            child.kill()
            child.communicate()
    if child.returncode != -signal.SIGKILL:
        return lack("lifeline", f"the process ended with {child.returncode} instead of SIGKILL", _KERNEL)
    return good("lifeline", f"the kernel killed a process with its pipe, in {duration(seconds)}")


KERNEL_CHECKS = (_memfd, _pidfd, _packets, _lifeline)
