"""The checker of ``jobs_crash`` is checked: each seeded defect is called by its name, and what is well is not."""

from collections.abc import Sequence

import pytest

from stress._jobs_ledger import Fault, JobPromise, JobVerdict, Row, check_jobs
from stress._ledger import BEGUN, DOOMED, ENDED, Execution

COMPLETED, FAILED = frozenset({"completed"}), frozenset({"failed"})
ENGINE = 100


def ran(number: int, token: int, at: float, *, ended: bool = True, engine: int = ENGINE) -> list[Execution]:
    """Give the lines of one run of half a second."""
    lines = [Execution(number, f"{token}:{engine}", BEGUN, engine, at)]
    return [*lines, Execution(number, f"{token}:{engine}", ENDED, engine, at + 0.5)] if ended else lines


def row(
    number: int, state: str = "completed", token: int = 1, recorded: int | None = 1, lock: str | None = None
) -> Row:
    """Give a row whose result is that of the run with the token ``recorded``."""
    return Row(number, state, token, None if recorded is None else f"{recorded}:{ENGINE}", lock, "calm")


def promised(number: int, outcomes: frozenset[str] = COMPLETED, **said: bool) -> JobPromise:
    """Give an acknowledged promise."""
    return JobPromise(number, outcomes, **{"acknowledged": True, **said})


def faults(
    promises: Sequence[JobPromise], rows: Sequence[Row], lines: Sequence[Execution], done: Sequence[Fault] = ()
) -> dict[str, list[int]]:
    """Return what the checker finds."""
    return {kind: numbers for kind, numbers in check_jobs(promises, rows, lines, done).faults.items() if numbers}


def test_what_is_well_is_not_called_a_fault() -> None:
    promises = [promised(1), promised(2, FAILED, reruns=True), promised(3), promised(-1, is_follow_up=True)]
    rows = [row(1), row(2, "failed", 2, None), row(3, token=2, recorded=2), row(-1)]
    again = [*ran(3, 1, 10, ended=False), *ran(3, 2, 20)]
    lines = [*ran(1, 1, 1), *ran(2, 1, 2, ended=False), *ran(2, 2, 3, ended=False), *again, *ran(-1, 1, 5)]
    verdict = check_jobs(promises, rows, lines, [Fault(ENGINE, 11)])
    assert {kind: numbers for kind, numbers in verdict.faults.items() if numbers} == {}
    assert (verdict.executed, verdict.explained, verdict.recovered) == (6, 1, 0)


def test_who_enqueued_may_have_died_around_the_commit() -> None:
    """J15: what was tried and never acknowledged is there or not; what is there counts as recovered."""
    promises = [promised(1, acknowledged=False), promised(2, acknowledged=False)]
    verdict = check_jobs(promises, [row(1)], ran(1, 1, 1), [])
    assert verdict == JobVerdict(verdict.faults, executed=1, explained=0, recovered=1)
    assert not any(verdict.faults.values())


DEFECTS = {
    "an acknowledged job has no row": ("lost", [promised(1)], [], []),
    "a completed job never ran to its end": ("lost", [promised(1)], [row(1)], ran(1, 1, 1, ended=False)),
    "a row that nobody enqueued": ("invented", [], [row(1)], []),
    "a run of a job without a row": ("invented", [promised(1, acknowledged=False)], [], ran(1, 1, 1)),
    "two rows of one job": ("doubled", [promised(1)], [row(1), row(1)], ran(1, 1, 1)),
    "a job that never ends": ("hung", [promised(1)], [row(1, "running", recorded=None)], ran(1, 1, 1, ended=False)),
    "a calm job that failed": ("wrong", [promised(1)], [row(1, "failed", recorded=None)], ran(1, 1, 1)),
    "the fence is forgotten": ("stale", [promised(1)], [row(1, token=2, recorded=1)], ran(1, 1, 1)),
    "it ran twice, and nobody was killed": (
        "unexplained", [promised(1)], [row(1, token=2, recorded=2)], [*ran(1, 1, 1), *ran(1, 2, 2)],
    ),
    "two at once with one lock": (
        "overlapped", [promised(1), promised(2)], [row(1, lock="a"), row(2, lock="a")],
        [*ran(1, 1, 1), *ran(2, 1, 1.2)],
    ),
    "completed without what follows": (
        "parted", [promised(1), promised(-1, is_follow_up=True)], [row(1)], ran(1, 1, 1),
    ),
    "what follows, without what was before": (
        "parted", [promised(1, FAILED), promised(-1, is_follow_up=True)],
        [row(1, "failed", recorded=None), row(-1)], [*ran(1, 1, 1), *ran(-1, 1, 2)],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "promises", "rows", "lines"), DEFECTS.values(), ids=DEFECTS.keys())
def test_a_seeded_defect_is_called_by_its_name(
    kind: str, promises: list[JobPromise], rows: list[Row], lines: list[Execution]
) -> None:
    assert kind in faults(promises, rows, lines)


def test_only_a_fault_after_the_run_had_begun_explains_another_run() -> None:
    promises, rows = [promised(1)], [row(1, token=2, recorded=2)]
    lines = [*ran(1, 1, 10, ended=False), *ran(1, 2, 20, engine=200)]
    rows = [Row(1, "completed", 2, "2:200", None, "calm")]
    assert faults(promises, rows, lines, [Fault(ENGINE, 11)]) == {}
    assert faults(promises, rows, lines, [Fault(ENGINE, 5, 12)]) == {}
    assert faults(promises, rows, lines, [Fault(ENGINE, 5, 7)]) == {"unexplained": [1]}
    assert faults(promises, rows, lines, [Fault(200, 11)]) == {"unexplained": [1]}


def test_a_job_under_which_three_engines_were_killed_may_be_taken_for_the_culprit() -> None:
    """Nobody can tell it from a job that kills its engine; two such deaths do not suffice."""
    engines = [(1, 10.0), (2, 20.0), (3, 30.0)]
    lines = [line for pid, at in engines for line in ran(1, pid, at, ended=False, engine=pid)]
    rows, kills = [row(1, "failed", 3, None)], [Fault(pid, at + 0.1) for pid, at in engines]
    verdict = check_jobs([promised(1)], rows, lines, kills)
    assert not any(verdict.faults.values())
    assert verdict.unlucky == 1
    assert "wrong" in faults([promised(1)], rows, lines, kills[:2])


def test_a_job_that_kills_its_engine_explains_what_ran_beside_it() -> None:
    lines = [*ran(1, 1, 10, ended=False), *ran(1, 2, 20), Execution(2, f"1:{ENGINE}", BEGUN, ENGINE, 11)]
    lines.append(Execution(2, f"1:{ENGINE}", DOOMED, ENGINE, 11.1))
    promises = [promised(1), promised(2, FAILED, reruns=True)]
    assert faults(promises, [row(1, token=2, recorded=2), row(2, "failed", recorded=None)], lines) == {}
