"""The checker is itself checked: a run without defects is good, and each seeded defect is caught under its name."""

import ast
import os
import threading
from pathlib import Path

import pytest

from stress import _ledger
from stress._ledger import BEGUN, DOOMED, ENDED, Execution, Promise, append, check, doomed, read


def kept(number: int, **changes: object) -> Promise:
    """Return the promise of a call that completed as it should."""
    promise = Promise(number, f"t{number}", accepted=True, state="completed", started=True, attempts=1, rounds=1)
    for name, value in changes.items():
        setattr(promise, name, value)
    return promise


def run(number: int, begun: float, ended: float | None, *, pid: int = 1, token: str | None = None) -> list[Execution]:
    """Return the lines of one execution; ``ended`` None is one that was cut short."""
    token = token or f"t{number}"
    lines = [Execution(number, token, BEGUN, pid, begun)]
    return lines if ended is None else [*lines, Execution(number, token, ENDED, pid, ended)]


def test_kept_promises_are_good() -> None:
    promises = [
        kept(1),
        kept(2, state="failed", attempts=3, most_attempts=3),
        kept(3, state="cancelled", started=False, attempts=0, cancel_answers=[True, False]),
        kept(4, state="cancelled", cancel_answers=[True]),
        Promise(5, "t5"),
    ]
    executions = [*run(1, 0, 1), *run(2, 0, 1), *run(2, 1, 2), *run(2, 2, None), *run(4, 0, None)]
    verdict = check(promises, executions)
    assert verdict.is_good, verdict.faults
    assert verdict.executed == 5


def ended(number: int, state: str, *outcomes: str, **changes: object) -> Promise:
    """Return the promise of a call that may end of itself in ``outcomes`` only."""
    return kept(number, state=state, outcomes=frozenset(outcomes), **changes)


def crashed(number: int, pid: int, *outcomes: str, **changes: object) -> Promise:
    """Return the promise of a call that was charged with the death of ``pid``."""
    return ended(
        number, "failed", *outcomes, **{"error": "WorkerCrashed", "blamed_pid": pid, "blamed_at": 10.0, **changes}
    )


KILLED = [(9, 0.0)]  #: by our hand


def test_explained_ends_are_good() -> None:
    promises = [
        ended(1, "completed", "completed"),
        ended(2, "failed", "ValueError", error="ValueError"),
        ended(3, "cancelled", "completed", cancel_answers=[False, True]),
        crashed(4, 9, "completed"),
        crashed(5, 8, "WorkerCrashed"),
        ended(6, "completed", "completed", attempts=2, most_attempts=2),
    ]
    executions = [
        *run(1, 0, 1, pid=9),
        *run(2, 1, 2, pid=9),
        *run(3, 2, None, pid=7),
        *run(4, 3, None, pid=9),
        *run(6, 0, None, pid=6),  # cut short, and retried
        *run(6, 1, 2, pid=8),  # then 8 died as it took the fifth, before that wrote a line
    ]
    verdict = check(promises, executions, KILLED)
    assert verdict.is_good, verdict.faults
    assert verdict.recovered == 1


def test_a_process_that_says_so_died_by_our_hand(tmp_path: Path) -> None:
    path = str(tmp_path / "ledger")
    append(path, 1, "t1", BEGUN)
    append(path, 1, "t1", DOOMED)
    lines = read(path)
    assert [pid for pid, _ in doomed(lines)] == [os.getpid()]
    promise = crashed(1, os.getpid(), "completed")
    assert check([promise], lines, doomed(lines)).is_good
    assert set(check([promise], lines).faults) == {"unexplained"}


