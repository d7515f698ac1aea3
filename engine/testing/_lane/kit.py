"""What the checks of a lane share: the lane, its version of each function, and a few tools."""

import contextlib
import importlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ... import Engine, Lane, Retry, Task
from ..waiting import eventually_async

__all__ = ["FAST", "STUCK", "Caught", "LaneKit", "begun", "most_at_once", "raises", "spans"]

FAST = Retry(max_attempts=3, base_delay=0.001, jitter=0.0)
STUCK = 20.0  #: seconds; a bound for what never happens, not a measurement


@dataclass(frozen=True)
class LaneKit:
    """One lane to check: its name, and what makes an engine in which that lane is the one to be checked."""

    lane: Lane
    make: Callable[..., Engine] = Engine  #: called with settings of ``Engine``; gives an engine that has not started

    def engine(self, slots: int = 2, **settings: Any) -> Engine:
        """Return an engine with ``slots`` slots in each lane."""
        return self.make(**{"processes": slots, "threads": slots, "coroutines": slots, "grace": 0.1, **settings})

    def fn(self, name: str) -> Callable[..., Any]:
        """Return this lane's version of a function."""
        module = "coroutines" if self.lane is Lane.LOOP else "functions"
        found: Callable[..., Any] = getattr(importlib.import_module(f"{__package__}.{module}"), name)
        return found

    def submit(self, engine: Any, name: str, *args: Any, **kwargs: Any) -> Task[Any]:
        """Submit this lane's version of a function to ``engine``, or to a view of it."""
        if self.lane is not Lane.LOOP:
            engine = engine.options(lane=self.lane)
        task: Task[Any] = engine.submit(self.fn(name), *args, **kwargs)
        return task


class Caught:
    """What ``raises`` caught."""

    value: Any


@contextlib.contextmanager
def raises(kind: type[BaseException], match: str = "") -> Iterator[Caught]:
    """Expect the block to raise a ``kind`` whose message has ``match``, a regular expression, in it."""
    caught = Caught()
    try:
        yield caught
    except kind as error:
        caught.value = error
    else:
        raise AssertionError(f"expected {kind.__name__} to be raised, got nothing")
    text = str(caught.value)
    assert re.search(match, text), f"expected the message to match {match!r}, got {text!r}"


async def begun(folder: Path, name: str) -> None:
    """Wait until the function ``hold`` or the like has begun under ``name``."""
    await eventually_async(lambda: (folder / f"{name}.begun").exists(), STUCK)


def spans(path: Path) -> list[tuple[float, float]]:
    """Return when each run came and went, in order of coming."""
    rows = [line.split() for line in path.read_text().splitlines()]
    return sorted((float(came), float(went)) for came, went in rows)


def most_at_once(times: list[tuple[float, float]]) -> int:
    """Return how many of the spans overlap at most."""
    events = sorted([(came, 1) for came, _ in times] + [(went, -1) for _, went in times])
    now = most = 0
    for _, step in events:
        now += step
        most = max(most, now)
    return most
