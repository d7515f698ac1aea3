"""One loky executor with one process, and all that is known here of loky's insides.

Guarantees
    ``start`` and ``bury`` block and belong to the worker's own thread; ``submit``, ``leave``, ``kill`` and
    ``has_ended`` do not, and may be called from any thread once ``start`` has returned. loky's own locks order them.
"""

import contextlib
import multiprocessing.process
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future
from typing import Any

from .._process.child import ExitStatus

__all__ = ["Executor", "is_loss"]

_LINGER = 0.5  #: seconds that a process may live after it closed its connection
_MANAGER = 10.0  #: seconds that loky's thread has to end once the process is dead

_kept: list[object] = []  #: in a forked child: what must not be collected there


class Executor:
    """A ``loky.ProcessPoolExecutor`` whose one process is started by the first ``submit``."""

    def __init__(self, initializer: Callable[..., object], initargs: tuple[Any, ...], env: dict[str, str]) -> None:
        from loky.process_executor import ProcessPoolExecutor

        self._executor: Any = ProcessPoolExecutor(
            1, context=_context(), initializer=initializer, initargs=initargs, env=env
        )
        self._manager: threading.Thread | None = None
        self._process: Any = None
        self.pid: int | None = None

    def start(self, fn: Callable[..., Any], *args: Any) -> "Future[Any]":
        """Start the process, and have it call ``fn`` first."""
        future: Future[Any] = self._executor.submit(fn, *args)
        self._manager = self._executor._executor_manager_thread
        self._process = next(iter(list(self._executor._processes.values())), None)
        self.pid = getattr(self._process, "pid", None)
        self._close_the_other_ends()
        return future

    def _close_the_other_ends(self) -> None:
        """Close the process's ends of loky's two pipes here.

        loky keeps them for processes to come, of which there are none. With them open, a process that dies while it
        reads a task or writes an answer leaves a thread here at the other end of the pipe for ever.
        """
        for queue, end in ((self._executor._call_queue, "_reader"), (self._executor._result_queue, "_writer")):
            connection = getattr(queue, end, None)
            if connection is not None:
                connection.close()

    def submit(self, fn: Callable[..., Any], *args: Any) -> "Future[Any]":
        """Hand a call over. RuntimeError (broken, shut down) or OSError: it never left."""
        future: Future[Any] = self._executor.submit(fn, *args)
        return future

    def leave(self) -> None:
        """Let the process end by itself."""
        self._executor.shutdown(wait=False)

    def has_ended(self) -> bool:
        """Say whether the process is known to have ended."""
        return self._process is None or self._process.exitcode is not None

    def kill(self) -> None:
        """Kill the process and its group, by pid: nothing else reaches them everywhere."""
        process = self._process
        if process is None or process.exitcode is not None:
            return
        if sys.platform == "win32":
            threading.Thread(target=_kill_tree, args=(process,), name="engine-killer", daemon=True).start()
            return
        with contextlib.suppress(OSError):
            os.kill(process.pid, signal.SIGKILL)
        _kill_group(process.pid)

    def bury(self) -> ExitStatus:
        """See the process to its end, and loky's thread; return how the process ended."""
        process, manager = self._process, self._manager
        if process is not None:
            process.join(_LINGER)
            self.kill()
            if sys.platform != "win32":
                _kill_group(process.pid)
        if manager is not None:
            if manager.is_alive():
                self.leave()
            manager.join(_MANAGER)
        feeder = getattr(getattr(self._executor, "_call_queue", None), "_thread", None)
        if feeder is not None:  # it may be the last to hold semaphores, and the interpreter's end would cut it short
            feeder.join(_LINGER)
        if process is None:
            return None, None
        process.join(_LINGER)
        return _status(_exit_code(process))

    def drop(self) -> None:
        """Forget the executor: its semaphores are unlinked, and its pipes closed, when it is collected."""
        _forget_child(self._process)  # where other code took its exit status, join has not done so
        self._executor = self._manager = self._process = None

    def forget(self) -> None:
        """In a forked child: make sure that nothing of loky or multiprocessing touches the parent's process."""
        _kept.append(self._executor)
        _forget_child(self._process)
        wakeups = getattr(sys.modules.get("loky.process_executor"), "_threads_wakeups", None)
        if wakeups is not None and self._manager is not None:
            wakeups.pop(self._manager, None)


def _context() -> Any:
    """Return loky's context, whose processes start also where ``sys.stdout`` is None, closed or a broken pipe.

    loky flushes it and ``sys.stderr`` first, as a fork has to. It starts another program, so nothing is lost without.
    """
    from loky.backend.context import LokyContext

    context = LokyContext()
    if sys.platform != "win32":  # there it does not flush
        from loky.backend.popen_loky_posix import Popen
        from loky.backend.process import LokyProcess

        class Process(LokyProcess):  # type: ignore[misc]  # loky has no types
            @staticmethod
            def _Popen(process: Any) -> Any:  # the name that multiprocessing gives it
                process.__class__ = LokyProcess  # it is pickled, and the worker knows that one
                popen = Popen.__new__(Popen)
                popen.returncode, popen._fds = None, []
                popen._launch(process)
                return popen

        context.Process = Process
    return context


def is_loss(error: BaseException) -> bool:
    """Say whether loky's ``error`` means that the process is gone."""
    return isinstance(error, BrokenExecutor) or type(error).__name__ == "ShutdownExecutorError"


def _exit_code(process: Any) -> int | None:
    """Return the exit code; wait a moment for another thread that has reaped the process and not yet noted the code."""
    for _ in range(20):
        code: int | None = process.exitcode
        if code is not None:
            return code
        time.sleep(0.01)
    return None


def _status(code: int | None) -> ExitStatus:
    if code is None or code >= 0:
        return code, None
    try:
        return None, signal.Signals(-code).name
    except ValueError:  # a realtime signal
        return None, f"signal {-code}"


def _forget_child(process: Any) -> None:
    children: set[Any] = getattr(multiprocessing.process, "_children", set())
    children.discard(process)


def _kill_group(pid: int) -> None:
    """Kill what is left of the group that the process leads, if it leads one."""
    if sys.platform != "win32":
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)


def _kill_tree(process: Any) -> None:
    from loky.backend.utils import kill_process_tree

    kill_process_tree(process)
