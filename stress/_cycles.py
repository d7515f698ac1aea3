"""One engine from its opening to its close, in every way in which that may happen, with workers replaced in between.

The functions at the end run in workers.
"""

import asyncio
import gc
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from engine import BlockingEngine, Engine, Task
from engine.errors import TaskTimeout, WorkerCrashed

__all__ = ["ENDS", "REPLACEMENTS", "Cycle"]

ENDS = ("block", "stop", "stop at once", "exception", "gc")
REPLACEMENTS = ("max tasks", "crash", "timeout", "restart")


class Planned(Exception):
    """What the block of an engine is left by."""


class Cycle:
    """Opens an engine, gives it ``tasks`` tasks, replaces ``replacements`` workers, and closes it."""

    def __init__(self, rng: random.Random, end: str, tasks: int, replacements: int, options: dict[str, Any]) -> None:
        self.rng = rng
        self.end = end
        self.tasks = tasks
        self.causes = [rng.choice(REPLACEMENTS) for _ in range(replacements)]
        self.options = {"processes": 2, "threads": 2, "coroutines": 10, "grace": 0.05, **options}
        if "max tasks" in self.causes:
            self.options["max_tasks_per_worker"] = max(1, tasks // 6)
        self.pids: set[int] = set()
        self.did: Counter[str] = Counter()

    def run_async(self) -> None:
        """Run it on a loop of its own."""
        asyncio.run(self._run_async())

    async def _run_async(self) -> None:
        if self.end in ("block", "exception"):
            try:
                async with Engine(**self.options) as engine:
                    await self._work(engine)
                    if self.end == "exception":
                        engine.submit(time.sleep, 60)
                        raise Planned
            except Planned:
                pass
            return
        engine = await Engine(**self.options).start()
        await self._work(engine)
        if self.end == "stop":
            await engine.stop()
        elif self.end == "stop at once":
            engine.submit(time.sleep, 60)
            await engine.stop(timeout=0)
        # gc: nobody holds it, and its loop ends now

    async def _work(self, engine: Engine) -> None:
        tasks = [engine.submit(where, number) for number in range(self.tasks * 3 // 5)]
        tasks += [engine.options(lane="thread").submit(double, number) for number in range(self.tasks // 5)]
        tasks += [engine.submit(double_async, number) for number in range(self.tasks // 5)]
        self._note(await asyncio.gather(*tasks))
        for cause in self.causes:
            if cause == "crash":
                self._note_error(await _error_of(engine.submit(leave)), WorkerCrashed)
            elif cause == "timeout":
                self._note_error(await _error_of(engine.options(timeout=0.01, grace=0).submit(stay)), TaskTimeout)
            elif cause == "restart":
                await engine.restart_workers()
            self._note([await engine.run(where, 0)])

    def run_blocking(self) -> None:
        """Run it from this thread."""
        if self.end in ("block", "exception"):
            try:
                with Engine(**self.options) as engine:
                    self._work_and_block(engine)
                    if self.end == "exception":
                        engine.submit(time.sleep, 60)
                        raise Planned
            except Planned:
                pass
            return
        engine = BlockingEngine(**self.options).__enter__()
        self._work_and_block(engine)
        if self.end == "stop at once":
            engine.submit(time.sleep, 60)
            engine.stop(timeout=0)
        elif self.end == "stop":
            engine.stop()
        else:
            del engine
            gc.collect()

    def _work_and_block(self, engine: BlockingEngine) -> None:
        tasks = [engine.submit(where, number) for number in range(self.tasks * 3 // 5)]
        tasks += [engine.options(lane="thread").submit(double, number) for number in range(self.tasks // 5)]
        tasks += [engine.submit(double_async, number) for number in range(self.tasks // 5)]
        self._note([task.result() for task in tasks])
        for cause in self.causes:
            if cause == "crash":
                self._note_error(engine.submit(leave).exception(), WorkerCrashed)
            elif cause == "timeout":
                self._note_error(engine.options(timeout=0.01, grace=0).submit(stay).exception(), TaskTimeout)
            elif cause == "restart":
                engine.restart_workers()
            self._note([engine.run(where, 0)])

    def _note(self, results: list[int]) -> None:
        self.did["tasks"] += len(results)
        self.pids |= {-result for result in results if result < 0}

    def _note_error(self, error: BaseException | None, kind: type[Exception]) -> None:
        self.did["tasks"] += 1
        if not isinstance(error, kind):
            raise AssertionError(f"expected {kind.__name__}, got {error!r}")

    @property
    def run(self) -> Callable[[], None]:
        """Draw by lot whether a loop or a plain thread runs it."""
        if self.end == "gc" and not hasattr(Engine, "__del__"):  # this engine does not stop when it is forgotten
            return self.run_async
        return self.rng.choice([self.run_async, self.run_blocking])


async def _error_of(task: Task[Any]) -> BaseException | None:
    outcome = (await asyncio.gather(task, return_exceptions=True))[0]
    return outcome if isinstance(outcome, BaseException) else None


def where(number: int) -> int:
    """Say which worker this is, as a negative number."""
    return -os.getpid()


def double(number: int) -> int:
    """Return twice the number."""
    return 2 * number


async def double_async(number: int) -> int:
    """Return twice the number."""
    await asyncio.sleep(0)
    return 2 * number


def leave() -> None:
    """Take the worker with it."""
    os._exit(9)


def stay() -> None:
    """Ignore whatever is raised."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            time.sleep(0.05)
        except BaseException:  # that is the point
            pass
