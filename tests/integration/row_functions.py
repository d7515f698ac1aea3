"""What the tests of rows run in workers; imported by them, so it imports little."""

import contextlib
import contextvars
import os
import pickle
import sys
import time
from typing import Any

from tests.integration import liars

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE")
KEPT: list[Any] = []


def same(value: Any) -> Any:
    """Return ``value``."""
    return value


def run_in_no_time(path: str) -> str:
    """Answer at once that it took the smallest time that there is, and wait to be replaced; true from then on."""
    if not os.path.exists(path):
        with open(path, "x"):
            pass
        liars.stream().sendall(liars.result(payload=liars.ONE, start=0.0, end=5e-324))
        time.sleep(60)
    return "true"


def keep_a_token(item: int) -> str:
    """Leave a token of item 0 that was not used, in a context that is empty again; use it in item 1."""
    if item == 0:
        first = VARIABLE.set("of item 0")
        KEPT.append(VARIABLE.set("inner"))
        VARIABLE.reset(first)
        return "kept"
    with contextlib.suppress(ValueError, IndexError):  # the latter: item 0 was in another chunk
        VARIABLE.reset(KEPT.pop())
    return VARIABLE.get("nothing")


def stop_the_clock() -> int:
    """Do as libraries do that freeze the time for tests, in every module, and leave it so."""
    at, true = time.monotonic(), time.monotonic
    for module in list(sys.modules.values()):
        if vars(module).get("monotonic") is true:
            vars(module)["monotonic"] = lambda: at
    return os.getpid()


# -- what the campaign of ``tests/race/test_row_races.py`` runs; each leaves a mark for every run


def mark(runs: str, task: int) -> None:
    """Note a run of task ``task``, in one write."""
    descriptor = os.open(runs, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, b"%d\n" % task)
    finally:
        os.close(descriptor)


def quick(runs: str, task: int, given: Any = None) -> int:
    mark(runs, task)
    return task


def quick_too(runs: str, task: int, given: Any = None) -> int:
    mark(runs, task)
    return task


def slow(runs: str, task: int, given: Any = None) -> int:
    mark(runs, task)
    time.sleep(0.003)
    return task


class OnAThread:
    """A value whose class is not on the list: a thread of the parent rebuilds it."""

    def __init__(self, task: int) -> None:
        self.task = task

    def __eq__(self, other: object) -> bool:
        return other == self.task

    __hash__ = None  # type: ignore[assignment]  # it is no key


def rebuilt(runs: str, task: int, given: Any = None) -> OnAThread:
    mark(runs, task)
    return OnAThread(task)


def die(runs: str, task: int, given: Any = None) -> int:
    mark(runs, task)
    os._exit(3)


def lie_twice(runs: str, task: int, given: Any = None) -> int:
    """Answer three times, all in one piece but the last."""
    mark(runs, task)
    answer = liars.result(payload=pickle.dumps(task))
    liars.stream().sendall(answer * 2)
    return task


def lie_of_the_next(runs: str, task: int, given: Any = None) -> int:
    """Answer a task that is not there, in one piece with the true answer."""
    mark(runs, task)
    answer = liars.result(payload=pickle.dumps(task))
    liars.stream().sendall(answer + liars.result(of=liars.number() + 40, payload=liars.ONE))
    return task


def mark_falsely(runs: str, task: int, given: Any = None) -> int:
    """Mark as harmless what is not, and answer once more."""
    mark(runs, task)
    liars.stream().sendall(liars.result(payload=pickle.dumps(OnAThread(task))))
    return task


HONEST: list[Any] = [quick, quick, quick, quick, quick_too, slow, rebuilt]
HARMFUL = [die, lie_twice, lie_of_the_next, mark_falsely]


def note(path: str, number: int) -> int:
    """Write ``number`` on a line of its own, and return it."""
    with open(path, "a") as file:
        file.write(f"{number}\n")
    return number


def end_the_process(code: int) -> None:
    """End the worker in the middle of the task."""
    os._exit(code)


def sleep_at(number: int, sleeper: int) -> int:
    """Return ``number``; the ``sleeper`` sleeps before it does."""
    if number == sleeper:
        time.sleep(60)
    return number
