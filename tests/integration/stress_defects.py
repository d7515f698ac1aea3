"""Breaks the engine in one place, then runs a stress script on it.

    python -m tests.integration.stress_defects NAME SCRIPT [options]

Each is a defect that an engine might truly have; a campaign that does not notice it is of no use.
"""

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from engine._endings import Endings
from engine._lanes._process.child import Child
from engine._lanes._process.feeder import Feeder
from engine._lanes._process.native import NativeWorker
from engine._lanes.base import Attempt
from engine._limits import Slots
from engine._registry import Registry
from engine._wire.page import StartPage

DEFECTS: dict[str, Callable[[], None]] = {}


def defect(fn: Callable[[], None]) -> Callable[[], None]:
    """Register a defect under its function's name."""
    DEFECTS[fn.__name__] = fn
    return fn


def _patch(owner: Any, name: str, new: Any) -> None:
    setattr(owner, name, new)


@defect
def forget_a_give_back() -> None:
    """What a dead worker had not begun stays where it was: nowhere."""

    def forget(feeder: Feeder, attempt: Attempt) -> None:
        attempt.lane_data = (None, 0)

    _patch(Feeder, "give_back_unsent", forget)


@defect
def swallow_a_cancellation() -> None:
    """Every tenth cancel says True and does nothing."""
    real, calls = Endings.cancel, iter(range(10**9))

    def cancel(endings: Endings, task: Any, message: Any = None) -> bool:
        return not task.done() if next(calls) % 10 == 0 else real(endings, task, message)

    _patch(Endings, "cancel", cancel)


@defect
def blame_all_that_was_sent() -> None:
    """The page of a dead worker is not read: whatever lay in it may have run."""
    _patch(StartPage, "last", lambda page: 2**63)


@defect
def blame_nobody() -> None:
    """The page of a dead worker is not read: nothing in it can have run, so it is run again."""
    _patch(StartPage, "last", lambda page: 0)


@defect
def send_a_packet_twice() -> None:
    """Every fiftieth packet is sent once more."""
    real, calls = NativeWorker._put, iter(range(1, 10**9))

    def put(worker: NativeWorker, packet: bytes) -> bool:
        is_sent = real(worker, packet)
        if is_sent and next(calls) % 50 == 0:
            real(worker, packet)
        return is_sent

    _patch(NativeWorker, "_put", put)


@defect
def keep_the_slot_of_an_abandoned_attempt() -> None:
    """An attempt that was given up takes its slot with it for ever."""
    real = Registry.release_locked

    def release(registry: Registry, attempt: Attempt) -> Any:
        was_abandoned = attempt.abandoned
        answer = real(registry, attempt)
        registry.slots[attempt.lane].taken += was_abandoned
        return answer

    _patch(Registry, "release_locked", release)


@defect
def give_a_slot_back_twice() -> None:
    """Every fiftieth slot of a thread is given back twice."""
    real, calls = Registry.release_locked, iter(range(1, 10**9))

    def release(registry: Registry, attempt: Attempt) -> Any:
        slots: Slots = registry.slots[attempt.lane]
        slots.taken -= slots.limit is not None and next(calls) % 50 == 0
        return real(registry, attempt)

    _patch(Registry, "release_locked", release)


@defect
def keep_a_descriptor() -> None:
    """The stderr pipe of every worker stays open."""
    real = Child.close

    def close(child: Child) -> None:
        kept = os.dup(child.stderr) if hasattr(child, "stderr") and child.stderr in child._descriptors else None
        real(child)
        del kept

    _patch(Child, "close", close)


@defect
def leave_the_dead() -> None:
    """Nobody asks how a worker ended: it stays a zombie."""
    _patch(Child, "reap", lambda child: (None, "SIGKILL"))


def main(arguments: list[str]) -> int:
    """Apply the defect, run the script, return its exit code."""
    name, script, *rest = arguments
    DEFECTS[name]()
    code: int = importlib.import_module(f"stress.{script}").main(rest)
    return code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
