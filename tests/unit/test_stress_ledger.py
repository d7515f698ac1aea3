"""The checker is itself checked: a run without defects is good, and each seeded defect is caught under its name."""

import ast
import os
import threading
from pathlib import Path

import pytest

from stress import _ledger
from stress._ledger import BEGUN, ENDED, Execution, Promise, append, check, read


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
}


@pytest.mark.parametrize(("kind", "promise", "executions"), DEFECTS.values(), ids=DEFECTS.keys())
def test_a_seeded_defect_is_caught(kind: str, promise: Promise, executions: list[Execution]) -> None:
    verdict = check([promise], executions)
    assert not verdict.is_good
    assert set(verdict.faults) == {kind}


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
