"""What the tasks of the process lane's tests run. It imports little: every worker imports it."""

import contextlib
import contextvars
import ctypes
import faulthandler
import logging
import os
import signal
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

from engine import _current
from engine.errors import TaskCancelled


def add(a: int, b: int = 1) -> int:
    return a + b


def identity(value: Any) -> Any:
    return value


def pid() -> int:
    return os.getpid()


def die(how: str) -> None:
    {
        "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "segv": faulthandler._sigsegv,  # type: ignore[attr-defined]  # private, made for this
        "abort": os.abort,
        "exit0": lambda: os._exit(0),
        "exit99": lambda: os._exit(99),
        "cexit": lambda: ctypes.CDLL(None).exit(0),
    }[how]()


def touch_and_wait(path: str, seconds: float) -> str:
    Path(path).touch()
    time.sleep(seconds)
    return "done"


def start_late(path: str) -> None:
    """Take a while, unless nobody has taken ``path`` yet."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        time.sleep(0.3)


def pass_gate(path: str) -> None:
    """Return at once, or with a path when something is there."""
    while path and not Path(path).exists():
        time.sleep(0.001)


def spin(path: str) -> None:
    Path(path).touch()
    n = 0
    while n >= 0:
        n += 1


def swallow(path: str) -> None:
    Path(path).touch()
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            time.sleep(60)
        except BaseException:
            pass


def clean_up(path: str, cleaned: str) -> None:
    try:
        Path(path).touch()
        time.sleep(60)
    finally:
        Path(cleaned).touch()


def cooperate(path: str) -> None:
    while True:
        _current.checkpoint()
        Path(path).touch()
        time.sleep(0.001)


def raise_it(error: BaseException) -> None:
    raise error


def say(text: str) -> None:
    print(text)
    print(text, file=sys.stderr)
    logging.getLogger("tests.worker").warning("logged %s", text)
    warnings.warn(f"warned {text}", UserWarning, stacklevel=1)
    os.write(2, f"raw {text}\n".encode())


def report() -> Any:
    task = _current.current_task()
    task.progress(1, 2, "half")
    return task.id, task.name, task.attempt, task.deadline is not None


def describe_buffer(value: Any) -> Any:
    view = memoryview(value).cast("B")
    return type(value).__name__, view.nbytes, view[:3].tobytes(), view.readonly


def fill(kind: str, size: int) -> Any:
    data = bytes(range(256)) * (size // 256 + 1)
    return {"bytes": bytes, "bytearray": bytearray, "memoryview": memoryview}[kind](data[:size])


class ExitsWhenPickled:
    def __reduce__(self) -> Any:
        raise SystemExit("while pickling")


class ExitsWhenLoaded:
    def __reduce__(self) -> Any:
        return sys.exit, (7,)


class DiesWhenLoaded:
    def __init__(self, parent: int) -> None:
        self.parent = parent

    def __reduce__(self) -> Any:
        return die_unless, (self.parent,)


def die_unless(parent: int) -> None:
    if os.getpid() != parent:
        os._exit(5)


def make_exits_when_loaded() -> Any:
    return ExitsWhenLoaded()


def make_exits_when_pickled() -> Any:
    return ExitsWhenPickled()


class ThreeArguments(Exception):
    def __init__(self, a: int, b: int, *, c: int) -> None:
        super().__init__(f"{a} {b} {c}")


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


def nest() -> Any:
    value: Any = []
    for _ in range(100_000):
        value = [value]
    return value


def raise_three() -> None:
    raise ThreeArguments(1, 2, c=3)


def raise_unprintable() -> None:
    raise UnprintableError


def raise_huge() -> None:
    raise ValueError("x" * 100_000_000)


def raise_surrogate() -> None:
    raise OSError("bad name \udcff")


def recurse(n: int = 0) -> int:
    return recurse(n + 1) + 1


def raise_local() -> None:
    class Local(Exception):
        pass

    raise Local("only in the worker")


def raise_group() -> None:
    raise ExceptionGroup("many", [ValueError("fine"), ThreeArguments(1, 2, c=3)])


def raise_cancelled() -> None:
    raise TaskCancelled


def append_line(path: str, n: int) -> None:
    with open(path, "a") as file:
        file.write(f"{n}\n")


def close_descriptors() -> None:
    os.closerange(3, 100)


def write_nonsense() -> None:
    for number in range(3, 100):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{number}").startswith("socket"):
                os.write(number, b"\0" * 4096)
    time.sleep(60)


def hold_the_gil(path: str) -> None:
    Path(path).touch()
    ctypes.PyDLL(None).usleep(900_000)


def refuse() -> None:
    raise LookupError("no licence")


def leave_early() -> None:
    os._exit(3)


def prepare(text: str) -> None:
    os.environ["PREPARED"] = text


def exit_handler(path: str) -> None:
    import atexit

    atexit.register(Path(path).touch)


def leave_thread() -> None:
    threading.Thread(target=time.sleep, args=(60,)).start()


def child_pid() -> int:
    import subprocess

    return subprocess.Popen(["sleep", "60"]).pid


def inheritable_descriptors() -> set[int]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.get_inheritable(int(name)):
                found.add(int(name))
    return found


def append_number(folder: str, n: int) -> None:
    with open(f"{folder}/{os.getpid()}", "a") as file:
        file.write(f"{n}\n")


colour = contextvars.ContextVar("colour", default="none")


def read_colour() -> str:
    return colour.get()


def set_colour() -> str:
    colour.set("blue")
    return colour.get()


def hold_the_gil_for_ever() -> None:
    while True:
        ctypes.PyDLL(None).usleep(900_000)


class SleepsWhenLoaded:
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __reduce__(self) -> Any:
        return time.sleep, (self.seconds,)


def make_sleeps_when_loaded(seconds: float) -> Any:
    return SleepsWhenLoaded(seconds)
