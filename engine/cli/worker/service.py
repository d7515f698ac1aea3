"""The life of one ``engine worker``: started, run, drained by a signal.

Guarantees
    Everything here runs on the loop of the main thread; signal handlers too, for asyncio calls them there.
    The first signal drains; the second stops what runs and gives it back, and ends the process ``_LAST_SECONDS`` later
    whatever still runs; the third ends it where it stands. Worker processes end with it: the kernel sees to it, and
    over loky they notice.
"""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from engine import Engine
from engine.jobs import Jobs, Worker

from .. import INTERRUPTED
from ..refusals import Refused
from ..units import count
from .introduction import introduction

__all__ = ["Service", "Settings"]

P = ParamSpec("P")
T = TypeVar("T")

_LAST_SECONDS = 2.0  #: between the second signal and the end of the process


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line said."""

    queues: Mapping[str, int | None] | None = None
    concurrency: int | None = None
    processes: int | None = None
    threads: int | None = None
    drain: float = 30.0
    name: str | None = None


class Service:
    """Runs jobs until a signal comes.

    ``tell`` is called with each line for people, ``leave`` with the exit code where the process is to end at once.
    Once it runs, a line that cannot be told (who read them is gone, the disk of the log is full) changes nothing.
    """

    def __init__(
        self, jobs: Jobs, settings: Settings, tell: Callable[[str], object], leave: Callable[[int], object]
    ) -> None:  # fmt: skip
        self._jobs = jobs
        self._settings = settings
        self._tell = tell
        self._leave = leave
        self._signals = 0
        self._worker: Worker | None = None
        self._is_asked = asyncio.Event()  #: to end
        self._last: asyncio.TimerHandle | None = None

    async def run(self) -> int:
        """Run until it is asked to end; return the exit code.

        Raises:
            Refused: an option is out of range.
        """
        loop = asyncio.get_running_loop()
        numbers = [n for n in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(n) is not signal.SIG_IGN]
        for number in numbers:  # one that a shell ignores for what it runs in the background stays ignored
            loop.add_signal_handler(number, self._obey)
        try:
            await self._work()
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)
            if self._last is not None:
                self._last.cancel()
        return INTERRUPTED if self._signals > 1 else 0

    async def _work(self) -> None:
        settings = self._settings
        async with _checked(Engine, processes=settings.processes, threads=settings.threads) as engine:
            worker = _checked(
                self._jobs.worker, engine, queues=settings.queues, concurrency=settings.concurrency, name=settings.name
            )
            for line in introduction(self._jobs, engine, worker.name, settings.queues, settings.concurrency):
                self._tell(line)
            await worker.start()
            self._worker = worker
            self._say(f"started; SIGTERM or Ctrl-C drains it within {settings.drain:g} s")
            await self._is_asked.wait()
            await self._drain(worker)

    async def _drain(self, worker: Worker) -> None:
        running = worker.statistics().running
        left = f"{count(running, 'job')} may still take {self._settings.drain:g} s" if running else "nothing runs"
        self._say(f"draining: {left}")
        if self._signals > 1:
            worker.hurry()
        await worker.stop(self._settings.drain)
        self._say(f"drained: {_sum(worker)}")

    def _say(self, line: str) -> None:
        with contextlib.suppress(OSError):
            self._tell(line)

    def _obey(self) -> None:
        """Do what a signal says."""
        self._signals += 1
        self._is_asked.set()
        if self._signals == 2:
            self._say("stopping at once")
            if self._worker is not None:
                self._worker.hurry()
            self._last = asyncio.get_running_loop().call_later(_LAST_SECONDS, self._leave, INTERRUPTED)
        elif self._signals > 2:
            self._leave(INTERRUPTED)


def _checked(make: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Make something of what the command line said."""
    try:
        return make(*args, **kwargs)
    except ValueError as error:
        raise Refused(str(error)) from error


def _sum(worker: Worker) -> str:
    """Say what a worker has done."""
    done = worker.statistics()
    counted = {
        "completed": done.completed, "failed": done.failed, "cancelled": done.cancelled, "retried": done.retried,
        "snoozed": done.snoozed, "given back": done.given_back, "fenced": done.fenced,
        "not recorded": done.unrecorded, "leases lost": done.lost_leases,
    }  # fmt: skip
    return ", ".join(f"{number:,} {name}" for name, number in counted.items() if number) or "it ran nothing"
