"""What the tasks of the cancel storm do: they tell when they reach a moment at which they are to be cancelled.

Those of the loop and thread lanes run in our own process, so they tell by a call. Those of worker processes do not
tell: they ignore whatever is raised in them, and only a kill ends them.
"""

import asyncio
import threading
import time
from dataclasses import dataclass
from typing import Any, Protocol

from stress._ledger import BEGUN, ENDED, Promise, append

__all__ = ["MOMENTS", "Inside", "Plan", "Teller", "ignore", "work", "work_async", "work_there"]

#: When a call is cancelled. "at once": by the one who submitted it. "soon": a moment later, queued or sent or running.
MOMENTS = ("at once", "soon", "begun", "ending", "failing", "done")


@dataclass(slots=True, eq=False)
class Plan:
    """One call of the loop or thread lane: what it does, and when, how often and by whom it is cancelled."""

    promise: Promise
    lane: str
    body: str  #: "instant", "cooperative", "stubborn", "fails once", "fails"
    seconds: float
    moment: str | None = None
    by: str = "thread"  #: "thread", "loop", or "itself"
    times: int = 1
    task: Any = None  #: its handle, once it is submitted


class Inside:
    """Counts the bodies that are under way at once."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self.now -= 1


class Teller(Protocol):
    """Whom a body tells."""

    path: str
    inside: dict[str, Inside]

    def reached(self, plan: Plan, moment: str) -> None:
        """Say that ``plan`` is at ``moment``. Any thread."""


def _fails(plan: Plan, attempt: int) -> bool:
    return plan.body == "fails" or (plan.body == "fails once" and attempt == 1)


def work(teller: Teller, plan: Plan) -> int:
    """Do it on a thread."""
    from engine import checkpoint, current_task

    number, token = plan.promise.number, plan.promise.token
    with teller.inside["thread"]:
        append(teller.path, number, token, BEGUN)
        try:
            teller.reached(plan, "begun")
            end = time.monotonic() + plan.seconds
            while (left := end - time.monotonic()) > 0:
                if plan.body == "cooperative":
                    checkpoint()
                time.sleep(min(left, 0.002))
            teller.reached(plan, "ending")
        finally:
            append(teller.path, number, token, ENDED)
        if _fails(plan, current_task().attempt):
            teller.reached(plan, "failing")
            raise ValueError(number)
        return number


async def work_async(teller: Teller, plan: Plan) -> int:
    """Do it as a coroutine."""
    from engine import current_task

    number, token = plan.promise.number, plan.promise.token
    with teller.inside["loop"]:
        append(teller.path, number, token, BEGUN)
        try:
            teller.reached(plan, "begun")
            end = time.monotonic() + plan.seconds
            while (left := end - time.monotonic()) > 0:
                try:
                    await asyncio.sleep(left)
                except asyncio.CancelledError:
                    if plan.body != "stubborn":
                        raise
            teller.reached(plan, "ending")
        finally:
            append(teller.path, number, token, ENDED)
        if _fails(plan, current_task().attempt):
            teller.reached(plan, "failing")
            raise ValueError(number)
        return number


def work_there(path: str, number: int, token: str) -> int:
    """Do next to nothing in a worker process, between those that are killed."""
    append(path, number, token, BEGUN)
    append(path, number, token, ENDED)
    return number


def ignore(path: str, number: int, token: str, seconds: float) -> int:
    """Run in a worker process for ``seconds``, whatever is raised: only a kill ends it before."""
    append(path, number, token, BEGUN)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            time.sleep(0.05)
        except BaseException:  # that is the point
            pass
    append(path, number, token, ENDED)
    return number
