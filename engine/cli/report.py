"""The demo's tables, as lines of text. They fit ``width`` columns, of which 80 are enough."""

from collections.abc import Iterator, Mapping

from engine import Lane

from .comparison import Comparison
from .lane_times import LaneTime
from .metrics import Function, Metrics
from .totals import Totals
from .units import clip, count, duration, head, plain, share, size

__all__ = ["comparison_lines", "failure_lines", "lane_lines", "summary_lines", "top_lines"]

LISTED_MOST = 40  #: failures shown in full; the others are counted, and in --json

_SHORT = 0.5  #: seconds; below that, the first and last few files decide


def summary_lines(totals: Totals, elapsed: float, earlier: int = 0) -> Iterator[str]:
    """Yield what was measured, in sum; ``earlier`` runs, which took other time, have done so many of it."""
    if earlier and totals.done == earlier:
        yield f"Measured {count(len(totals.files), 'file')}"
    elif earlier:
        yield f"Measured {count(len(totals.files), 'file')}, the last {totals.done - earlier:,} in {duration(elapsed)}"
    else:
        rate = f"{totals.done / elapsed:,.0f} files/s, {size(totals.size_bytes / elapsed)}/s" if elapsed > 0 else ""
        yield f"Measured {count(len(totals.files), 'file')} in {duration(elapsed)}: {rate}"
    yield (
        f"  {size(totals.size_bytes)}, {count(totals.lines, 'line')}, {count(totals.functions, 'function')}, "
        f"{count(totals.branches, 'branch', 'branches')}"
    )


def top_lines(files: list[Metrics], by: str, width: int) -> Iterator[str]:
    """Yield a table of ``files``, which were chosen ``by`` one of their measures."""
    if not files:
        return
    room = max(width - 31, 30)
    path_width = min(room * 11 // 20, max(len(plain(file["path"])) for file in files))
    yield ""
    yield f"Top {count(len(files), 'file')} by {'longest function' if by == 'longest' else by}"
    yield f"branches  funcs   lines   zip  {'file':{path_width}}  longest (lines)"
    for file in files:
        yield (
            f"{file['branches']:>8,} {file['functions']:>6,} {file['lines']:>7,} {file['compression']:>4.1f}x  "
            f"{clip(file['path'], path_width):{path_width}}  {_longest(file['longest'], room - path_width - 2)}"
        ).rstrip()


def _longest(function: Function | None, width: int) -> str:
    """Name a function and its length; its class is left out where there is no room for it."""
    if function is None:
        return ""
    length = f" ({function['lines']:,})"
    name = plain(function["name"])
    if len(name) + len(length) > width:
        name = name.rpartition(".")[2]
    return head(name, max(width - len(length), 5)) + length


def lane_lines(lanes: Mapping[Lane, LaneTime], slots: Mapping[Lane, int], elapsed: float) -> Iterator[str]:
    """Yield a table of how the lanes were used."""
    yield ""
    yield "lane    slots   tasks  failed    run time per task   wait time per task   busy"
    for lane, time in lanes.items():
        run, wait = time.run_seconds, time.wait_seconds
        yield (
            f"{lane.value:7} {slots[lane]:>5,} {time.tasks:>7,} {time.failed:>7,} {duration(run):>11} "
            f"{_mean(run, time.tasks):>8} {duration(wait):>11} {_mean(wait, time.tasks):>8} "
            f"{share(run, slots[lane] * elapsed):>6}"
        )
    yield "  run: start to end; wait: submit to start; busy: run time / (slots x elapsed)"


def _mean(seconds: float, tasks: int) -> str:
    return duration(seconds / tasks) if tasks else "-"


def failure_lines(totals: Totals, width: int) -> Iterator[str]:
    """Yield what could not be measured, and why."""
    if not totals.failures:
        return
    kinds = ", ".join(f"{number:,} {kind}" for kind, number in totals.kinds().items())
    yield ""
    yield f"Not measured: {count(len(totals.failures), 'file')} ({kinds})"
    listed = sorted(totals.failures, key=lambda failure: (failure["kind"], failure["path"]))[:LISTED_MOST]
    path_width = min(max(len(plain(failure["path"])) for failure in listed), (width - 16) * 9 // 20)
    for failure in listed:
        reason = plain(failure["reason"])
        left = width - path_width - 16
        yield f"  {failure['kind']:10}  {clip(failure['path'], path_width):{path_width}}  {head(reason, left)}"
    if len(totals.failures) > len(listed):
        yield f"  and {len(totals.failures) - len(listed):,} more; --json FILE has them all"


def comparison_lines(comparison: Comparison) -> Iterator[str]:
    """Yield the measured speed-up and how it was measured."""
    rates = [
        ("one after another", comparison.sequential_seconds),
        ("through the engine", comparison.engine_seconds),
    ]
    yield ""
    sample = f"{count(comparison.files, 'file')} ({size(comparison.size_bytes)})"
    yield f"Speed-up on a sample: {sample}, evenly spaced over the measured ones"
    for title, seconds in rates:
        yield f"  {title:18} {duration(seconds):>10} {comparison.files / seconds:>8,.0f} files/s"
    workers = count(comparison.processes, "worker process", "worker processes")
    yield f"  {comparison.speed_up:.2f} times as fast, with {workers}"
    yield "  both by the clock on the wall, workers started, files in the page cache"
    if comparison.sequential_seconds < _SHORT:
        yield f"  that is little work: a sample below {duration(_SHORT)} says little about a long run"
    if comparison.is_disturbed:
        yield f"  the machine was busy before we began (load {comparison.load:.1f}): expect more on a quiet one"
