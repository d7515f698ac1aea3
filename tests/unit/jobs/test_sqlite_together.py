"""Several processes on one file, and processes that are killed in the middle of a verb."""

from collections import Counter
from pathlib import Path
from typing import Any

from .sqlite_children import JOBS_ENDED, PERIODS, connect
from .sqlite_files import run_children


def rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    connection = connect(path)
    found: list[tuple[Any, ...]] = connection.execute(sql).fetchall()
    assert connection.pragma("integrity_check") == "ok"
    connection.close()
    return found


def test_of_64_that_enqueue_at_once_with_one_queueing_lock_one_does(tmp_path: Path) -> None:
    """J10: the others are told its id."""
    told = Counter(line.strip() for line in run_children("enqueue_at_once", tmp_path).splitlines())
    assert told == {"added 1": 1, "taken 1": 63}
    assert rows(tmp_path / "jobs.db", "SELECT id, state FROM jobs") == [(1, "pending")]


def test_who_is_killed_while_a_job_completes_leaves_it_running_or_completed_with_all_that_follows(
    tmp_path: Path,
) -> None:
    """J12: kill -9 before each statement."""
    count = int(run_children("kill_ends", tmp_path))
    files = sorted(tmp_path.glob("*.db"))
    assert len(files) == count + 1 > 7
    found = [rows(file, "SELECT state, gate FROM jobs ORDER BY id") for file in files]
    before = [("running", None), ("pending", 0)]
    after = [("completed", None), ("pending", 0), ("pending", 0), ("pending", 0)]
    assert found == [before] * count + [after]


def test_a_job_that_is_cancelled_while_it_ends_has_one_terminal_state(tmp_path: Path) -> None:
    """J13: what has completed is COMPLETED, what was to run again is CANCELLED, whoever comes first."""
    told = dict(line.split() for line in run_children("end_and_cancel_at_once", tmp_path).splitlines())
    ended = rows(tmp_path / "jobs.db", "SELECT id, state, cancel_requested FROM jobs")
    assert len(told) == len(ended) == JOBS_ENDED
    for job, state, cancel_requested in ended:
        assert (state, cancel_requested) == ("cancelled" if job % 2 else "completed", 0)
        assert told[str(job)] in (("NOW", "ASKED") if job % 2 else ("TOO_LATE", "ASKED"))


def test_four_that_tick_the_same_periods_enqueue_each_once(tmp_path: Path) -> None:
    """T4: one job per period and schedule, in their order."""
    run_children("tick_at_once", tmp_path)
    for schedule in ("one", "two"):
        found = rows(tmp_path / "jobs.db", f"SELECT name FROM jobs WHERE schedule = '{schedule}' ORDER BY id")
        assert found == [(str(period),) for period in range(PERIODS)]
