"""What a worker looks at while its jobs run: whose cancel was asked, and how far they say they are.

Guarantees
    ``tell`` may be called on any thread, the rest belongs to the home loop. The store is asked only after news, and
    while something runs; its flag is cleared before the look, as the feeder's. News that comes while a claim is under
    way may be of a job that nobody here knows yet: there is another look then (design/0014, 15).
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

from .._book import Book
from .._moment import Moment
from .._store import Store
from ..errors import StoreClosed
from .failure import sound
from .run import Run
from .runner import Runner
from .verdict import Stop

__all__ = ["Watcher", "fresh_progress"]

_CANCELS_EVERY = 0.05  #: seconds between two looks, at least
_PROGRESS_EVERY = 1.0

_logger = logging.getLogger("engine.jobs")


class Watcher:
    """Looks after the runs of ``runner``, which ``holder()`` holds in ``store``; ``is_claiming()``: more may come."""

    def __init__(
        self, store: Store, runner: Runner, holder: Callable[[], int | None], is_claiming: Callable[[], bool]
    ) -> None:
        self._store = store
        self._runner = runner
        self._holder = holder
        self._is_claiming = is_claiming
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._is_told = False

    def tell(self) -> None:
        """Note that the store has news. Any thread; it is the store's listener."""
        if not self._is_told:
            self._is_told = True
            try:
                self._loop.call_soon_threadsafe(self._news.set)
            except RuntimeError:  # the loop is closed
                pass

    async def run(self) -> None:
        """Look until cancelled."""
        next_report = 0.0
        while True:
            await self._wait_for_news()
            try:
                await self._stop_cancelled()
                if self._loop.time() >= next_report:
                    next_report = self._loop.time() + _PROGRESS_EVERY
                    await self._report_progress()
            except StoreClosed:
                return
            except Exception:
                _logger.exception("the store %s could not be asked for cancels, or told of progress", self._store.name)
            await asyncio.sleep(_CANCELS_EVERY)

    async def _wait_for_news(self) -> None:
        """Wait for news of the store; where something runs, until its progress is due at the latest."""
        try:
            async with asyncio.timeout(_PROGRESS_EVERY if self._runner.runs else None):
                await self._news.wait()
        except TimeoutError:
            pass
        self._news.clear()
        self._is_told = False
        if self._is_claiming():
            self._news.set()

    async def _stop_cancelled(self) -> None:
        holder = self._holder()
        if holder is None or not self._runner.runs:
            return
        for job_id, token in await self._store.read(lambda book, now: book.cancels_asked([holder])):
            self._runner.stop(job_id, token, Stop.CANCEL)

    async def _report_progress(self) -> None:
        runs = self._runner.runs.values()
        reports = [(run.job.id, run.job.token, text) for run in runs if (text := fresh_progress(run))]

        def report(book: Book, now: Moment) -> None:
            for job_id, token, text in reports:
                book.report(job_id, token, text)

        if reports:
            await self._store.write(report)


def fresh_progress(run: Run) -> str | None:
    """Return what a run has to say since it was last asked, as JSON."""
    progress = run.task.progress if run.task is not None else None
    if progress is None or progress is run.progress_told:
        return None
    run.progress_told = progress
    told: dict[str, Any] = {"done": progress.done, "total": progress.total, "message": sound(progress.message)}
    try:
        return json.dumps(told, allow_nan=False)
    except ValueError:  # infinitely far
        return None
