"""Work as people have it: source files, JSON, arrays and blobs, through each pool's ``map`` with default settings."""

import hashlib
import json
import random
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine.cli.metrics import measure as measure_source
from stress._peers.contract import Cannot, Fn, Peer
from stress._workloads.arrays import numpy
from stress._workloads.figure import PROCESSES, Figure, Measure, Size
from stress._workloads.floods import pause

__all__ = ["FIGURES"]

_Items = Callable[[str, Size], Sequence[Any]]  #: makes the items, in a folder that is removed afterwards


async def mapped(peer: Peer, fn: Fn, items: Sequence[Any]) -> None:
    """Map, or submit one by one where there is no map."""
    try:
        await peer.map_default(fn, items)
    except Cannot:
        await peer.flood(fn, items)


def ready(number: int) -> int:
    """Have this module in the worker."""
    return pause(number)


def ready_with_numpy(number: int) -> int:
    """Have this module and NumPy in the worker."""
    numpy()
    return pause(number)


def workload(fn: Fn, make: _Items, warm: Fn) -> Measure:
    """Measure milliseconds from the first item to the last result; the workers are up."""

    async def measure(peer: Peer, size: Size) -> float:
        with _folder() as folder:
            items = make(folder, size)
            await peer.start(size.workers)
            await mapped(peer, warm, range(16))
            begun = time.perf_counter()
            await mapped(peer, fn, items)
            took = time.perf_counter() - begun
            await peer.close()
        return took * 1e3

    return measure


@contextmanager
def _folder() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="stress-") as folder:
        yield folder


# -- the demo's work: read and measure the files of the standard library ----------------------------------------------


def sources(folder: str, size: Size) -> list[str]:
    """Return paths of the standard library, the same each time."""
    files = sorted(str(path) for path in Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    return files[: max(10, size.tasks // 100)]


def read_and_measure(path: str) -> Any:
    """Read a source file, and measure it as the demo does."""
    return measure_source((path, Path(path).read_bytes()))


# -- JSON files, parsed and added up ----------------------------------------------------------------------------------


def json_files(folder: str, size: Size) -> list[str]:
    """Write files of sales, and return their paths."""
    draw = random.Random(1)
    paths = []
    for number in range(max(8, size.tasks // 300)):
        rows = [{"id": row, "shop": f"shop {draw.randrange(50)}", "sum": draw.random()} for row in range(2_000)]
        path = Path(folder, f"{number}.json")
        path.write_text(json.dumps(rows))
        paths.append(str(path))
    return paths


def sums_by_shop(path: str) -> dict[str, float]:
    """Parse one file and add up the sums of each shop."""
    sums: dict[str, float] = {}
    for row in json.loads(Path(path).read_text()):
        sums[row["shop"]] = sums.get(row["shop"], 0.0) + row["sum"]
    return sums


# -- arrays and blobs from this process -------------------------------------------------------------------------------


def arrays(folder: str, size: Size) -> list[Any]:
    """Return arrays that together are three times the large one."""
    draw = numpy().random.default_rng(1)
    return [draw.random(int(size.megabytes * 1e6 / 8 / 8)) for _ in range(24)]


def middle(array: Any) -> Any:
    """Return the numbers that are neither small nor large."""
    return array[(array > 0.25) & (array < 0.75)]


def blobs(folder: str, size: Size) -> list[bytes]:
    """Return blobs that together are three times the large array."""
    draw = random.Random(1)
    return [draw.randbytes(int(size.megabytes * 1e6 / 8)) for _ in range(24)]


def digest(blob: bytes) -> str:
    """Return the SHA-256 of ``blob``."""
    return hashlib.sha256(blob).hexdigest()


FIGURES = (
    Figure("real-sources", "Read and measure source files (the demo's work)", "ms",
           workload(read_and_measure, sources, ready), PROCESSES),
    Figure("real-json", "Parse JSON files and add up", "ms", workload(sums_by_shop, json_files, ready), PROCESSES),
    Figure("real-filter", "Filter 24 arrays with NumPy, half of each comes back", "ms",
           workload(middle, arrays, ready_with_numpy), (*PROCESSES, "cf-thread", "engine-thread")),
    Figure("real-hash", "Hash 24 blobs", "ms", workload(digest, blobs, ready),
           (*PROCESSES, "cf-thread", "engine-thread")),
)  # fmt: skip
