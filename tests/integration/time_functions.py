"""What ``test_time_and_blame.py`` runs in worker processes. It is imported there: it imports nothing heavy."""

import atexit
import contextlib
import ctypes
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]


def say(path: str, *words: object) -> None:
    """Append a line to ``path``, whole."""
    with open(path, "a") as file:
        file.write(" ".join(map(str, words)) + "\n")


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def mark_and_wait(path: str, gate: str) -> int:
    """Say our pid, then wait until ``gate`` exists."""
    say(path, os.getpid())
    while not Path(gate).exists():
        time.sleep(0.002)
    return os.getpid()


def shrug_off_and_wait(path: str, gate: str) -> str:
    """Do as ``mark_and_wait``, and return as if nothing had been asked."""
    with contextlib.suppress(BaseException):
        say(path, os.getpid())
        while not Path(gate).exists():
            time.sleep(0.002)
    return "late"


# -- what does not want to end ----------------------------------------------------------------------------------------


def _spin() -> None:
    while True:
        pass


def ignore_sigterm() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _spin()


def block_all_signals() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
    time.sleep(600)


def backtrack() -> None:
    re.match("(a+)+$", "a" * 64 + "b")


def sleep_with_the_gil() -> None:
    ctypes.PyDLL(None).sleep(600)


def loop_for_ever() -> None:
    _spin()


def swallow_everything() -> None:
    while True:
        try:
            _spin()
        except BaseException:
            pass


def finally_for_ever() -> None:
    try:
        time.sleep(600)
    finally:
        _spin()


def exit_handler_for_ever() -> None:
    atexit.register(_spin)
    time.sleep(600)


def deaf_to_sigurg() -> None:
    signal.signal(signal.SIGURG, signal.SIG_IGN)
    time.sleep(600)


def wait_in_c() -> None:
    """``system`` waits in C, through every signal, for a child that ignores what can be ignored."""
    while True:
        ctypes.CDLL(None).system(b"trap '' TERM INT URG; sleep 600")


STUBBORN = (
    ignore_sigterm, block_all_signals, backtrack, sleep_with_the_gil, loop_for_ever, swallow_everything,
    finally_for_ever, exit_handler_for_ever, deaf_to_sigurg, wait_in_c,
)  # fmt: skip


def be_stubborn(how: int, path: str) -> None:
    say(path, os.getpid())
    STUBBORN[how]()


def leave_an_exit_handler_that_never_ends() -> int:
    atexit.register(_spin)
    return os.getpid()


# -- families ---------------------------------------------------------------------------------------------------------


def start_a_family(path: str, method: str) -> None:
    """Start a child, a grandchild through sh, a pool, and a child of a thread; say all their pids; wait for ever."""
    warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: a fork of a process with threads
    child = subprocess.Popen(SLEEPER)
    shell = subprocess.Popen(
        ["sh", "-c", f'"{sys.executable}" -c "import time; time.sleep(600)" & echo $!; wait'], stdout=subprocess.PIPE
    )
    assert shell.stdout is not None
    grandchild = int(shell.stdout.readline())
    pool = multiprocessing.get_context(method).Pool(2)
    members = [process.pid for process in pool._pool]  # type: ignore[attr-defined]  # no other way to their pids
    queues = (pool._inqueue, pool._outqueue, pool._change_notifier)  # type: ignore[attr-defined]  # as above
    locks = [lock for queue in queues for lock in (queue._rlock, queue._wlock)]
    names = [lock._semlock.name or "" for lock in locks]  # none where the processes are forked
    Path(f"{Path(path).parent}.semaphores").write_text("\n".join(name.lstrip("/") for name in names))
    of_thread: list[int] = []

    def run() -> None:
        of_thread.append(subprocess.Popen(SLEEPER).pid)
        time.sleep(600)

    threading.Thread(target=run, daemon=True).start()
    while not of_thread:
        time.sleep(0.001)
    say(path, os.getpid(), child.pid, shell.pid, grandchild, *members, *of_thread)
    _spin()


def fork_one_that_escapes(path: str, how: str) -> None:
    """Fork a child that holds every descriptor of ours, and leaves our session or our group."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # as above
        child = os.fork()
    if child == 0:
        os.setsid() if how == "setsid" else os.setpgid(0, 0)
        say(path, os.getpid())
        time.sleep(600)
        os._exit(0)
    time.sleep(600)


def fork_one_that_stays(path: str) -> None:
    """Fork a child that holds every descriptor of ours, stderr and result socket too, and stays in our group."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # as above
        child = os.fork()
    if child == 0:
        time.sleep(600)
        os._exit(0)
    say(path, os.getpid(), child)
    time.sleep(600)


def stop_ourselves(path: str) -> None:
    say(path, os.getpid())
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(600)


def hold_the_gil(path: str) -> None:
    say(path, os.getpid())
    ctypes.PyDLL(None).sleep(600)


def leave_a_thread_with_the_gil(said: str, go: str, gate: str) -> int:
    """Leave a thread that takes the GIL once ``go`` exists and the worker waits for its next task.

    It says so in ``said`` when it has it, and keeps it in a C call until a byte comes through the FIFO ``gate``.
    """
    main = threading.main_thread().ident

    def is_idle() -> bool:
        top = sys._current_frames()[main or 0]
        state = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[0]
        return top.f_code.co_name == "receive" and state == "S" and Path(go).exists()

    def hold() -> None:
        idle_looks = 0
        while idle_looks < 10:  # in between it could go on, so it is in ``recv``
            idle_looks = idle_looks + 1 if is_idle() else 0
            time.sleep(0.002)
        sys.setswitchinterval(1000)  # so nobody else comes before the C calls
        libc, byte = ctypes.PyDLL(None), ctypes.create_string_buffer(1)
        out, through = os.open(said, os.O_CREAT | os.O_WRONLY), os.open(gate, os.O_RDWR)
        libc.write(out, b"held", 4)
        libc.read(through, byte, 1)
        sys.setswitchinterval(0.005)

    threading.Thread(target=hold, daemon=True).start()
    return os.getpid()


def leave_what_is_slow_to_free(seconds: float) -> Any:
    """Return what takes ``seconds`` to be freed, after it was sent."""
    return SlowToFree(seconds)


class SlowToFree:
    """Its ``__del__`` takes its time, in the worker."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __del__(self) -> None:
        time.sleep(self.seconds)

    def __reduce__(self) -> Any:
        return nap, (0.0,)


class SlowToLoad:
    """Takes its time where it is unpickled."""

    def __reduce__(self) -> Any:
        return nap, (1.0,)


def make_slow_to_load() -> Any:
    return SlowToLoad()
