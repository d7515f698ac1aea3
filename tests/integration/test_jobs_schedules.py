"""Schedules of several engines, each a process, on one file."""

import contextlib
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from engine.jobs import Jobs
from tests.integration.schedule_engine import jobs_at
from tests.support import REPOSITORY, eventually

NOON = datetime(2025, 6, 1, 12, tzinfo=UTC).timestamp()
MINUTE, DAY = 60.0, 86_400.0


class Place:
    """A file of jobs, a clock that is a file, and engines."""

    def __init__(self, folder: Path) -> None:
        self._clock = folder / "clock.txt"
        self._paths = [str(folder / "jobs.db"), str(self._clock)]
        self.set_clock(NOON)
        self.jobs: Jobs = jobs_at(folder / "jobs.db", self._clock)

    def set_clock(self, wall: float) -> None:
        """Set it for everybody at once; nobody reads half of it."""
        fresh = self._clock.with_suffix(".new")
        fresh.write_text(str(wall))
        os.replace(fresh, self._clock)

    def periods(self) -> Counter[tuple[str | None, str]]:
        """Return how many jobs each period of each schedule has that have run."""
        done = self.jobs.list(states="completed", limit=100).result()
        return Counter((job.schedule, job.args["at"][:16]) for job in done)

    def wait_for(self, count: int) -> None:
        """Wait until so many jobs have run."""
        eventually(lambda: self.periods().total() >= count, 20, f"{count} jobs have run")

    def count(self) -> int:
        """Return how many jobs there are."""
        return len(self.jobs.list(limit=100).result())

    @contextlib.contextmanager
    def engines(self, count: int) -> Iterator[list[subprocess.Popen[str]]]:
        """Have engines run; they stop in good order, but those that were killed."""
        command = [sys.executable, "-m", "tests.integration.schedule_engine", *self._paths]
        started = [
            subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(count)
        ]
        try:
            for each in started:
                assert each.stdout is not None
                assert each.stdout.readline() == "ready\n"
            yield started
            for each in started:
                each.communicate(timeout=30)
            assert {each.returncode for each in started} <= {0, -9}
        finally:
            for each in started:
                each.kill()
                each.communicate()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    with place.jobs:
        yield place


def test_four_engines_enqueue_each_period_once_also_after_a_day_on_which_none_was_there(place: Place) -> None:
    """T4: with one of the four killed on the way."""
    seen = place.jobs.store.read
    with place.engines(4) as engines:
        eventually(lambda: seen(lambda book, now: book.last_tick("skips")).result() is not None, 10)
        for number, minutes in enumerate((5, 10, 15), 1):
            place.set_clock(NOON + minutes * MINUTE + 1)
            place.wait_for(2 * number)
            if number == 1:
                engines[0].kill()
    first = [(name, f"2025-06-01T12:{minute}") for name in ("skips", "catches-up") for minute in ("05", "10", "15")]
    assert place.periods() == Counter(first)
    place.set_clock(NOON + DAY + 2.5 * MINUTE)
    with place.engines(2):
        place.wait_for(7)
    assert place.periods() == Counter([*first, ("catches-up", "2025-06-02T12:00")])
    assert place.count() == 7
