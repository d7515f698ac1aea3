"""How fast is it beside the other libraries, on the same work in the same run?

    python -m stress versus [--rounds N] [--only FIGURE ...] [--skip FIGURE ...] [--peers PEER ...] [--quick] [--check]
                            [--slow SECONDS] [--patience SECONDS] [--json FILE] [--chart FILE.png] [--write FILE.md]

Expected: for each figure the ratios to every competitor (``pip install .[versus]`` brings them; one that is missing is
a row that says so) and each promise with its verdict, then one line of JSON. In each round everybody takes a turn, in
an order that rotates, in a process of its own and for at most ``--patience`` seconds; the figures are medians. A
competitor that took more than ``--slow`` seconds for its turn takes one turn of that figure, as the ratio is clear.
``--check`` ends with 1 if a promise is missed; on a machine that does other work, that says little. Ctrl-C ends it with
what was measured so far. ``--write docs/PERFORMANCE.md`` makes the page. FIGURE may be a pattern, such as 'jobs-*'.
"""

import argparse
import contextlib
import fnmatch
import json
import os
import platform
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stress._chart import draw
from stress._machine import machine
from stress._peers import PEERS, distributions, is_installed
from stress._readings import NOT_ASKED, NOT_INSTALLED, Reading
from stress._report import FULL_ROUNDS, page, terminal_lines
from stress._turn import Turn, take_turn
from stress._workloads import FULL_SIZE, Figure, Size, figures

__all__ = ["main", "measure", "order"]

INTERRUPTED = 130


def order(competitors: Sequence[str], turn: int) -> list[str]:
    """Return ``competitors``, each of them first in one of as many turns."""
    at = turn % len(competitors)
    return [*competitors[at:], *competitors[:at]]


def measure(reading: Reading, options: argparse.Namespace, is_over: Callable[[], bool]) -> Iterator[str]:
    """Take all turns of one figure, and yield who is next before each."""
    rounds, chosen = options.rounds, options.peers
    figure = reading.figure
    competitors = [figure.ours, *[peer for peer in figure.peers if peer in chosen]]
    for peer in figure.peers:
        if peer not in chosen:
            reading.note(peer, Turn(reason=NOT_ASKED))
    for peer in [peer for peer in competitors if not is_installed(peer)]:
        reading.note(peer, Turn(reason=NOT_INSTALLED))
        competitors.remove(peer)
    out: set[str] = set()
    for number in range(rounds if competitors else 0):
        for peer in order(competitors, number):
            if peer not in out:
                yield f"{figure.name}: round {number + 1} of {rounds}, {peer}"
                begun = time.monotonic()
                turn = take_turn(figure.name, peer, asdict(reading.size), options.patience, is_over)
                reading.note(peer, turn)
                if turn.is_final or (peer != figure.ours and time.monotonic() - begun > options.slow):
                    out.add(peer)


