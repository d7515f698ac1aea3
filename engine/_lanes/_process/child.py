"""One child process and the descriptors that tie it to us.

Guarantees
    The parent's ends are close-on-exec and, once the child is started, not inheritable. ``kill`` reaches the child's
    whole group by kernel identity: through the lifeline (its SIGKILL goes to the group that was registered) and the
    pidfd; no pid is ever used for it, so a reused one cannot be hit. The owner serialises ``kill`` with ``close``.
    A start that fails half-way leaves nothing: no descriptor, no process, no zombie.
"""

import contextlib
import functools
import importlib.util
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from typing import Any

from ..._system import interpreter
from ..._wire.page import PAGE_BYTES, StartPage

__all__ = ["Child", "ExitStatus", "collect_setup", "is_pidfd_of", "load_starter"]

_GROUP = 4  # PIDFD_SIGNAL_PROCESS_GROUP, Linux 6.9
_GET_INFO = 0xC040FF0B  # PIDFD_GET_INFO for the 64 bytes of struct pidfd_info, Linux 6.13
_INFO = struct.Struct("<Q 52x i")  # what was asked for and is known; the wait status at the end
_INFO_EXIT = 8  # PIDFD_INFO_EXIT, Linux 6.15: the status, also of a process that was reaped

_BOOT = """\
import os, sys
sys.path[:] = [each for each in sys.path if each]
while (null := os.open(os.devnull, os.O_RDWR)) <= 2: os.set_inheritable(null, True)
os.dup2({err}, 2); os.close({err})
os.dup2(null, 0); os.close(null)
sys.path.insert(0, {root!r})
import engine
del sys.path[0]
from engine._worker.main import main
main({life}, {tasks}, {stream}, {control}, {page})
"""

ExitStatus = tuple[int | None, str | None]  #: exit code or None, signal name or None; both None: nobody knows


class Child:
    """A started process: its pid, our ends of its sockets, its start page, its lifeline."""

    def __init__(self, env: dict[str, str]) -> None:
        self._descriptors: list[int] = []
        self._sockets: list[socket.socket] = []
        self.page: StartPage | None = None
        self.pid = 0
        self.pidfd = -1
        try:
            self._open()
            self._start(env)
        except BaseException:  # EMFILE, say; after the fork too
            self.discard()
            raise

    def _open(self) -> None:
        self.tasks, self.kept = self._pair(socket.SOCK_SEQPACKET)  #: ``kept`` is the worker's end; we recall from it
        self.stream, self._stream_end = self._pair(socket.SOCK_STREAM)
        self.control, self._control_end = self._pair(socket.SOCK_SEQPACKET)
        self._life_read, self._life_write = self._pipe()
        self.stderr, self._stderr_end = self._pipe()
        os.set_blocking(self.stderr, False)
        self._memory = os.memfd_create("engine-start-page", os.MFD_CLOEXEC)
        self._descriptors.append(self._memory)
        os.ftruncate(self._memory, PAGE_BYTES)
        self.page = StartPage(self._memory)

    def _pair(self, kind: int) -> tuple[socket.socket, socket.socket]:
        ends = socket.socketpair(socket.AF_UNIX, kind)
        self._sockets.extend(ends)
        return ends

    def _pipe(self) -> tuple[int, int]:
        ends = os.pipe()
        self._descriptors.extend(ends)
        return ends

    def _start(self, env: dict[str, str]) -> None:
        fork_exec = load_starter()
        stream, control = self._stream_end.fileno(), self._control_end.fileno()
        passed = {self._life_read, self.kept.fileno(), stream, control, self._memory, self._stderr_end}
        boot = _BOOT.format(
            err=self._stderr_end, root=_package_root(), life=self._life_read, tasks=self.kept.fileno(),
            stream=stream, control=control, page=self._memory,
        )  # fmt: skip
        command = [interpreter(), *subprocess._args_from_interpreter_flags(), "-c", boot]  # type: ignore[attr-defined]  # what multiprocessing uses too
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # until the child ignores it
        try:
            self.pid = fork_exec(command, passed, env=env)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            for fd in passed:
                os.set_inheritable(fd, False)
        self._open_pidfd()
        _expect_child(self.pidfd)
        self._stream_end.close()
        self._control_end.close()
        for fd in (self._stderr_end, self._memory):
            self._close_fd(fd)

    def _open_pidfd(self) -> None:
        self.pidfd = os.pidfd_open(self.pid)
        self._descriptors.append(self.pidfd)

    def adopt_pidfd(self, fd: int) -> None:
        """Use the worker's own pidfd from here on: it names that process for certain."""
        old, self.pidfd = self.pidfd, fd
        self._descriptors.append(fd)
        self._close_fd(old)

    def kill(self) -> None:
        """Kill the worker and its process group, whatever it does. Never blocks."""
        try:
            os.write(self._life_write, b"x")
        except OSError:  # already done, or already gone
            pass
        for flags in (_GROUP, 0):
            try:
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL, None, flags)
                return
            except OSError:  # a kernel without the flag, or no such process
                continue

    def has_ended(self, seconds: float = 0.0) -> bool:
        """Say whether the process has ended, reaped or not; wait up to ``seconds`` for it."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def reap(self) -> ExitStatus:
        """Return how the ended process ended. Both None: nobody knows, which is never a success.

        Other code may have reaped it (``waitpid(-1)``, SIGCHLD ignored); new kernels remember its status for the pidfd.
        """
        try:
            result = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            return _exit_status(_remembered_status(self.pidfd))
        if result is None:
            return None, None
        if result.si_code == os.CLD_EXITED:
            return result.si_status, None
        return None, _signal_name(result.si_status)

    def discard(self) -> None:
        """End a child that nobody will listen to, and leave no trace of it. Blocks until it is gone, about 1 ms.

        By pidfd here too: a look whether the pid is still ours would be over before the kill. Where no descriptor was
        left for one, there is when the sockets are closed.
        """
        if self.pid:
            for sock in self._sockets:
                sock.close()
            with contextlib.suppress(OSError):  # other code took its exit status, so it has ended
                if self.pidfd < 0:
                    self._open_pidfd()
                _expect_child(self.pidfd)
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
                os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        self.close()

    def close(self) -> None:
        """Close every descriptor; the write end of the lifeline first, which ends what is left of the group."""
        if self._descriptors and hasattr(self, "_life_write"):
            self._close_fd(self._life_write)
        self.forget()
        if self.page is not None:
            self.page.close()
            self.page = None

    def forget(self) -> None:
        """Close this process's copies of the descriptors and nothing else."""
        while self._descriptors:
            self._close_fd(self._descriptors[0])
        for sock in self._sockets:
            sock.close()

    def _close_fd(self, fd: int) -> None:
        if fd in self._descriptors:
            self._descriptors.remove(fd)
            os.close(fd)


