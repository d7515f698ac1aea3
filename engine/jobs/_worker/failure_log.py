"""What the log says of runs that did not complete: one line each, once the store has recorded it."""

import logging

from engine import TaskState

from .._records import Claimed, Ending, Failure
from .verdict import UNKNOWN_TASK

__all__ = ["FailureLog"]

_logger = logging.getLogger("engine.jobs")


class FailureLog:
    """Keeps who failed until that is recorded, which only the store can say. Home loop only."""

    def __init__(self) -> None:
        self._names: dict[tuple[int, int], str] = {}  #: by id and token; of failures only

    def expect(self, job: Claimed, ending: Ending) -> None:
        """Note the name of ``job``, whose ``ending`` goes to the store."""
        if ending.failure is not None:
            self._names[ending.id, ending.token] = job.name

    def tell(self, ending: Ending, what: TaskState | Exception | None) -> None:
        """Log what became of a failure: ``what`` is the state of its row; of what was not recorded others speak."""
        failure = ending.failure
        if failure is None:
            return
        name = self._names.pop((ending.id, ending.token), None)
        job = f"job {ending.id}" if name is None else f"job {ending.id} ({name})"
        if what is TaskState.FAILED:
            _logger.warning("%s failed for good%s: %s", job, _after(failure), failure.error)
        elif what is TaskState.PENDING:
            level = logging.WARNING if failure.kind == "crash" else logging.INFO
            how = "cannot run here" if failure.kind == UNKNOWN_TASK else f"failed in attempt {failure.attempt}"
            _logger.log(level, "%s %s, and is tried again %s: %s", job, how, _when(ending.delay), failure.error)


def _after(failure: Failure) -> str:
    """Return which attempt it was; one whose result was refused by the store does not say, an unknown name had none."""
    return f" after attempt {failure.attempt}" if failure.attempt and failure.kind != UNKNOWN_TASK else ""


def _when(delay: float) -> str:
    seconds = round(delay, 1)
    return f"in {seconds:g} s" if seconds else "at once"
