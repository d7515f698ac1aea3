"""CPython's test classes, given our executors in place of the standard ones.

Only names change: the mixins that set ``executor_type``, the name ``futures`` in the modules that make executors of
their own, the import in the scripts that they run, and where a context's semaphores and queues live. Runs in a child.
"""

import concurrent.futures.process
import importlib
import os
import sys
import unittest
from multiprocessing import context, get_context
from multiprocessing.managers import SyncManager
from typing import Any

from tests.compat import subjects
from tests.support import REPOSITORY

__all__ = ["SUITES", "install", "names"]

MODULES = ("as_completed", "deadlock", "init", "process_pool", "shutdown", "thread_pool", "wait")
#: Which classes of the suite are ours, by how their names begin. A worker of ours is always a fresh interpreter.
SUITES = {"processes": "ProcessPoolSpawn", "threads": "ThreadPool"}

# Asked of a script: it imports our executors by the standard ones' names, and finds what the tests here find.
IMPORT = ("from concurrent.futures import ", "from tests.compat.subjects import ")
PRELUDE = f"import sys; sys.path.append({str(REPOSITORY)!r}); import multiprocessing\n"


class Process:
    """``concurrent.futures.process``, where a worker's traceback is ours."""

    _RemoteTraceback = subjects.RemoteTraceback

    def __getattr__(self, name: str) -> Any:
        return getattr(concurrent.futures.process, name)


class Futures:
    """``concurrent.futures`` with our executors."""

    ProcessPoolExecutor = subjects.ProcessPoolExecutor
    ThreadPoolExecutor = subjects.ThreadPoolExecutor
    process = Process()

    def __getattr__(self, name: str) -> Any:
        return getattr(concurrent.futures, name)


class ManagedContext(context.SpawnContext):
    """The spawn context, but its semaphores and queues live in a manager: those travel as arguments of calls.

    The context's own travel only while it starts a process itself, which is how the standard executor passes them.
    """

    _manager: SyncManager | None = None

    def _managed(self) -> SyncManager:
        if self._manager is None:
            self._manager = get_context("spawn").Manager()
        return self._manager

    def Semaphore(self, value: int = 1) -> Any:
        return self._managed().Semaphore(value)

    def Queue(self, maxsize: int = 0) -> Any:
        return self._managed().Queue(maxsize)

    def end(self) -> None:
        """End the manager, if anything was asked of it."""
        if self._manager is not None:
            self._manager.shutdown()
            self._manager.join()  # lets its process go, before the suite forgets the finalizer that closes the pipes


def _get_context(test: Any) -> ManagedContext:
    """Return the test's context, the same one each time."""
    made: ManagedContext | None = getattr(test, "_managed_context", None)
    if made is None:
        made = test._managed_context = ManagedContext()
        test.addCleanup(made.end)
    return made


def _run_script(*arguments: str) -> Any:
    """Run a script as the suite does, but with our executors and without isolation from our paths."""
    script_helper = importlib.import_module("test.support.script_helper")
    option, script = arguments
    if IMPORT[0] not in script:
        raise AssertionError(f"expected the script to import from concurrent.futures, got {script}")
    return script_helper.assert_python_ok(
        option, PRELUDE + script.replace(*IMPORT), PYTHONPATH=os.environ["PYTHONPATH"]
    )


def install() -> None:
    """Give CPython's tests our executors."""
    modules = {name: importlib.import_module(f"test.test_concurrent_futures.test_{name}") for name in MODULES}
    util: Any = importlib.import_module("test.test_concurrent_futures.util")
    util.ThreadPoolMixin.executor_type = subjects.ThreadExecutor
    util.ProcessPoolSpawnMixin.executor_type = subjects.ProcessExecutor
    util.ProcessPoolSpawnMixin.get_context = _get_context
    for name in ("process_pool", "shutdown", "thread_pool"):
        modules[name].futures = Futures()  # type: ignore[attr-defined]  # a module that is not ours
    modules["shutdown"].assert_python_ok = _run_script  # type: ignore[attr-defined]  # as above
    subjects.RemoteTraceback.tb = property(lambda self: self.traceback)  # type: ignore[attr-defined]  # its name there
    if sys.version_info < (3, 13):
        os.process_cpu_count = lambda: len(os.sched_getaffinity(0))  # type: ignore[attr-defined]  # new in 3.13


def names(suite: str) -> list[str]:
    """Return the tests of a suite: ``module.class.test``."""
    loader = unittest.defaultTestLoader
    found = []
    for module in MODULES:
        path = f"test.test_concurrent_futures.test_{module}"
        for name, kind in sorted(vars(importlib.import_module(path)).items()):
            if name.startswith(SUITES[suite]) and isinstance(kind, type) and kind.__module__ == path:
                found += [f"test_{module}.{name}.{each}" for each in loader.getTestCaseNames(kind)]
    return found