class _Progress:
    """What is going on, on stderr: a line that is overwritten on a terminal, else one line for each figure."""

    def __init__(self) -> None:
        self._is_live = sys.stderr.isatty()
        self._last = ""

    def show(self, text: str, share: float) -> None:
        """Say what begins, and how much of all is done."""
        if self._is_live:
            filled = int(20 * share)
            print(f"\r\x1b[K[{'#' * filled}{'.' * (20 - filled)}] {text}", end="", file=sys.stderr, flush=True)
        elif (name := text.partition(":")[0]) != self._last:
            self._last = name
            print(f"{share:4.0%} {name}", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take the line away."""
        if self._is_live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def run(chosen: Sequence[Figure], options: argparse.Namespace, size: Size) -> tuple[list[Reading], bool]:
    """Measure the chosen figures; return what was measured, and whether Ctrl-C ended it."""
    readings: list[Reading] = []
    progress, ctrl_c = _Progress(), threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: ctrl_c.set())
    try:
        for index, figure in enumerate(chosen):
            readings.append(Reading(figure, size))
            for text in measure(readings[-1], options, ctrl_c.is_set):
                progress.show(text, index / len(chosen))
                if ctrl_c.is_set():
                    raise KeyboardInterrupt
            progress.clear()
            print("\n".join(terminal_lines(readings[-1])), end="\n\n", flush=True)
    except KeyboardInterrupt:
        progress.clear()
        print("interrupted; what was measured so far:", file=sys.stderr)
        return [reading for reading in readings if reading.values], True
    finally:
        signal.signal(signal.SIGINT, before)
    return readings, False


def facts_of(options: argparse.Namespace, arguments: Sequence[str], size: Size) -> dict[str, Any]:
    """Return what a reader must know of the run."""
    versions = {}
    for name in (*distributions(), "numpy"):
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    return {
        "command": shlex.join(["python", "-m", "stress", "versus", *arguments]),
        "rounds": options.rounds,
        "slow": options.slow,
        "size": asdict(size),
        "machine": {"processor": _processor(), **machine(), "system": platform.system()},
        "versions": versions,
        "chart": _chart_seen_from_the_page(options),
    }


def _chart_seen_from_the_page(options: argparse.Namespace) -> str | None:
    if options.chart is None or options.write is None:
        return None
    return os.path.relpath(options.chart, Path(options.write).parent)


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def parse(arguments: list[str]) -> argparse.Namespace:
    """Return the options; end with 2 at one that is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m stress versus", description=(__doc__ or "").split("\n")[0],
        epilog=f"FIGURE: {', '.join(figures())}; or a pattern, such as 'map-*'. PEER: {', '.join(PEERS)}. A"
        " figure takes half a minute to two, all of them three quarters of an hour.",
    )  # fmt: skip
    parser.add_argument("--only", nargs="+", metavar="FIGURE", default=[], help="only these figures, or patterns")
    parser.add_argument("--skip", nargs="+", metavar="FIGURE", default=[], help="not these figures, or patterns")
    parser.add_argument("--peers", nargs="+", metavar="PEER", default=[], help="only these competitors")
    parser.add_argument("--rounds", type=int, help="turns of each (default: 5, with --quick 1)")
    parser.add_argument("--tasks", type=int, help="tasks in a flood (default: 20000, with --quick 1000)")
    parser.add_argument("--megabytes", type=float, help="of a large array (default: 100, with --quick 10)")
    parser.add_argument("--patience", type=float, default=120, help="seconds for one turn (default: 120)")
    parser.add_argument("--slow", type=float, default=30, help="seconds beyond which one turn is enough (default: 30)")
    parser.add_argument("--quick", action="store_true", help="a small run, which says only that everything works")
    parser.add_argument("--check", action="store_true", help="end with 1 if a promise is missed")
    parser.add_argument("--json", metavar="FILE", help="write the last line there too: all that was measured")
    parser.add_argument("--chart", metavar="FILE", help="draw the ratios as a PNG (matplotlib)")
    parser.add_argument("--write", metavar="FILE", help="write the page (Markdown)")
    options = parser.parse_args(arguments)
    for name, quick, full in (
        ("rounds", 1, FULL_ROUNDS),
        ("tasks", 1000, FULL_SIZE.tasks),
        ("megabytes", 10, FULL_SIZE.megabytes),
    ):
        if getattr(options, name) is None:
            setattr(options, name, quick if options.quick else full)
        if getattr(options, name) <= 0:
            parser.error(f"expected --{name} to be positive, got {getattr(options, name)}")
    for name in ("only", "skip"):
        if nothing := [pattern for pattern in getattr(options, name) if not _matching([pattern])]:
            known = ", ".join(figures())
            parser.error(f"expected --{name} to be names or patterns of {known}, got {', '.join(sorted(nothing))}")
    options.figures = _matching(options.only or ["*"]) - _matching(options.skip)
    if not options.figures:
        parser.error("expected --only and --skip to leave a figure, got none; skip fewer")
    if unknown := set(options.peers) - PEERS.keys():
        parser.error(f"expected --peers to be names among {', '.join(PEERS)}, got {', '.join(sorted(unknown))}")
    for name in ("json", "chart", "write"):  # before the minutes of measuring
        path = getattr(options, name)
        if path is not None and not Path(path).resolve().parent.is_dir():
            parser.error(f"expected --{name} to be a file in a directory that is there, got {path!r}")
    if options.chart is not None and find_spec("matplotlib") is None:
        parser.error("expected matplotlib to be installed for --chart, got none; use pip install .[versus]")
    options.peers = options.peers or list(PEERS)
    return options


def _matching(patterns: Sequence[str]) -> set[str]:
    return {name for pattern in patterns for name in fnmatch.filter(figures(), pattern)}


def main(arguments: list[str]) -> int:
    """Run the script; return 1 if ``--check`` was given and a promise is missed, 130 after Ctrl-C."""
    options = parse(arguments)
    size = Size(tasks=options.tasks, megabytes=options.megabytes)
    facts = facts_of(options, arguments, size)
    print(f"machine {json.dumps(facts['machine'])}\nversions {json.dumps(facts['versions'])}", flush=True)
    print("ratio: how many times as good as the competitor the engine is\n", flush=True)
    chosen = [figure for name, figure in figures().items() if name in options.figures]
    readings, is_interrupted = run(chosen, options, size)
    if is_interrupted:
        print("\n".join(line for reading in readings[-1:] for line in terminal_lines(reading)))
    result = {
        "script": "versus",
        "interrupted": is_interrupted,
        **facts,
        "figures": {reading.figure.name: reading.as_dict() for reading in readings},
    }
    write(options, readings, result)
    print(json.dumps(result), flush=True)
    missed = [reading.figure.name for reading in readings if any(kept is False for _, kept in reading.verdicts)]
    if missed and options.check:
        print(f"missed: {', '.join(missed)}", file=sys.stderr)
    return INTERRUPTED if is_interrupted else int(bool(missed and options.check))


def write(options: argparse.Namespace, readings: list[Reading], result: dict[str, Any]) -> None:
    """Write the files that were asked for; a run that was interrupted leaves the page as it was."""
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if options.chart:
        engine, python = result["machine"]["hybrid-engine"], result["machine"]["python"]
        caption = f"engine {engine} {result['machine']['commit']}, Python {python}, {result['machine']['processor']}"
        draw(readings, options.chart, caption)
    if options.write and not result["interrupted"]:
        Path(options.write).write_text(page(readings, result), encoding="utf-8")
