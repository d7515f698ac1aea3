"""What a worker process must not do while it imports a module: start engines, and enqueue jobs."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from engine import _lineage
from engine.jobs import Jobs, MemoryStore

STUCK = 60

STARTS_AN_ENGINE = """
from engine import Engine

def square(number):
    return number * number

with Engine(processes=1) as engine:
    print(list(engine.map(square, [1, 2])))
"""


def test_a_program_without_a_guard_starts_no_engines_without_end(tmp_path: Path) -> None:
    """E168: its worker imports the module of the function, which starts an engine, whose worker imports it, ..."""
    (tmp_path / "unguarded.py").write_text(STARTS_AN_ENGINE)
    run = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:] = {[str(tmp_path), *sys.path]!r}; import unguarded"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=STUCK, check=False,
    )  # fmt: skip
    assert run.returncode == 1
    assert (
        "expected an engine to be started in a program or a task, got it while a worker process imports" in run.stderr
    )
    assert 'put it under: if __name__ == "__main__":' in run.stderr


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Jobs:
    """Jobs that an imported module finds as ``engine.the_jobs``, in a process that takes itself for a worker."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(_lineage, "is_worker", True)
    made = Jobs(MemoryStore())
    monkeypatch.setattr("engine.the_jobs", made, raising=False)
    return made


@pytest.mark.parametrize("enqueue", ["enqueue()", "call().enqueue()", "options(delay=1).enqueue()"])
def test_a_module_that_enqueues_does_not_do_so_in_each_worker(enqueue: str, jobs: Jobs, tmp_path: Path) -> None:
    """E168: each worker process would do so again."""
    task = jobs.task(name="nothing")(lambda: None)
    jobs.tasks_of_the_module = {"nothing": task}  # type: ignore[attr-defined]  # how the module below finds it
    name = f"enqueues_{abs(hash(enqueue))}"
    (tmp_path / f"{name}.py").write_text(f"import engine\nengine.the_jobs.tasks_of_the_module['nothing'].{enqueue}\n")
    with pytest.raises(
        RuntimeError, match=f"expected a job to be enqueued in a program or a task, .* imports '{name}'"
    ):
        importlib.import_module(name)
    task.enqueue().result()  # not while a module is imported: a task may
    assert len(jobs.list().result()) == 1
