"""An engine's errors as they speak of a job."""

import pytest

from engine import PickleError, RemoteError, TaskTimeout, WorkerCrashed, WorkerMemoryExceeded
from engine.errors import RemoteTraceback
from engine.jobs._worker.told_of_job import told_of_job


def told(error: BaseException) -> BaseException:
    return told_of_job(error, 6, "fail.work", 41)


def test_a_timeout_says_how_long_the_run_may_take() -> None:
    """E158: what is stored of a job never names the task."""
    error = TaskTimeout("task 6 (fail.work) did not end within timeout=3.0 s", task_id=6, timeout=3.0, attempt=1)
    found = told(error)
    assert type(found) is TaskTimeout
    assert (str(found), found.timeout, found.attempt) == ("the run took longer than its timeout of 3 s", 3.0, 1)


def test_a_crash_names_the_job_and_keeps_its_evidence() -> None:
    """E158: signal, exit code, stderr, cause."""
    error = WorkerCrashed(
        "process-1 (pid 9) was ended by SIGKILL while it ran task 6 (fail.work)", task_id=6, pid=9,
        signal_name="SIGKILL", exit_code=None, stderr="last words",
    )  # fmt: skip
    error.__cause__ = RemoteTraceback("the last of its stderr:\nlast words")
    found = told(error)
    assert isinstance(found, WorkerCrashed)
    assert str(found) == "process-1 (pid 9) was ended by SIGKILL while it ran job 41 (fail.work)"
    assert (found.pid, found.signal_name, found.exit_code, found.stderr) == (9, "SIGKILL", None, "last words")
    assert found.__cause__ is error.__cause__


@pytest.mark.parametrize("kind", [WorkerMemoryExceeded, PickleError])
def test_others_name_it_too(kind: type[Exception]) -> None:
    """E158."""
    found = told(kind("expected what task 6 (fail.work) is given to be small"))
    assert (type(found), str(found)) == (kind, "expected what job 41 (fail.work) is given to be small")


class Own(WorkerCrashed):
    """A user's."""


@pytest.mark.parametrize(
    "error",
    [
        ValueError("task 6 (fail.work)"),
        TaskTimeout("task 6 (inner) did not end within timeout=3.0 s", task_id=6, timeout=3.0),
        TaskTimeout(),
        TaskTimeout(object()),  # type: ignore[arg-type]  # users raise what they like
        Own("task 6 (fail.work)"),
        RemoteError("ValueError: boom"),
    ],
)
def test_what_the_function_raised_itself_stays_as_it_is(error: Exception) -> None:
    """E158: also an error of an engine of its own."""
    assert told(error) is error
