"""What the rows say: which files are measured, and what had to be done again."""

import json
from dataclasses import dataclass

from engine import TaskState
from engine.jobs import Filter, JobInfo, Jobs

from ..jobs.rows import look, look_at
from ..metrics import Failure, Metrics, failure
from ..totals import Totals
from .work import TASK, outcome_of, path_of

__all__ = ["Rows", "read_rows"]

_MOST = 10**9


@dataclass(frozen=True, slots=True)
class Rows:
    """All jobs of the demo at one time."""

    totals: Totals  #: of those that have ended
    left: int  #: that have not
    repeated: int  #: that were claimed more than once: an earlier run may have begun them


def read_rows(jobs: Jobs, plan_failures: list[Failure]) -> Rows:
    """Look at every row."""
    totals = Totals()
    left = repeated = 0
    for each in plan_failures:
        totals.add(each)
    for seen in look(jobs, Filter(names=(TASK,), limit=_MOST)):
        row = seen.row
        repeated += row.token > 1
        if row.state in (TaskState.PENDING, TaskState.RUNNING):
            left += 1
        else:
            totals.add(_outcome(jobs, row))
    return Rows(totals, left, repeated)


def _outcome(jobs: Jobs, row: JobInfo) -> Metrics | Failure:
    path = json.loads(row.args)["path"]
    if row.state is TaskState.COMPLETED:
        return outcome_of(path, json.loads(row.result or "null"))
    found = look_at(jobs, row.id)
    kind = found[1][-1].kind if found is not None and found[1] else ""
    names = {"crash": "crashed", "lost": "crashed", "timeout": "timed out"}
    return failure(path_of(path), names.get(kind, row.state.value), row.error or row.state.value)
