"""What a worker left behind when it died, as errors."""

import errno
import os
from typing import Any

from ..._records import function_name, named
from ...errors import RemoteTraceback, WorkerCrashed, WorkerMemoryExceeded, WorkerStartupError
from ..base import Attempt
from ..chunk import Chunk
from .child import ExitStatus
from .usage import MemoryUse
from .worker import Worker

__all__ = ["Stderr", "crash_error", "memory_error", "startup_error"]

KEPT_BYTES = 8 << 10


class Stderr:
    """What a worker wrote to descriptor 2: the tail is kept as evidence, whole lines are passed on."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._tail = b""
        self._line = b""

    def read(self) -> tuple[str, bool]:
        """Read what there is; return the whole lines in it, and whether there may be more."""
        try:
            data = os.read(self._fd, 1 << 16)
        except BlockingIOError:
            return "", True
        if not data:
            return self.finish(), False
        return self.feed(data), True

    def feed(self, data: bytes) -> str:
        """Take what was read; return the whole lines in it."""
        self._tail = (self._tail + data)[-KEPT_BYTES:]
        lines, newline, self._line = (self._line + data).rpartition(b"\n")
        if len(self._line) > KEPT_BYTES:
            lines, newline, self._line = lines + newline + self._line, b"\n", b""
        return (lines + newline).decode("utf-8", "replace")

    def finish(self) -> str:
        """Return the unfinished line."""
        rest, self._line = self._line, b""
        return rest.decode("utf-8", "replace")

    def keep(self, text: bytes) -> None:
        """Keep what came another way: the worker's ``sys.stderr`` speaks on the control socket."""
        self._tail = (self._tail + text)[-KEPT_BYTES:]

    def drain(self) -> str:
        """Read all that is there, and the unfinished line with it; a bounded number of reads."""
        lines = ""
        for _ in range(64):
            more, is_open = self.read()
            lines += more
            if not more or not is_open:
                break
        return lines + self.finish()

    def tail(self) -> str:
        """Return the last of it."""
        return self._tail.decode("utf-8", "replace")


def _how(status: ExitStatus) -> str:
    code, signal_name = status
    if signal_name is not None:
        return f"was ended by {signal_name}"
    if code is not None:
        return f"exited with code {code}"
    return "ended, nobody knows how (other code took its exit status)"


def crash_error(attempt: Attempt, worker: Worker, status: ExitStatus, stderr: str) -> WorkerCrashed:
    """Build the error of the task that a worker died under."""
    what = f"{worker.label} {_how(status)} while it ran task {attempt.task_id} ({attempt.name})"
    chunk = attempt.args
    if type(chunk) is Chunk and (lost := min(chunk.begun, chunk.size) - chunk.answered) > 1:
        what += (
            f": {lost} items of a map, which fail together, since the first {lost - 1} had ended and were not answered"
            " yet; with options(timeout=...) each item is a task, and fails alone"
        )
    if worker.failure:
        what = f"{worker.label} was replaced while it ran task {attempt.task_id} ({attempt.name}): {worker.failure}"
    error = WorkerCrashed(
        what, task_id=attempt.task_id, attempt=attempt.number, pid=worker.pid, exit_code=status[0],
        signal_name=status[1], may_have_run=True, stderr=stderr,
    )  # fmt: skip
    if stderr:
        error.__cause__ = RemoteTraceback(f"the last of its stderr:\n{stderr}")
    return error


def memory_error(
    attempt: Attempt, worker: Worker, status: ExitStatus, stderr: str, use: MemoryUse, limit: int
) -> WorkerMemoryExceeded:
    """Build the error of a task that was killed because of what it took."""
    return WorkerMemoryExceeded(
        f"task {attempt.task_id} ({attempt.name}) was killed: it took {use.growth:,} bytes in {worker.label}, which"
        f" then held {use.total:,}; with worker_memory_limit={limit:,} a fresh worker has room for"
        f" {limit - use.fresh:,}; give it less to do at once, or raise the limit",
        task_id=attempt.task_id, attempt=attempt.number, pid=worker.pid, exit_code=status[0],
        signal_name=status[1], may_have_run=True, stderr=stderr, rss_bytes=use.total, limit_bytes=limit,
    )  # fmt: skip


_REMEDIES = {
    errno.EMFILE: "raise the limit on open files (ulimit -n), or lower processes: each worker takes 8 descriptors",
    errno.ENFILE: "the system has no descriptors left (sysctl fs.file-max); close some, or lower processes",
    errno.EAGAIN: "raise the limit on processes (ulimit -u, or pids.max of the cgroup), or lower processes",
    errno.ENOMEM: "free memory, or lower processes",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
}


def _remedy(cause: BaseException) -> str | None:
    if isinstance(cause, FileNotFoundError):  # loky asks for the directory
        try:
            os.getcwd()
        except OSError:
            return 'the working directory is gone: os.chdir to one that exists, or use process_backend="native"'
    return _REMEDIES.get(cause.errno or 0) if isinstance(cause, OSError) else None


def startup_error(
    worker: Worker | None, status: ExitStatus, stderr: str, cause: Any, initializer: object = None, others: int = 0
) -> WorkerStartupError:
    """Build the error of a worker that never took a task; ``cause`` is an exception or the initializer's report.

    ``others`` is how many workers there are all the same, which take the work.
    """
    pid = worker.pid if worker is not None else None
    if isinstance(cause, BaseException):
        who = "no worker process could be started"
        if others:
            who = f"one more worker process could not be started ({others} are there, and take the work)"
        what = f"{who}: {named(type(cause).__name__, str(cause))}"
        remedy = _remedy(cause)
        error = WorkerStartupError(f"{what}; {remedy}" if remedy else what, pid=pid)
        error.__cause__ = cause
        return error
    if cause is not None:  # how the process ended after its report is no news
        name, text, trace = cause
        what = f"the initializer {function_name(initializer)} of a worker process raised {named(name, text)}"
        error = WorkerStartupError(what, pid=pid, stderr=stderr)
        error.__cause__ = RemoteTraceback(trace)
        return error
    evidence: dict[str, Any] = {"pid": pid, "exit_code": status[0], "signal_name": status[1], "stderr": stderr}
    when = "before it was ready" if worker is None or worker.was_starting else "before it had begun a task"
    reason = f"a worker process {_how(status)} {when}"
    if initializer is not None:
        reason += f" (look at its initializer {function_name(initializer)})"
    if worker is not None and worker.failure:
        reason = worker.failure
    if not stderr:
        return WorkerStartupError(reason, **evidence)
    error = WorkerStartupError(f"{reason}; the last of its stderr:\n{stderr}", **evidence)
    error.__cause__ = RemoteTraceback(f"the last of its stderr:\n{stderr}")
    return error