def is_pidfd_of(fd: int, pid: int) -> bool:
    """Say whether ``fd`` is a pidfd of process ``pid``; no where ``/proc`` does not tell."""
    try:
        with open(f"/proc/self/fdinfo/{fd}", "rb") as file:
            fields = dict(line.split(b":", 1) for line in file.read().splitlines() if b":" in line)
    except OSError:
        return False
    return fields.get(b"Pid", b"").strip() == str(pid).encode()


def _expect_child(pidfd: int) -> None:
    """Raise if ``pidfd`` names a stranger: our child ended at once, other code reaped it, and its pid came round."""
    try:
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError as error:
        raise ProcessLookupError(
            "the process that was started has ended, and other code took its exit status"
        ) from error


def _remembered_status(pidfd: int) -> int | None:
    """Return the wait status of a process that other code reaped; None where the kernel does not tell."""
    import fcntl  # here: not every system has it, and what is imported from this module runs on all of them

    info = bytearray(64)
    for pause in (0.0, 0.0005, 0.002):  # "no such child" may be said a moment before the status is laid down
        time.sleep(pause)
        _INFO.pack_into(info, 0, _INFO_EXIT, 0)
        try:
            fcntl.ioctl(pidfd, _GET_INFO, info)
        except OSError:  # an older kernel, or a sandbox without it
            return None
        known, status = _INFO.unpack(info)
        if known & _INFO_EXIT:
            return int(status)
    return None


def _exit_status(status: int | None) -> ExitStatus:
    """Translate a wait status."""
    if status is None:
        return None, None
    code = os.waitstatus_to_exitcode(status)
    return (code, None) if code >= 0 else (None, _signal_name(-code))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a realtime signal
        return f"signal {number}"


def _package_root() -> str:
    """Return the directory from which ``engine`` was imported."""
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))


def collect_setup(initializer: bytes | None, max_tasks: int | None, memory_limit: int | None) -> dict[str, Any]:
    """Collect what a worker needs to look like this process.

    Not ``loky.backend.spawn.get_preparation_data``: it starts two resource tracker processes.
    """
    import logging

    try:
        cwd = os.getcwd()
    except OSError:  # it was removed: the worker inherits the same nothing
        cwd = "."
    levels = {"": logging.root.level}
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and logger.level:
            levels[name] = logger.level
    process = sys.modules.get("multiprocessing.process")  # else the program has made nothing that asks for its key
    return {
        "path": [entry or cwd for entry in sys.path],
        "argv": list(sys.argv) if hasattr(sys, "argv") else [],
        "cwd": cwd,
        "authkey": bytes(process.current_process().authkey) if process is not None else None,
        "levels": levels,
        "initializer": initializer,
        "max_tasks": max_tasks,
        "memory_limit": memory_limit,
    }


@functools.cache
def load_starter() -> Any:
    """Return loky's ``fork_exec``: its module alone, since the packages around it take 25 ms to import."""
    if "loky" not in sys.modules:
        found = importlib.util.find_spec("loky")
        folder = found.submodule_search_locations[0] if found is not None and found.submodule_search_locations else ""
        path = os.path.join(folder, "backend", "fork_exec.py")
        spec = importlib.util.spec_from_file_location("engine._loky_fork_exec", path) if os.path.isfile(path) else None
        if spec is not None and spec.loader is not None:
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module.fork_exec
    from loky.backend.fork_exec import fork_exec

    return fork_exec
