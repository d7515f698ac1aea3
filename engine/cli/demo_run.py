"""One run of the demo: find the files, measure them all, then measure the speed-up on a sample of them."""

import asyncio
import os
import platform
import signal
import time
from collections.abc import Callable
from functools import partial
from typing import TextIO

from engine import Engine, Lane, __version__

from . import INTERRUPTED
from .comparison import Comparison, run_in_sequence, take_sample
from .demo_state import DemoState
from .demo_work import Work, find_work
from .progress import Progress
from .survey import Survey
from .totals import Totals
from .units import count, plain

__all__ = ["DemoRun"]

_LOOK_EVERY = 2000  #: files between two looks at the history: three tasks each, and it remembers 10,000


class DemoRun(DemoState):
    """One run, and what it has found so far, whenever it ends. ``make_survey`` is what a test may replace."""

    def __init__(self, work: Work, stream: TextIO, *, make_survey: Callable[..., Survey] = Survey) -> None:
        super().__init__(work)
        self._stream = stream
        self._make_survey = make_survey
        self._load = os.getloadavg()[0]
        self._next_look = _LOOK_EVERY

    def run(self) -> None:
        """Do it all. Ctrl-C raises KeyboardInterrupt once the engine has stopped; what was done is kept.

        Raises:
            Refused: there is no .py file to measure.
        """
        try:
            sample, engine_seconds = asyncio.run(self._run())
        except asyncio.CancelledError:  # by _obey_ctrl_c
            raise KeyboardInterrupt from None
        if not sample:
            return
        totals, seconds = run_in_sequence(self.work.root, sample)  # no loop runs here, so Ctrl-C ends it at once
        self.comparison = Comparison(
            files=len(sample),
            size_bytes=totals.size_bytes,
            sequential_seconds=seconds,
            engine_seconds=engine_seconds,
            processes=self.slots[Lane.PROCESS],
            load=self._load,
            processors=os.cpu_count() or 1,
        )

    async def _run(self) -> tuple[list[str], float]:
        """Measure all files, then a sample of them once more; return the sample and its seconds."""
        _obey_ctrl_c()
        async with Engine(processes=self.work.processes) as engine:
            await self._measure_all(engine)
            sample = self._sample()
            began = time.perf_counter()
            if sample:
                await self._make_survey(engine, self.work.root, Totals()).run(sample)
            return sample, time.perf_counter() - began

    async def _measure_all(self, engine: Engine) -> None:
        began = time.perf_counter()
        progress = None
        try:
            paths = await self._find(engine)
            self._introduce(engine)
            progress = Progress(self._stream, self.totals, self.expected)
            step = partial(self._step, engine, progress)
            await self._make_survey(engine, self.work.root, self.totals, step).run(paths)
        finally:
            self.elapsed = time.perf_counter() - began
            self.times.absorb(engine.tasks())
            if progress is not None:
                progress.close()

    async def _find(self, engine: Engine) -> list[str]:
        paths, failures = await engine.options(lane="thread").run(find_work, self.work)
        for failure in failures:
            self.totals.add(failure)
        self.found = len(paths)
        self.expected = self.totals.done + len(paths)
        return paths

    def _introduce(self, engine: Engine) -> None:
        lanes = engine.snapshot().lanes
        for lane in (Lane.THREAD, Lane.PROCESS):
            self.slots[lane] = lanes[lane].slots
        processes = count(self.slots[Lane.PROCESS], "worker process", "worker processes")
        print(
            f"engine {__version__}, Python {platform.python_version()}, {processes}, "
            f"{count(self.slots[Lane.THREAD], 'thread')}\n"
            f"{count(self.found, '.py file')} below {plain(self.work.root)}",
            file=self._stream,
            flush=True,
        )

    def _step(self, engine: Engine, progress: Progress) -> None:
        if self.totals.done >= self._next_look:
            self._next_look = self.totals.done + _LOOK_EVERY
            self.times.absorb(engine.tasks())
        progress.show()

    def _sample(self) -> list[str]:
        run_seconds = self.times.lanes[Lane.PROCESS].run_seconds
        if not self.totals.files or not run_seconds or not self.work.sample:
            return []
        return take_sample(self.totals.files, self.work.sample, self.totals.size_bytes / run_seconds)


def _obey_ctrl_c() -> None:
    """Have the first Ctrl-C cancel the task that runs here, and the second one end this process at once.

    asyncio's own handler would raise KeyboardInterrupt the second time, wherever the loop is just then, and what it
    hits there is logged with a traceback. Worker processes end with us in any case: the kernel sees to it.
    """
    main = asyncio.current_task()
    assert main is not None
    presses = 0

    def obey() -> None:
        nonlocal presses
        presses += 1
        if presses > 1:
            os._exit(INTERRUPTED)
        main.cancel()

    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as in the background of a shell script: it stays so
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, obey)
