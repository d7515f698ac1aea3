"""Is everything given back when engines are opened and closed, and when a signal ends them at any moment?

    python -m stress resources [--engines N] [--tasks N] [--replacements N] [--signals N] [--seed S]

Expected: ``ok``, nothing left, no orphan, exit code 0. 200 engines are opened and closed in this process, on loops and
on plain threads, by their block, by ``stop``, by an exception, by being forgotten; they run 10,000 tasks, and 300 of
their workers are replaced. Then threads, descriptors, processes, zombies, shared memory and temporary files must be
what they were, and resident memory must not have grown: a line fitted through it, after a warm-up, rises by at most
16 KiB for each engine. And 200 programs get SIGINT (once or twice) or SIGTERM at a random moment, the start included,
and 20 more SIGKILL: they must end, leave no process, and say nothing but the user's own traceback.
"""

import gc
import random
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import psutil

from stress._belongings import Belongings
from stress._campaign import PATIENCE, add_common, arguments, backend, campaign, conclude, percentile
from stress._cycles import ENDS, Cycle
from stress._signals import blows, strike_all

MOST_BYTES = 16 << 10  #: that resident memory may grow by with each engine
WARM_UP = 0.25  #: share of the engines after which memory is looked at
WORKERS = 2  #: of each engine: what is seen beyond that has replaced another


@dataclass(frozen=True, slots=True)
class Settings:
    """How big a run is."""

    engines: int
    tasks: int
    replacements: int
    signals: int
    seed: int
    backend: str = "native"
    patience: float = PATIENCE


def slope(values: list[float]) -> float:
    """Return how much ``values`` rise from one to the next: least squares."""
    count = len(values)
    if count < 2:
        return 0.0
    middle, mean = (count - 1) / 2, sum(values) / count
    above = sum((at - middle) * (value - mean) for at, value in enumerate(values))
    return above / sum((at - middle) ** 2 for at in range(count))


def _share(whole: int, number: int, count: int) -> int:
    """Return what falls to ``number`` when ``whole`` is dealt out to ``count``."""
    return whole * (number + 1) // count - whole * number // count


def open_and_close(settings: Settings) -> dict[str, Any]:
    """Open and close engines, and measure after each."""
    rng = random.Random(f"{settings.seed} cycles")
    me = psutil.Process()
    resident: list[float] = []
    did: Counter[str] = Counter()
    errors: list[str] = []
    before = Belongings()
    for number in range(settings.engines):
        share = (
            settings.replacements * (number + 1) // settings.engines
            - settings.replacements * number // settings.engines
        )
        cycle = Cycle(
            rng, ENDS[number % len(ENDS)], settings.tasks // settings.engines, share, backend(settings.backend)
        )
        try:
            cycle.run()
        except Exception as error:  # told at the end, with the way in which it was closed
            errors.append(f"engine {number}, {cycle.end}, {cycle.causes}: {error!r}")
        did += cycle.did + Counter(cycle.causes)
        did["replaced"] += max(0, len(cycle.pids) - WORKERS)
        gc.collect()
        resident.append(me.memory_info().rss)
    settled = resident[int(WARM_UP * len(resident)) :]
    growth = slope(settled)
    if growth > MOST_BYTES and settings.engines >= 100:  # fewer say nothing
        errors.append(f"resident memory grows by {growth:.0f} bytes for each engine; at most {MOST_BYTES}")
    return {
        "left": before.left(min(10.0, settings.patience), gc.collect), "errors": errors, "did": dict(did),
        "bytes_per_engine": round(growth), "resident_mib": [round(at / 2**20, 1) for at in (settled[0], settled[-1])],
    }  # fmt: skip


def interrupt(settings: Settings, folder: str) -> dict[str, Any]:
    """Send signals to programs, and say how they took them."""
    planned = blows(random.Random(f"{settings.seed} signals"), settings.signals)
    wounds = strike_all(planned, patience=settings.patience, folder=folder)
    seconds = [wound.seconds for wound in wounds]
    return {
        "wounds": [f"{wound.blow}: {problem}" for wound in wounds for problem in wound.problems],
        "signals": dict(Counter(f"{blow.signal.name} x {blow.times}" for blow in planned)),
        "hit_while_importing": sum(wound.was_importing for wound in wounds),
        "seconds_to_end": {
            name: round(value, 3) for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
            if (value := percentile(seconds, share)) is not None
        },
    }  # fmt: skip


def main(argv: list[str]) -> int:
    """Run the script; return 0 if everything was given back."""
    parser = arguments("resources", __doc__)
    parser.add_argument("--engines", type=int, default=200, help="opened and closed (default: 200)")
    parser.add_argument("--tasks", type=int, default=10_000, help="that they run together (default: 10000)")
    parser.add_argument("--replacements", type=int, default=300, help="of their workers (default: 300)")
    parser.add_argument("--signals", type=int, default=200, help="programs that get SIGINT or SIGTERM (default: 200)")
    add_common(parser)
    options = parser.parse_args(argv)
    settings = Settings(
        options.engines, options.tasks, options.replacements, options.signals, options.seed, options.backend,
        options.patience,
    )  # fmt: skip
    began = time.monotonic()
    with campaign(options.seed) as folder:
        before = Belongings()
        cycles = open_and_close(settings)
        signals = interrupt(settings, folder)
        left = cycles.pop("left") or before.left(min(10.0, settings.patience))
    errors = [*cycles.pop("errors"), *signals.pop("wounds")]
    result = {
        "seed": options.seed, "ok": not (left or errors), "left": left, "errors": errors[:10], **cycles, **signals,
        "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip
    return conclude("resources", result, settings.engines + settings.signals, "engines and programs")
