"""The campaigns against durable jobs at a small size: they pass, and a queue with a defect is called by its fault."""

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("apsw", reason="jobs in a file need the extra jobs")

from engine.jobs._book import Book  # after the look for apsw
from engine.jobs._moment import Moment
from engine.jobs._records import Ending
from engine.jobs._sqlite import book as _book
from engine.jobs._sqlite import ending as _ending
from engine.jobs._sqlite import enqueueing as _enqueueing
from stress import failpoints, jobs_crash
from stress._jobs_script import make_script
from tests.integration.stress_runs import a_seed, result_of, run_stress


def test_engines_are_killed_and_every_acknowledged_job_ends() -> None:
    """Q1, J15, W11: nothing is lost, nothing recorded by a run that had lost its claim, the file is whole."""
    run = run_stress(
        "jobs_crash", "--jobs", "600", "--kills", "4", "--stops", "0", "--workers", "2", "--seed", a_seed()
    )
    assert run.returncode == 0, run.stdout + run.stderr
    result = result_of(run)
    assert result["ok"] is True
    assert result["faults"] == result["left"] == {}
    assert result["kills"] == 4
    assert result["counters"]["lost_holders"] >= 4
    assert result["executed"] > result["acknowledged"]


def test_an_engine_that_ends_by_itself_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checker is checked: only what was killed may be gone."""
    run = jobs_crash.Campaign(jobs_crash.Settings(10, 0, 0, 2, 0.0, 1), str(tmp_path))
    monkeypatch.setattr(run, "start_worker", lambda: None)
    run.workers = [
        subprocess.Popen([sys.executable, "-c", f"import os; {how}"])
        for how in ("os.kill(os.getpid(), 15)", "os._exit(3)", KILL)
    ]
    for worker in run.workers:
        worker.wait(60)
    run.replace_the_dead()
    assert (run.ended, run.deaths, run.workers) == ([-signal.SIGTERM, 3], 1, [])


KILL = "os.kill(os.getpid(), 9)"


def faults(seed: str, length: int, folder: Path) -> Iterator[list[str]]:
    """Die at each statement of one script; give what was wrong each time."""
    script = make_script(seed, length)
    return failpoints.crashes_of(script, failpoints.states_of_the_model(script), str(folder))


def test_a_death_at_any_statement_leaves_all_of_a_verb_or_nothing(tmp_path: Path) -> None:
    """Q2: one script, a death at each of its statements; the file is then in a state that the model was in."""
    found = list(faults(a_seed(), 6, tmp_path))
    assert [wrong for wrong in found if wrong] == []
    assert len(found) > 30


def test_a_verb_that_commits_in_its_middle_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checker is checked: two transactions where one was promised."""

    def torn(self: Any, jobs: Sequence[Any], now: Moment) -> list[int]:
        ids = []
        for job in jobs:
            ids += _enqueueing.insert(self._connection, [job], now)
            self._connection.execute("COMMIT")
            self._connection.execute("BEGIN IMMEDIATE")
        return ids

    monkeypatch.setattr(_book.SQLiteBook, "enqueue", torn)
    monkeypatch.setattr("stress._jobs_script._Author._enqueue", three_at_once)
    [wrong] = next(wrong for wrong in faults("any", 2, tmp_path) if wrong)
    assert re.match(r"statement \d+: after \d verbs: expected one of", wrong)


def three_at_once(author: Any) -> Callable[[Book, Moment], Any]:
    """Enqueue three jobs in one verb."""
    jobs = [author._job() for _ in range(3)]
    return lambda book, now: book.enqueue(jobs, now)


def test_an_end_that_forgets_what_follows_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checker is checked: a verb that does less than the model's."""
    end = _ending.end

    def forgetful(connection: Any, endings: Sequence[Ending], now: Moment) -> Any:
        bare = [Ending(each.id, each.token, each.end, each.result, each.failure, each.delay) for each in endings]
        return end(connection, bare, now)

    monkeypatch.setattr(_ending, "end", forgetful)
    script = make_script("3 0")
    states = failpoints.states_of_the_model(script)
    last = failpoints.die_at(10**9, str(tmp_path / "jobs.db"), script)
    assert last.is_over
    assert failpoints.look_at(str(tmp_path / "jobs.db"), script) != states[-1]


@pytest.mark.parametrize(("name", "images"), [("job_images", "27"), ("job_power", "10")])
def test_no_damage_and_no_power_failure_loses_or_invents_a_job(name: str, images: str) -> None:
    """Q3, Q6: the campaigns themselves; what they look for is tried in ``test_job_store_*``."""
    run = run_stress(name, "--images", images, "--seed", a_seed())
    assert run.returncode == 0, run.stdout + run.stderr
    result = result_of(run)
    assert (result["ok"], result["images"], result["faults"], result["left"]) == (True, int(images), {}, {})
