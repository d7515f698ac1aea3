"""Nothing that is read from a database is imported, evaluated or unpickled."""

import ast
import importlib
import pickle
import sys
from typing import Any

import pytest

from engine.jobs import Job, JobRefused, Jobs
from engine.jobs._json.codec import decode_args
from engine.jobs._records import NewJob
from tests.support import REPOSITORY

SOURCES = sorted((REPOSITORY / "engine" / "jobs").rglob("*.py"))

#: Modules that make code of data, and functions that look it up by a name or run it.
MODULES = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle", "yaml", "imp",
           "importlib", "pkgutil", "runpy", "code", "codeop", "copyreg", "zipimport"}  # fmt: skip
FUNCTIONS = {"eval", "exec", "compile", "__import__", "import_module", "execfile", "import_string", "locate", "loads"}

#: Where one is right: (file, what) and why. ``engine.jobs`` finds its own names when they are first used.
ALLOWED = {("__init__.py", "importlib"), ("__init__.py", "import_module")}


def offences(name: str, tree: ast.AST) -> set[str]:
    """Return what ``tree`` uses of what makes code of data."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {each.name.partition(".")[0] for each in node.names} & MODULES
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module.partition(".")[0]} & MODULES
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            found |= {called.rpartition(".")[2]} & FUNCTIONS if called != "json.loads" else set()
    return {each for each in found if (name, each) not in ALLOWED}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_no_module_of_jobs_makes_code_of_data(path: Any) -> None:
    """X1: no pickle, no import by name, no eval, in all that reads the store."""
    assert offences(path.name, ast.parse(path.read_text(encoding="utf-8"))) == set()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import pickle", {"pickle"}),
        ("from importlib import import_module\nimport_module(name)", {"importlib", "import_module"}),
        ("def f():\n    import importlib.util", {"importlib"}),
        ("eval(x)", {"eval"}), ("builtins.exec(x)", {"exec"}), ("p.loads(x)", {"loads"}), ("json.loads(x)", set()),
    ],
)  # fmt: skip
def test_what_makes_code_of_data_is_found(source: str, found: set[str]) -> None:
    """The check of the check."""
    assert offences("_x.py", ast.parse(source)) == found


def test_the_names_that_are_imported_are_our_own() -> None:
    module = importlib.import_module("engine.jobs")
    before = set(sys.modules)
    for name in ("os", "subprocess", "system", "errors.os", "../x"):
        with pytest.raises(AttributeError):
            getattr(module, name)
    assert set(sys.modules) - before == set()


class Bomb:
    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit('it ran')",)


def planted(jobs: Jobs, row: NewJob) -> Job:
    (job_id,) = jobs.store.write(lambda book, now: book.enqueue([row], now)).result(20)
    return jobs.get(job_id).result(20)


def test_planted_rows_are_read_as_text(jobs: Jobs) -> None:
    """X1: a pickle, a dotted name and a marked object are refused, or arrive as the plain data they are."""
    for text in (pickle.dumps(Bomb(), 0).decode("latin-1"), '{"py/reduce": [{"py/function": "os.system"}, ["true"]]}'):
        row = NewJob(queue="q", name="os.system", args=text)
        job = planted(jobs, row)
        assert job.name not in jobs.tasks
        if text.startswith("{"):
            assert job.args == {"py/reduce": [{"py/function": "os.system"}, ["true"]]}
        else:
            with pytest.raises(JobRefused):
                decode_args(job.args_text)
        with pytest.raises(JobRefused, match=r"expected a registered task, got 'os\.system'"):
            jobs.catalog.task(job.name)
