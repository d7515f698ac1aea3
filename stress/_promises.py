"""Figures with promises: each is measured a number of times, printed as a row, and compared with what was promised."""

import argparse
import asyncio
import json
import logging
import os
import statistics
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from stress._machine import machine

__all__ = ["Figure", "Reading", "report"]

Measure = Callable[[int], Awaitable[list[float]]]


@dataclass(frozen=True)
class Figure:
    """One figure: what is measured, and what is promised of it."""

    name: str
    measure: Measure  #: gives milliseconds, one of each round
    most: float | None = None  #: the value may be at most that
    percentile: int = 50  #: which value; 100 is the greatest


@dataclass(frozen=True)
class Reading:
    """A figure as measured, in milliseconds."""

    figure: Figure
    times: list[float]

    def at(self, percentile: int) -> float:
        """Return the value below which ``percentile`` percent of the times lie."""
        ordered = sorted(self.times)
        return ordered[min(len(ordered) - 1, len(ordered) * percentile // 100)]

    @property
    def is_kept(self) -> bool | None:
        """Say whether the promise is kept; None if there is none."""
        return None if self.figure.most is None else self.at(self.figure.percentile) <= self.figure.most


def row(reading: Reading) -> str:
    """Return one line of the table."""
    figure = reading.figure
    level = "all" if figure.percentile == 100 else f"p{figure.percentile}"
    target = "-" if figure.most is None else f"{level} <= {figure.most:g} ms"
    verdict = {True: "kept", False: "MISSED", None: ""}[reading.is_kept]
    return (
        f"{figure.name:24}{statistics.median(reading.times):9.2f}{reading.at(90):9.2f}{reading.at(99):9.2f}"
        f"{max(reading.times):9.2f}  {target:16}  {verdict}"
    )


def report(
    script: str, question: str, figures: Sequence[Figure], arguments: list[str], *, rounds: int, of_what: str
) -> int:
    """Run a script of such figures; return 1 if ``--check`` was given and a target is missed."""
    parser = argparse.ArgumentParser(prog=f"python -m stress {script}", description=question)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these figures")
    parser.add_argument("--rounds", type=int, default=rounds, help=f"{of_what} (default: {rounds})")
    parser.add_argument("--check", action="store_true", help="end with 1 if a target is missed")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error(f"expected --rounds to be a positive integer, got {options.rounds}")
    if unknown := set(options.names) - {figure.name for figure in figures}:
        parser.error(f"expected names among {', '.join(figure.name for figure in figures)}, got {', '.join(unknown)}")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # workers start as a user's do: with compiled modules on disk
    logging.getLogger("engine").setLevel(logging.CRITICAL)
    print(f"machine {machine()}\nseed none")
    print(f"{'figure, in ms':24}{'median':>9}{'p90':>9}{'p99':>9}{'most':>9}  target", flush=True)
    readings = []
    with open(os.devnull, "w") as nowhere:
        for figure in figures:
            if not options.names or figure.name in options.names:
                stderr, sys.stderr = sys.stderr, nowhere  # what dying workers say is passed on to it
                try:
                    readings.append(Reading(figure, asyncio.run(_measure(figure, options.rounds))))
                finally:
                    sys.stderr = stderr
                print(row(readings[-1]), flush=True)
    print(json.dumps({"script": script, "rounds": options.rounds, "figures": {
        reading.figure.name: {"unit": "ms", "median": statistics.median(reading.times), "p90": reading.at(90),
                              "p99": reading.at(99), "most": max(reading.times), "target": reading.figure.most,
                              "percentile": reading.figure.percentile, "kept": reading.is_kept}
        for reading in readings
    }}))  # fmt: skip
    missed = [reading.figure.name for reading in readings if reading.is_kept is False]
    if missed and options.check:
        print(f"missed: {', '.join(missed)}", file=sys.stderr)
        return 1
    return 0


async def _measure(figure: Figure, rounds: int) -> list[float]:
    return await figure.measure(rounds)
