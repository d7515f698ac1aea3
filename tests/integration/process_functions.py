"""What ``test_process_scenarios.py`` runs in worker processes. It is imported there: it imports nothing heavy."""

import contextvars
import ctypes
import faulthandler
import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from typing import Any

from tests.contracts.functions import mark

TENANT: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")


def segfault() -> None:
    faulthandler._sigsegv()  # type: ignore[attr-defined]  # CPython's own, for tests like this


def read_null() -> None:
    ctypes.string_at(0)


def send(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(60)


def leave(code: int) -> None:
    os._exit(code)


def leave_by_libc(code: int) -> None:
    ctypes.CDLL(None).exit(code)


def throw(error: BaseException) -> None:
    raise error


class ExitsWhenPickled:
    def __reduce__(self) -> Any:
        raise SystemExit(3)


class RaisesWhenPickled:
    def __reduce__(self) -> Any:
        raise RuntimeError("not me")


class DoesWhenUnpickled:
    """Calls ``fn(*args)`` where it is unpickled."""

    def __init__(self, fn: Any, *args: Any) -> None:
        self.how = fn, args

    def __reduce__(self) -> Any:
        return self.how


def make_bad_result(kind: str) -> Any:
    if kind == "raises":
        return RaisesWhenPickled()
    if kind == "exits":
        return ExitsWhenPickled()
    return SegfaultsWhenPickled()


class SegfaultsWhenPickled:
    def __reduce__(self) -> Any:
        segfault()
        return int, ()


class ThreeArguments(Exception):
    def __init__(self, one: int, two: int, three: int) -> None:
        super().__init__(f"{one}{two}{three}")


class KeywordOnly(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


class ReducesToNone(Exception):
    def __reduce__(self) -> Any:
        return None


class ReduceRaises(Exception):
    def __reduce__(self) -> Any:
        raise ValueError("no reduce")


class SetstateRaises(Exception):
    def __reduce__(self) -> Any:
        return SetstateRaises, self.args, {"a": 1}

    def __setstate__(self, state: Any) -> None:
        raise ValueError("no setstate")


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no str")

    __repr__ = __str__


def raise_three() -> None:
    raise ThreeArguments(1, 2, 3)


def raise_keyword_only() -> None:
    raise KeywordOnly(code=7)


def raise_reduces_to_none() -> None:
    raise ReducesToNone("none")


def raise_reduce_raises() -> None:
    raise ReduceRaises("raises")


def raise_setstate_raises() -> None:
    raise SetstateRaises("state")


def raise_cause_cycle() -> None:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    raise one


def raise_group() -> None:
    raise ExceptionGroup("group", [ValueError("good leaf"), ReduceRaises("bad leaf")])


def raise_local() -> None:
    class OnlyHere(Exception):
        pass

    raise OnlyHere("only in the worker")


def raise_mute() -> None:
    raise MuteError


def raise_huge() -> None:
    raise ValueError("x" * 100_000_000)


def raise_surrogate() -> None:
    raise ValueError("\udcff\ud800")


def raise_deep() -> None:
    sys.setrecursionlimit(200_000)

    def dive(depth: int) -> None:
        if depth:
            dive(depth - 1)
        raise ValueError("deep")

    dive(100_000)


def work(path: str, key: str, seconds: float) -> str:
    mark(path, f"{key} {os.getpid()}")
    time.sleep(seconds)
    return key


def child_that_sleeps(path: str) -> None:
    """Start a grandchild, say its pid, and wait with it."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    mark(path, f"{child.pid}")
    child.wait()


def spin(path: str) -> None:
    mark(path)
    while True:
        pass


def talk(text: str) -> None:
    print(text)
    print(text + " aside", file=sys.stderr)
    logging.getLogger("app.part").warning("%s logged", text)


def dot(times: int) -> None:
    for _ in range(times):
        print(".", end="")


def half_a_line(path: str) -> None:
    """Say something, and wait for ``path`` before the line is ended."""
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # as programs do that know their stdout
    print("\rhalf a line", end="", flush=True)
    while not os.path.exists(path):
        time.sleep(0.01)
    print()
    print("the rest", end="")


def tenant() -> str:
    return TENANT.get()


def set_tenant(value: str) -> str:
    TENANT.set(value)
    return TENANT.get()


def total(numbers: list[int]) -> int:
    return sum(numbers)


def try_nested(engine_bytes: bytes) -> None:
    pickle.loads(engine_bytes)


def block_all_signals_and_spin(path: str) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
    spin(path)
