"""The demo's pipeline: read in threads, measure in processes, merge on the loop; bounded from end to end.

Each stage is one ``engine.map`` that pulls from the stage before it, and none runs ahead of the next by more than its
window. So at most ``READ_WINDOW + MEASURE_WINDOW`` files are in memory, however many there are and whichever lane is
the slowest.
"""

from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from functools import partial

from engine import Engine, TaskTimeout, WorkerCrashed

from .metrics import Failure, Metrics, failure, measure
from .sources import read_source
from .totals import Totals

__all__ = ["FILE_TIMEOUT", "MEASURE_WINDOW", "READ_WINDOW", "Survey"]

READ_WINDOW = 32  #: files being read, or read and not yet taken
MEASURE_WINDOW = 64  #: files given to the process lane; so many that one long file does not starve the other workers
MERGE_WINDOW = 64  #: results given to the loop lane; they are small
FILE_TIMEOUT = 60.0  #: seconds for one file; the largest that is read takes about a third of it


class Survey:
    """One run over some files of one root, adding to ``totals``; ``on_file`` is called after each file.

    ``measure`` and ``file_timeout`` are what a test may replace.
    """

    def __init__(
        self,
        engine: Engine,
        root: str,
        totals: Totals,
        on_file: Callable[[], object] = lambda: None,
        *,
        measure: Callable[[tuple[str, bytes]], Metrics | Failure] = measure,
        file_timeout: float = FILE_TIMEOUT,
    ) -> None:
        self._engine = engine
        self._threads = engine.options(lane="thread")
        self._processes = engine.options(lane="process", timeout=file_timeout)
        self._root = root
        self._totals = totals
        self._on_file = on_file
        self._measure = measure
        self._in_process_lane: deque[str] = deque()  # paths, in the order in which their results come

    async def run(self, paths: Sequence[str]) -> None:
        """Measure ``paths``; cancelling it leaves in the totals what is merged."""
        async with aclosing(self._measured(paths)) as outcomes:
            merged = self._engine.map(self._merge, outcomes, window=MERGE_WINDOW)
            async with aclosing(merged):
                async for _ in merged:
                    self._on_file()

    async def _merge(self, outcome: Metrics | Failure) -> None:
        self._totals.add(outcome)

    async def _measured(self, paths: Sequence[str]) -> AsyncGenerator[Metrics | Failure, None]:
        """Yield the outcome of each file that could be read; a worker's death or a timeout is that file's outcome."""
        async with aclosing(self._read(paths)) as sources:
            outcomes = self._processes.map(self._measure, sources, window=MEASURE_WINDOW, return_exceptions=True)
            async with aclosing(outcomes):
                async for outcome in outcomes:
                    path = self._in_process_lane.popleft()
                    yield _explained(path, outcome) if isinstance(outcome, BaseException) else outcome

    async def _read(self, paths: Sequence[str]) -> AsyncGenerator[tuple[str, bytes], None]:
        """Yield path and content of each file that can be read; count the others."""
        sources = self._threads.map(partial(read_source, self._root), paths, window=READ_WINDOW)
        async with aclosing(sources):
            async for source in sources:
                if isinstance(source, tuple):
                    self._in_process_lane.append(source[0])
                    yield source
                else:
                    self._totals.add(source)
                    self._on_file()


def _explained(path: str, error: BaseException) -> Failure:
    """Say why the measuring of ``path`` did not end by itself.

    Raises:
        BaseException: ``error`` itself, where it is not the file's doing.
    """
    if isinstance(error, WorkerCrashed):
        how = error.signal_name or (f"exit code {error.exit_code}" if error.exit_code is not None else "unknown cause")
        return failure(path, "crashed", f"its worker process died ({how})")
    if isinstance(error, TaskTimeout):
        return failure(path, "timed out", f"not measured within {error.timeout:g} s")
    raise error
