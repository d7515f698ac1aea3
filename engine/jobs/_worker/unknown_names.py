"""Jobs that name a task which nobody here has registered: another worker, of newer code, may know it."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from engine import Retry

from ... import _checks
from .._records import Claimed, Failure
from .._store import Store
from ..errors import StoreError, UnknownTask
from .verdict import UNKNOWN_TASK, Outcome

__all__ = ["UNKNOWN_RETRY", "UnknownNames", "times_unknown"]

#: Pauses of 2, 6, 18, 54 and 162 s, then of 5 min: it is FAILED after about an hour.
UNKNOWN_RETRY = Retry(max_attempts=17, base_delay=2.0, factor=3.0, max_delay=300.0)

_TOLD_MOST = 20  #: names; rows may hold any number of them

_logger = logging.getLogger("engine.jobs")


class UnknownNames:
    """Says how the run of such a job ends, and what to do, once for each name. Home loop only."""

    def __init__(self, store: Store, worker: str) -> None:
        self._store = store
        self._worker = worker
        self._told: set[str] = set()

    async def outcome(self, job: Claimed) -> Outcome:
        """Return how the run of ``job`` ends: its history says how often it has met nobody who knows its name."""
        self._tell(job)
        try:
            failures = await self._store.read(lambda book, now: book.failures(job.id))
        except StoreError:  # its end waits for the store anyway
            failures = []
        error = UnknownTask(
            f"expected the name of a registered task, got {_checks.shown(job.name)}; import the module that defines it "
            "here"
        )
        return Outcome(error=error, kind=UNKNOWN_TASK, has_begun=False, times_unknown=times_unknown(job, failures))

    def _tell(self, job: Claimed) -> None:
        if job.name in self._told or len(self._told) >= _TOLD_MOST:
            return
        self._told.add(job.name)
        _logger.warning(
            "%s has no task %s, which job %d names: import the module that defines it before this worker starts, or "
            "start the worker anew with the code that has it; until then its jobs are tried again, here or elsewhere, "
            "for about an hour, use no attempt, and then fail",
            self._worker, _checks.shown(job.name), job.id,
        )  # fmt: skip


def times_unknown(job: Claimed, failures: Iterable[Failure]) -> int:
    """Return in how many claims in a row, this one too, nobody knew the name of ``job``.

    Each leaves a failure with its token. A claim that ended otherwise, and a requeue, leave none: it begins anew.
    """
    times = 1
    for failure in reversed(list(failures)):
        if failure.kind != UNKNOWN_TASK or failure.token != job.token - times:
            break
        times += 1
    return times
