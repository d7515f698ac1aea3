"""The names that ``engine`` promises, and what they cost to import."""

import importlib
import json
import pkgutil
import subprocess
import sys
from concurrent.futures import BrokenExecutor
from pickle import PicklingError

import pytest

import engine
from engine import errors

NAMES = [
    "BlockingEngine", "BlockingTaskGroup", "CurrentTask", "DependencyFailed", "Engine", "EngineClosed", "EngineError",
    "EngineForked", "EngineFull", "Lane", "LaneSnapshot", "NestedDeadlock", "PayloadTooLarge", "PickleError",
    "Priority", "Progress", "RemoteError", "ResultDecodeError", "Retry", "ShareError", "Shared", "ShutdownReport",
    "Snapshot", "Task", "TaskCancelled", "TaskDecodeError", "TaskGroup", "TaskInfo", "TaskState", "TaskTimeout",
    "WorkerCrashed", "WorkerInfo", "WorkerMemoryExceeded", "WorkerStartupError", "checkpoint", "cpu", "current_task",
    "io", "task",
]  # fmt: skip


def in_new_interpreter(code: str) -> str:
    """Run ``code`` in a fresh interpreter that finds what this one finds; return what it printed."""
    prologue = f"import sys; sys.path[:] = {sys.path!r}\n"
    return subprocess.run(
        [sys.executable, "-c", prologue + code], check=True, capture_output=True, text=True, timeout=60
    ).stdout


def test_the_promised_names_are_there() -> None:
    assert set(NAMES) <= set(engine.__all__)
    assert engine.__all__ == sorted(engine.__all__)
    for name in engine.__all__:
        assert getattr(engine, name) is not None
        assert name in dir(engine)


def test_a_star_import_gives_them_all() -> None:
    printed = in_new_interpreter("from engine import *; import json; print(json.dumps(sorted(globals())))")
    assert set(engine.__all__) <= set(json.loads(printed))


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'engine' has no attribute 'Engin'"):
        engine.Engin  # noqa: B018  # the access is what is tested


@pytest.mark.parametrize("name", ["task", "cpu", "io"])
def test_the_decorator_is_not_replaced_by_a_module_of_its_name(name: str) -> None:
    for module in pkgutil.iter_modules(engine.__path__):
        if module.name not in ("__main__",):
            importlib.import_module(f"engine.{module.name}")
    assert callable(getattr(engine, name))


def test_every_public_module_lists_its_names_sorted() -> None:
    for module in pkgutil.iter_modules(engine.__path__):
        if not module.name.startswith("_"):
            public = importlib.import_module(f"engine.{module.name}")
            if hasattr(public, "__all__"):
                assert list(public.__all__) == sorted(public.__all__), module.name


@pytest.mark.parametrize(
    "heavy", ["loky", "cloudpickle", "psutil", "multiprocessing", "numpy", "sqlite3", "json", "random", "engine._core"]
)
def test_importing_engine_imports_nothing_heavy(heavy: str) -> None:
    """Workers import the package too; naming ``Engine`` comes within 30 ms of asyncio alone."""
    code = f"import engine; engine.Engine; import sys; print({heavy!r} in sys.modules)"
    assert in_new_interpreter(code).strip() == "False"


def test_the_first_engine_is_refused_at_interpreter_exit_before_it_imports_anything() -> None:
    """E190: what it runs on is imported by its start, and cannot be imported any more by then."""
    code = """if True:
    import asyncio, atexit, sys
    async def late():
        try:
            await Engine().start()
        except EngineClosed:
            print("refused", "engine._core" in sys.modules)
    atexit.register(lambda: asyncio.run(late()))  # the first to be registered is the last to be called
    from engine import Engine, EngineClosed
    """
    assert in_new_interpreter(code).split() == ["refused", "False"]


def test_importing_engine_alone_does_not_even_import_asyncio() -> None:
    assert in_new_interpreter("import engine; print('asyncio' in sys.modules)").strip() == "False"


@pytest.mark.parametrize("name", errors.__all__)
def test_an_error_without_a_message_says_what_its_class_says(name: str) -> None:
    kind = getattr(errors, name)
    if issubclass(kind, errors.EngineError):
        assert str(kind()) == (kind.__doc__ or "").split("\n")[0]
        assert str(kind("mine")) == "mine"


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("EngineClosed", RuntimeError), ("EngineForked", RuntimeError), ("TaskTimeout", TimeoutError),
        ("WorkerCrashed", BrokenExecutor), ("WorkerStartupError", BrokenExecutor), ("PickleError", PicklingError),
        ("WorkerMemoryExceeded", errors.WorkerCrashed), ("EngineFull", errors.EngineError),
        ("NestedDeadlock", errors.EngineError), ("RemoteError", errors.EngineError),
    ],
)  # fmt: skip
def test_an_error_has_the_bases_that_handlers_look_for(name: str, base: type) -> None:
    assert issubclass(getattr(errors, name), base)


def test_task_cancelled_passes_an_except_exception() -> None:
    assert not issubclass(errors.TaskCancelled, Exception)
