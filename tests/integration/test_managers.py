"""Objects of a ``multiprocessing.Manager`` as arguments of process tasks."""

import multiprocessing
from typing import Any

import pytest

from engine import BlockingEngine


def fill(results: Any, key: str, value: int) -> None:
    results[key] = value


@pytest.mark.parametrize("backend", ["native", "loky"])
def test_a_task_uses_what_a_manager_of_its_parent_holds(backend: str) -> None:
    """E75: multiprocessing makes its key at random in each process, and a worker takes its parent's."""
    with multiprocessing.get_context("spawn").Manager() as manager:
        results = manager.dict()
        with BlockingEngine(processes=1, process_backend=backend) as engine:
            engine.run(abs, -1)  # the worker is there, and has not imported multiprocessing
            engine.run(fill, results, "a", 1)
            engine.run(fill, results, "b", 2)
        assert dict(results) == {"a": 1, "b": 2}
    manager.join()
