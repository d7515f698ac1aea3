"""What ``test_start_failures.py`` runs in worker processes. It is imported there: it imports nothing heavy."""

import ctypes
import os
import signal
import sys
import time
from typing import Any

from engine import Engine
from engine._lanes._process import breaker
from engine._worker import main
from tests.contracts.functions import mark


def count_starts(path: str, then: str, until: int = 10**9) -> None:
    """Note this start; fail as ``then`` says if it is among the first ``until``."""
    mark(path, str(time.monotonic()))
    with open(path) as file:
        if len(file.readlines()) <= until:
            fail_to_start(then)


def fail_to_start(how: str) -> None:
    """Do not become a worker."""
    if how == "raises":
        raise LookupError("no licence")
    if how == "exits":
        sys.exit(3)
    if how == "exits hard":
        print("out of luck", file=sys.stderr)
        os._exit(7)
    if how == "prints and exits":
        print("loading the model")
        os.write(2, b"the model is gone\n")
        os._exit(8)
    if how == "SIGKILL":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "SIGSEGV":
        ctypes.string_at(0)
    if how == "hangs":
        time.sleep(600)
    if how == "hangs in C":
        hold_the_gil()
    if how == "dies after hello":
        say_hello = main._say_hello
        main._say_hello = lambda control: (say_hello(control), os._exit(9))  # type: ignore[assignment]  # forced


def try_loky(answer: Any) -> None:
    """Run a task over loky; send how that failed, and how many tries there were."""
    breaker.PAUSE_SECONDS = 1000.0
    with Engine(processes=1, process_backend="loky") as engine:
        error = engine.submit(abs, -1).exception(30.0)
        answer.send((str(error), engine.snapshot().start_failures))


def hold_the_gil() -> None:
    """Stay in C code that never gives up the GIL; no Python of this process runs again."""
    ctypes.PyDLL(None).sleep(600)


def fail_where_marked(path: str) -> None:
    """Fail while the file exists."""
    if os.path.exists(path):
        raise LookupError("not yet")


def first_is_slow(path: str, go: str) -> None:
    """The first start waits for the file ``go``; every other one fails."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        raise LookupError("not the first") from None
    while not os.path.exists(go):
        time.sleep(0.005)