DEFECTS = {
    "the result was made up": ("lost", kept(1), []),
    "the result came before the end": ("lost", kept(1), run(1, 0, None)),
    "what was refused ran": ("unexpected", Promise(1, "t1"), run(1, 0, 1)),
    "what nobody submitted ran": ("unexpected", kept(2), [*run(1, 0, 1), *run(2, 0, 1)]),
    "another call's arguments ran": ("unexpected", kept(1), [*run(1, 0, 1), *run(1, 2, 3, token="stale")]),
    "it ran once more than it may": ("duplicated", kept(1), [*run(1, 0, 1), *run(1, 2, 3)]),
    "an attempt was not counted": ("duplicated", kept(1, most_attempts=3), [*run(1, 0, 1), *run(1, 2, 3)]),
    "two attempts at once": (
        "overlapped",
        kept(1, attempts=2, most_attempts=2),
        [*run(1, 0, 2, pid=1), *run(1, 1, 3, pid=2)],
    ),
    "a cut one began inside another": (
        "overlapped",
        kept(1, attempts=2, most_attempts=2),
        [*run(1, 0, 2, pid=1), *run(1, 1, None, pid=2)],
    ),
    "cancelled in the queue, and ran": ("ghost", kept(1, state="cancelled", started=False, attempts=1), run(1, 0, 1)),
    "forgotten": ("hung", kept(1, state=None), []),
    "called back twice": ("double_terminal", kept(1, rounds=2), run(1, 0, 1)),
    "never called back": ("double_terminal", kept(1, rounds=0), run(1, 0, 1)),
    "changed its mind": ("double_terminal", kept(1, states_seen=["failed"]), run(1, 0, 1)),
    "a cancellation was swallowed": ("resurrected", kept(1, cancel_answers=[False, True]), run(1, 0, 1)),
    "the value of another": ("wrong", kept(1, right_value=False), run(1, 0, 1)),
    "an attempt that nobody asked for": ("duplicated", kept(1, attempts=2), run(1, 0, 1)),
    "poison that went down well": ("wrong", ended(1, "completed", "PickleError"), run(1, 0, 1)),
    "another error than its own": ("unexplained", ended(1, "failed", "ValueError", error="RemoteError"), run(1, 0, 1)),
    "failed without a reason": ("unexplained", ended(1, "failed", "completed", error="PickleError"), run(1, 0, 1)),
    "cancelled by nobody": ("unexplained", ended(1, "cancelled", "completed", started=False, attempts=0), []),
    "cancelled after a False": ("unexplained", ended(1, "cancelled", "completed", cancel_answers=[False]), []),
    "a worker that nobody killed": ("unexplained", crashed(1, 8, "completed"), run(1, 0, None, pid=8)),
    "charged before it began": ("misblamed", crashed(1, 9, "completed", started=False, attempts=0), []),
}


@pytest.mark.parametrize(("kind", "promise", "executions"), DEFECTS.values(), ids=DEFECTS.keys())
def test_a_seeded_defect_is_caught(kind: str, promise: Promise, executions: list[Execution]) -> None:
    verdict = check([promise], executions, KILLED)
    assert not verdict.is_good
    assert set(verdict.faults) == {kind}


MISBLAMED = {
    "the one before": ([1], [crashed(1, 9, "completed"), kept(2, state="failed")], [*run(1, 0, 1), *run(2, 1, None)]),
    "the one behind": ([2], [kept(1, state="failed"), crashed(2, 9, "completed")], run(1, 0, None)),
    "both": ([1, 2], [crashed(1, 9, "completed"), crashed(2, 9, "completed")], run(1, 0, None)),
}


@pytest.mark.parametrize(("wrong", "promises", "executions"), MISBLAMED.values(), ids=MISBLAMED.keys())
def test_a_death_is_charged_to_one_and_to_the_right_one(
    wrong: list[int], promises: list[Promise], executions: list[Execution]
) -> None:
    """The worker, 9, was in one of two calls when it was killed; the ledger knows in which."""
    executions = [Execution(line.number, line.token, line.step, 9, line.at) for line in executions]
    assert check(promises, executions, KILLED).faults == {"misblamed": wrong}


def test_a_call_that_was_tried_again_may_die_before_it_writes() -> None:
    """Its first attempt ended in worker 9, another call ran there, then the second attempt came and left no line."""
    promises = [crashed(1, 9, "completed", attempts=2, most_attempts=2), kept(2)]
    executions = [*run(1, 0, 0.2, pid=9), *run(2, 0.3, 0.4, pid=9)]
    assert check(promises, executions, KILLED).is_good
    executions = [*run(1, 0, 0.2, pid=9), *run(2, 0.3, None, pid=9)]
    promises[1] = kept(2, state="failed")
    assert check(promises, executions, KILLED).faults == {"misblamed": [1]}  # then it was in the other one


def test_a_pid_that_comes_again_is_another_process() -> None:
    """Two deaths of number 9, minutes apart; the second left no line of its own."""
    promises = [crashed(1, 9, "completed", blamed_at=2.0), crashed(2, 9, "completed", blamed_at=300.0)]
    executions = run(1, 1, None, pid=9)
    assert check(promises, executions, [(9, 1.5), (9, 299.0)]).is_good
    assert check(promises, executions, [(9, 1.5)]).faults == {"unexplained": [2]}
    promises[0] = kept(1, attempts=2, most_attempts=2)  # that one was retried elsewhere
    assert check(promises[:2], [*executions, *run(1, 3, 4, pid=5)], [(9, 299.0)]).is_good


def test_lines_of_many_threads_and_processes_do_not_mix(tmp_path: Path) -> None:
    path = str(tmp_path / "ledger")
    assert read(path) == []

    def write(number: int) -> None:
        for step in range(50):
            append(path, number, f"t{step}", BEGUN)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = read(path)
    assert len(lines) == 400
    assert {line.pid for line in lines} == {os.getpid()}
    assert {(line.number, line.token) for line in lines} == {(n, f"t{s}") for n in range(8) for s in range(50)}


def test_the_checker_imports_nothing_that_it_judges() -> None:
    tree = ast.parse(Path(_ledger.__file__).read_text(encoding="utf-8"))
    modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    modules += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert not [module for module in modules if module.split(".")[0] in ("engine", "stress", "tests")]
