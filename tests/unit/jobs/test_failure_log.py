"""What the log says of runs that did not complete."""

import pytest

from engine import TaskState
from engine.jobs._records import Claimed, End, Ending, Failure
from engine.jobs._worker.failure_log import FailureLog

JOB = Claimed(7, 5, "default", "work", "{}", 2, 0, 0, 0.0, None, False)


def ending(end: End, kind: str = "error", attempt: int = 2, delay: float = 0.0) -> Ending:
    return Ending(7, 5, end, failure=Failure(1.0, attempt, 5, kind, "OSError: it"), delay=delay)


@pytest.mark.parametrize(
    ("given", "what", "level", "line"),
    [
        (ending(End.FAILED), TaskState.FAILED, "WARNING", "failed for good after attempt 2: OSError: it"),
        (ending(End.FAILED, "unknown task"), TaskState.FAILED, "WARNING", "failed for good: OSError: it"),
        (ending(End.CRASH, "crash"), TaskState.FAILED, "WARNING", "failed for good after attempt 2: OSError: it"),
        (ending(End.RETRY, delay=90), TaskState.PENDING, "INFO", "failed in attempt 2, and is tried again in 90 s: "),
        (ending(End.CRASH, "crash"), TaskState.PENDING, "WARNING", "failed in attempt 2, and is tried again at once: "),
        (ending(End.SNOOZE, "unknown task"), TaskState.PENDING, "INFO", "cannot run here, and is tried again at once"),
    ],
)
def test_a_failure_that_was_recorded_is_told(
    caplog: pytest.LogCaptureFixture, given: Ending, what: TaskState, level: str, line: str
) -> None:
    """E157: a failure for good, and a crash, as a warning."""
    caplog.set_level("DEBUG", "engine.jobs")
    log = FailureLog()
    log.expect(JOB, given)
    log.tell(given, what)
    (record,) = caplog.records
    assert record.levelname == level
    assert record.getMessage().startswith(f"job 7 (work) {line}")


@pytest.mark.parametrize("what", [None, TaskState.CANCELLED, OSError("no store")])
def test_a_stale_failure_is_not_told(caplog: pytest.LogCaptureFixture, what: TaskState | Exception | None) -> None:
    """E157: nor one of a job that was cancelled meanwhile, nor what the store did not take."""
    caplog.set_level("DEBUG", "engine.jobs")
    log = FailureLog()
    log.expect(JOB, ending(End.FAILED))
    log.tell(ending(End.FAILED), what)
    assert caplog.records == []


def test_a_result_that_the_store_refused_is_told_though_its_run_completed(caplog: pytest.LogCaptureFixture) -> None:
    """E157: nobody expected a failure of it."""
    log = FailureLog()
    log.expect(JOB, Ending(7, 5, End.COMPLETED, result="1"))
    log.tell(ending(End.FAILED, "result", attempt=0), TaskState.FAILED)
    assert caplog.messages == ["job 7 failed for good: OSError: it"]
