"""Tasks of durable jobs in an engine: what they are there, and what travels to its worker processes."""

import importlib
import inspect
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import BlockingEngine, Engine, Lane, PickleError
from engine.jobs import Jobs, JobsError, MemoryStore
from tests.support import REPOSITORY
from tests.unit.jobs.by_hand import PATIENCE


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Give ``travelling_jobs`` with a file of its own, here and in the workers that are started."""
    monkeypatch.setenv("JOBS_PATH", str(tmp_path / "jobs.db"))
    sys.modules.pop("tests.integration.travelling_jobs", None)
    imported = importlib.import_module("tests.integration.travelling_jobs")
    yield imported
    imported.jobs.close()


def test_a_task_of_a_module_travels_by_name(module: Any) -> None:
    assert pickle.loads(pickle.dumps(module.double)) is module.double
    assert b"travel.double" not in pickle.dumps(module.double)  # its settings stay
    with Engine(processes=1) as engine:
        task = engine.submit(module.double, 4)  # the lane that it says is where it runs
        assert (task.result(PATIENCE), task.lane) == (8, Lane.PROCESS)
        pid, job_id = engine.submit(module.enqueue_more, 5).result(PATIENCE)
        task = engine.submit(module.add, 1, second=2)
        assert (task.result(PATIENCE), task.lane) == (3, Lane.LOOP)
    assert pid != os.getpid()
    found = module.jobs.get(job_id).result(PATIENCE)
    assert (found.name, found.queue, found.args) == ("travel.double", "more", {"number": 5})


def by_value(jobs: Jobs) -> Any:
    step = 3

    @jobs.task(name="closure", lane="process")
    def closure(number: int) -> int:
        return number + step

    return closure


def test_a_task_that_is_a_closure_travels_with_its_function_and_can_only_be_called(engine: BlockingEngine) -> None:
    """E122: it runs in the worker; to enqueue there says what to do."""
    closure = by_value(Jobs(MemoryStore()))
    assert engine.submit(closure, 4).result(PATIENCE) == 7
    assert engine.submit(lambda: str(inspect.signature(closure))).result(PATIENCE) == "(number: int) -> int"
    with pytest.raises(JobsError, match="define it in a module that the worker can import, not in __main__"):
        engine.submit(lambda: closure.enqueue(4)).result(PATIENCE)


def test_a_function_that_holds_its_jobs_says_what_to_do(engine: BlockingEngine) -> None:
    """E122: Jobs does not travel, nor does its store."""
    jobs = Jobs(MemoryStore())

    @jobs.task(lane="process")
    def holds_it() -> str:
        return jobs.name

    with pytest.raises(PickleError, match="have the function find it in its own module"):
        engine.submit(holds_it).result(PATIENCE)


@pytest.fixture
def engine() -> Iterator[BlockingEngine]:
    with Engine(processes=1) as started:
        yield started


ENDER = """
import sys
from engine.jobs import Jobs
from tests.unit.jobs.by_hand import claim, end

with Jobs(sys.argv[1]) as jobs:
    end(jobs, claim(jobs), result='"elsewhere"')
"""


def test_a_wait_ends_with_a_job_that_another_process_runs(tmp_path: Path) -> None:
    """E121: the file tells of it."""
    with Jobs(tmp_path / "jobs.db") as jobs:
        job = jobs.task(name="send")(lambda: None).enqueue().result(PATIENCE)
        waiting = job.wait()
        run = subprocess.run(
            [sys.executable, "-c", ENDER, tmp_path / "jobs.db"],
            cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert run.stderr == ""
        assert waiting.result(PATIENCE).result() == "elsewhere"


SCRIPT = """
import os, sys
from engine import Engine
from engine.jobs import Jobs, JobsError

jobs = Jobs(sys.argv[1])

@jobs.task(lane="process")
def double(number: int) -> int:
    return 2 * number

def enqueue_there() -> None:
    double.enqueue(5)

if __name__ == "__main__":
    print(double.name, double.enqueue(4).result(20).name)
    with Engine(processes=1) as engine:
        print(engine.submit(double, 4).result(20))
        try:
            engine.submit(enqueue_there).result(20)
        except JobsError as error:
            print(error)
    jobs.close()
"""


def test_a_task_of_a_script_runs_in_its_worker_processes(tmp_path: Path) -> None:
    """E122: it travels with its function; E118: its name is that of the module that the script is."""
    (tmp_path / "shop.py").write_text(SCRIPT)
    path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    run = subprocess.run(
        [sys.executable, "shop.py", "jobs.db"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert run.stderr == ""
    name, doubled, error = run.stdout.splitlines()
    assert (name, doubled) == ("shop.double shop.double", "8")
    assert "expected 'shop.double' to be enqueued where its Jobs is, got a worker process" in error
