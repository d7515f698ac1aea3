"""``engine demo``: measure every .py file below a directory, in all three lanes.

Ctrl-C ends it in order: the engine stops, the tables show what was done so far, and the exit code is 130.
"""

import argparse
import asyncio
import os
import platform
import shutil
import sys
import sysconfig
import time
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from typing import Any, TextIO

from engine import Engine, EngineError, Lane, __version__

from . import report
from .comparison import Comparison, run_in_sequence, take_sample
from .lane_times import LaneTimes
from .progress import Progress, is_live
from .result_file import ResultFile
from .sources import find_sources
from .survey import Survey
from .totals import Totals
from .units import clip, count, plain

__all__ = ["Demo", "Refused", "run_demo"]

_LOOK_EVERY = 2000  #: files between two looks at the history: three tasks each, and it remembers 10,000
_PIPED_WIDTH = 80


class Refused(Exception):
    """The command cannot do what was asked; its text is the one line that says why."""


def run_demo(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit code.

    Raises:
        Refused: PATH or the result file is of no use.
    """
    result_file = _checked_result_file(arguments.json)
    root, only = _checked_root(arguments.path)
    demo = Demo(arguments, root, only, sys.stdout)
    interrupted = False
    try:
        demo.run()
    except KeyboardInterrupt:
        interrupted = True
    except EngineError as error:
        print(f"engine demo: {type(error).__name__}: {plain(str(error))}; see: engine doctor", file=sys.stderr)
        return 1
    demo.print_report(interrupted)
    if result_file is not None:
        try:
            result_file.write(demo.as_dict(interrupted))
        except OSError as error:
            print(f"engine demo: cannot write {plain(arguments.json)}: {error.strerror}", file=sys.stderr)
            return 1
    return 130 if interrupted else 0


def _checked_result_file(path: str | None) -> ResultFile | None:
    if path is None:
        return None
    if path in ("", "-"):
        raise Refused(f"expected --json to be a file, got {path!r}; use /dev/stdout to print it")
    file = ResultFile(path)
    try:
        file.check()
    except OSError as error:
        raise Refused(f"expected --json to be a file that can be written, got {path}: {error.strerror}") from error
    return file


def _checked_root(path: str | None) -> tuple[str, str | None]:
    """Return the directory to search, and the one file in it that was named, if one was."""
    root = sysconfig.get_paths()["stdlib"] if path is None else path
    try:
        os.stat(root)
    except (OSError, ValueError) as error:  # ValueError: a null byte
        reason = getattr(error, "strerror", None) or str(error)
        raise Refused(f"expected PATH to be a directory or a .py file, got {root}: {reason}") from error
    if os.path.isdir(root):
        return os.path.abspath(root), None
    if not root.endswith(".py"):
        raise Refused(f"expected PATH to be a directory or a .py file, got {root}")
    directory, name = os.path.split(os.path.abspath(root))
    return directory, name


class Demo:
    """One run of the command, and what it has found so far, whenever it ends."""

    def __init__(self, arguments: argparse.Namespace, root: str, only: str | None, stream: TextIO) -> None:
        self._arguments = arguments
        self._root = root
        self._only = only
        self._stream = stream
        self._totals = Totals()
        self._times = LaneTimes()
        self._slots = {Lane.THREAD: 0, Lane.PROCESS: 0, Lane.LOOP: 1}
        self._found = 0  #: .py files
        self._expected = 0  #: these, and what could not be searched
        self._next_look = _LOOK_EVERY
        self._elapsed = 0.0
        self._comparison: Comparison | None = None
        self._width = shutil.get_terminal_size().columns if is_live(stream) else _PIPED_WIDTH

    def run(self) -> None:
        """Do the work; after a KeyboardInterrupt the object holds what was done.

        Raises:
            Refused: there is no .py file below the root.
        """
        sample, engine_seconds = asyncio.run(self._run())
        if sample:  # with no loop running, so that Ctrl-C ends it at once
            totals, seconds = run_in_sequence(self._root, sample)
            self._comparison = Comparison(
                len(sample), totals.size_bytes, seconds, engine_seconds, self._slots[Lane.PROCESS]
            )

    async def _run(self) -> tuple[list[str], float]:
        """Measure all files, then a sample of them once more; return the sample and its seconds."""
        async with Engine(processes=self._arguments.processes) as engine:
            await self._measure_all(engine)
            sample = self._sample()
            began = time.perf_counter()
            if sample:
                await Survey(engine, self._root, Totals()).run(sample)
            return sample, time.perf_counter() - began

    async def _measure_all(self, engine: Engine) -> None:
        began = time.perf_counter()
        progress = None
        try:
            paths = await self._find(engine)
            self._introduce(engine)
            self._expected = self._totals.done + len(paths)
            progress = Progress(self._stream, self._totals, self._expected)
            await Survey(engine, self._root, self._totals, partial(self._step, engine, progress)).run(paths)
        finally:
            self._elapsed = time.perf_counter() - began
            self._times.absorb(engine.tasks())
            if progress is not None:
                progress.close()

    async def _find(self, engine: Engine) -> list[str]:
        if self._only is not None:
            paths = [self._only]
        else:
            # Other people's packages may lie inside the library's directory; they are not what was asked for.
            skipped = {"site-packages", "dist-packages"} if self._arguments.path is None else set()
            finder = engine.options(lane="thread")
            paths, failures = await finder.run(find_sources, self._root, frozenset(skipped))
            for failure in failures:
                self._totals.add(failure)
        if not paths:
            why = f" ({self._totals.failures[0]['reason']})" if self._totals.failures else ""
            raise Refused(f"expected PATH to hold .py files, got none below {self._root}{why}")
        del paths[self._arguments.limit or len(paths) :]
        self._found = len(paths)
        return paths

    def _introduce(self, engine: Engine) -> None:
        lanes = engine.snapshot().lanes
        for lane in (Lane.THREAD, Lane.PROCESS):
            self._slots[lane] = lanes[lane].slots
        processes = count(self._slots[Lane.PROCESS], "process", "processes")
        threads = count(self._slots[Lane.THREAD], "thread")
        self._print(
            [
                f"engine {__version__}, Python {platform.python_version()}: {processes}, {threads}",
                f"{count(self._found, '.py file')} below {clip(self._root, self._width - 24)}",
            ]
        )

    def _step(self, engine: Engine, progress: Progress) -> None:
        if self._totals.done >= self._next_look:
            self._next_look = self._totals.done + _LOOK_EVERY
            self._times.absorb(engine.tasks())
        progress.show()

    def _sample(self) -> list[str]:
        run_seconds = self._times.lanes[Lane.PROCESS].run_seconds
        if not self._totals.files or not run_seconds or not self._arguments.sample:
            return []
        return take_sample(self._totals.files, self._arguments.sample, self._totals.size_bytes / run_seconds)

    def print_report(self, interrupted: bool) -> None:
        """Print the tables."""
        totals = self._totals
        if interrupted and totals.done < self._expected:
            self._print(["", f"Interrupted after {totals.done:,} of {count(self._expected, 'file')}; what was done so far:"])
        elif interrupted:
            self._print(["", "Interrupted when all was measured" if self._expected else "Interrupted before the first file"])
        self._print([""])
        self._print(report.summary_lines(totals, self._elapsed))
        self._print(report.top_lines(totals.top(self._arguments.top, self._arguments.by), self._arguments.by, self._width))
        self._print(report.failure_lines(totals, self._width))
        self._print(report.lane_lines(self._times.lanes, self._slots, self._elapsed))
        if self._comparison is not None:
            self._print(report.comparison_lines(self._comparison))

    def as_dict(self, interrupted: bool) -> dict[str, Any]:
        """Return the result as ``result_file.SCHEMA`` describes it."""
        totals, elapsed = self._totals, self._elapsed
        sums = {name: getattr(totals, name) for name in ("size_bytes", "lines", "functions", "branches")}
        lanes = {
            lane.value: {"slots": self._slots[lane], **asdict(time), "busy": _busy(time.run_seconds, self._slots[lane] * elapsed)}
            for lane, time in self._times.lanes.items()
        }  # fmt: skip
        comparison = self._comparison
        return {
            "format": 1,
            "engine": __version__,
            "python": platform.python_version(),
            "root": self._root,
            "interrupted": interrupted,
            "elapsed_seconds": elapsed,
            "found": self._found,
            "totals": {"files": len(totals.files), "failures": len(totals.failures), **sums},
            "files": sorted(totals.files, key=lambda file: file["path"]),
            "failures": sorted(totals.failures, key=lambda failure: failure["path"]),
            "lanes": lanes,
            "comparison": comparison and {**asdict(comparison), "speed_up": comparison.speed_up},
        }

    def _print(self, lines: Iterable[str]) -> None:
        self._stream.writelines(f"{line}\n" for line in lines)
        self._stream.flush()


def _busy(run_seconds: float, available: float) -> float:
    return run_seconds / available if available > 0 else 0.0
