"""``engine demo``: measure every .py file below a directory, in all three lanes.

Ctrl-C ends it in order: the engine stops, the tables show what was done so far, and the exit code is 130.
"""

import argparse
import os
import platform
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from engine import EngineError, __version__
from engine.jobs import JobsError

from . import INTERRUPTED, report
from .demo_run import DemoRun
from .demo_state import DemoState
from .demo_work import Work
from .progress import is_live
from .refusals import Refused
from .result_file import ResultFile
from .units import count, plain

__all__ = ["run_demo"]

_PIPED_WIDTH = 80
_SAMPLE = 300  #: files on which the speed-up is measured
#: Other people's packages may lie inside the library's own directory; they are not what was asked for.
_NOT_THE_LIBRARY = frozenset({"site-packages", "dist-packages"})


def run_demo(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit code.

    Raises:
        Refused: PATH or the result file is of no use.
    """
    if arguments.jobs is None:
        return _obeyed(DemoRun(_checked_work(arguments), sys.stdout), arguments)
    if arguments.sample is not None:
        raise Refused("expected --jobs or --sample, got both; jobs are not measured against one file after another")
    from .demo_jobs.command import durable_run  # with SQLite, which the rest does not need

    with durable_run(arguments, _checked_work(arguments)) as run:
        return _obeyed(run, arguments)


def _obeyed(run: DemoState, arguments: argparse.Namespace) -> int:
    result_file = _checked_result_file(arguments.json)
    interrupted = False
    try:
        run.run()
    except KeyboardInterrupt:
        interrupted = True
    except JobsError:  # the file's, about which the doctor knows nothing
        raise
    except EngineError as error:
        print(f"engine demo: {type(error).__name__}: {plain(str(error))}; see: engine doctor", file=sys.stderr)
        return 1
    for line in _report(run, arguments.top, arguments.by, interrupted):
        print(line)
    sys.stdout.flush()
    if result_file is not None:
        try:
            result_file.write(_as_dict(run, interrupted))
        except OSError as error:
            print(f"engine demo: cannot write {plain(arguments.json)}: {error.strerror}", file=sys.stderr)
            return 1
    return INTERRUPTED if interrupted else 0


def _checked_result_file(path: str | None) -> ResultFile | None:
    if path is None:
        return None
    if path in ("", "-"):
        raise Refused(f"expected --json to be a file, got {path!r}; use /dev/stdout to print it")
    file = ResultFile(path)
    try:
        file.check()
    except OSError as error:
        raise Refused(f"expected --json to be a file that can be written, got {path!r}: {error.strerror}") from error
    return file


def _checked_work(arguments: argparse.Namespace) -> Work:
    path = arguments.path
    root = sysconfig.get_paths()["stdlib"] if path is None else path
    expected = "expected PATH to be a directory or a .py file"
    try:
        os.stat(root)
    except OSError as error:
        raise Refused(f"{expected}, got {root!r}: {error.strerror}") from error
    only = None
    root = os.path.abspath(root)
    if not os.path.isdir(root):
        if not root.endswith(".py"):
            raise Refused(f"{expected}, got {path!r}, which is neither")
        root, only = os.path.split(root)
    return Work(
        root=root,
        only=only,
        skipped=_NOT_THE_LIBRARY if path is None else frozenset(),
        limit=arguments.limit,
        processes=arguments.processes,
        sample=_SAMPLE if arguments.sample is None else arguments.sample,
    )


def _report(run: DemoState, most: int, by: str, interrupted: bool) -> Iterator[str]:
    totals = run.totals
    width = shutil.get_terminal_size().columns if is_live(sys.stdout) else _PIPED_WIDTH
    yield ""
    if interrupted and totals.done < run.expected:
        yield f"Interrupted after {totals.done:,} of {count(run.expected, 'file')}; what was done so far:"
    elif interrupted:
        yield "Interrupted after the last file" if run.expected else "Interrupted before the first file"
    yield from report.summary_lines(totals, run.elapsed, run.earlier)
    yield from report.top_lines(totals.top(most, by), by, width)
    yield from report.failure_lines(totals, width)
    if run.elapsed:
        yield from report.lane_lines(run.times.lanes, run.slots, run.elapsed)
    if run.comparison is not None:
        yield from report.comparison_lines(run.comparison)
    yield from run.last_lines()


def _as_dict(run: DemoState, interrupted: bool) -> dict[str, Any]:
    """Return the result as ``result_file.SCHEMA`` describes it."""
    totals = run.totals
    sums = {name: getattr(totals, name) for name in ("size_bytes", "lines", "functions", "branches")}
    lanes = {}
    for lane, time in run.times.lanes.items():
        available = run.slots[lane] * run.elapsed
        busy = time.run_seconds / available if available > 0 else 0.0
        lanes[lane.value] = {"slots": run.slots[lane], **asdict(time), "busy": busy}
    comparison = run.comparison
    return {
        "format": 1,
        "engine": __version__,
        "python": platform.python_version(),
        "root": run.work.root,
        "interrupted": interrupted,
        "elapsed_seconds": run.elapsed,
        "found": run.found,
        "totals": {"files": len(totals.files), "failures": len(totals.failures), **sums},
        "files": sorted(totals.files, key=lambda file: file["path"]),
        "failures": sorted(totals.failures, key=lambda failure: failure["path"]),
        "lanes": lanes,
        "comparison": comparison and {**asdict(comparison), "speed_up": comparison.speed_up},
        "jobs": run.jobs_as_dict(),
    }
