"""The harness around CPython's tests: the suite is found, and what goes wrong in a test is seen."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compat import children, expected, suite
from tests.compat.children import Children, Result

# -- finding the suite ------------------------------------------------------------------------------------------------


def make_suite(folder: Path, **modules: str) -> Path:
    """Write a package that looks like CPython's, with that text in its test modules."""
    tests = folder / "test" / "test_concurrent_futures"
    (folder / "test" / "support").mkdir(parents=True)
    (folder / "test" / "support" / "__init__.py").touch()
    tests.mkdir()
    (tests / "__init__.py").touch()
    (tests / "util.py").write_text("class ThreadPoolMixin: ...\nclass ProcessPoolSpawnMixin: ...\n")
    for name in ("as_completed", "deadlock", "init", "process_pool", "shutdown", "thread_pool", "wait"):
        (tests / f"test_{name}.py").write_text(modules.get(name, ""))
    return folder / "test"


def test_the_variable_names_the_suite(tmp_path: Path) -> None:
    folder = make_suite(tmp_path)
    assert suite.find({suite.VARIABLE: str(folder)}).folder == folder
    assert suite.version(folder) == "3.13"


def test_a_variable_that_names_another_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"expected {suite.VARIABLE} to be the folder test of a CPython 3.13, got "):
        suite.find({suite.VARIABLE: str(tmp_path)})


def test_the_first_suite_of_the_places_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = [tmp_path / "none", make_suite(tmp_path / "a"), make_suite(tmp_path / "b")]
    monkeypatch.setattr(suite, "_candidates", lambda environment: iter(places))
    assert suite.find({}).folder == tmp_path / "a" / "test"


def test_where_no_suite_is_the_places_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "_candidates", lambda environment: iter([tmp_path / "none"]))
    found = suite.find({})
    assert found.folder is None
    assert found.why_not == (
        f"no tests of a CPython 3.13 in {tmp_path}/none; {suite.VARIABLE} may name its folder Lib/test"
    )


def test_python313_on_the_path_is_asked(tmp_path: Path) -> None:
    shim = tmp_path / "python3.13"
    shim.write_text(f"#!/bin/sh\necho {tmp_path}/lib\n")
    shim.chmod(0o755)
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    assert tmp_path / "lib" / "test" in suite._candidates({"PATH": path})
    shim.write_text("#!/bin/sh\necho 'python3.13: command not found'\nexit 127\n")  # as pyenv's, switched off
    assert all(tmp_path not in each.parents for each in suite._candidates({"PATH": path}))


def test_the_versions_of_pyenv_are_looked_through(tmp_path: Path) -> None:
    folder = make_suite(tmp_path / "versions" / "3.13.9" / "lib" / "python3.13")
    assert folder in suite._candidates({"PYENV_ROOT": str(tmp_path), "PATH": ""})


# -- what must pass, and what must not --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "reason", "wrong"),
    [
        ("passed", None, ""),
        ("failed", None, "what it said"),
        ("skipped", None, "expected the test to pass, or its reason to be in expected.toml; it was skipped: what it"),
        ("passed", "no workers", "expected the test not to apply, got a pass; take it out of expected.toml, where it "),
        ("failed", "no workers", ""),
        ("skipped", "no workers", ""),
    ],
)
def test_only_what_is_listed_may_fail_and_it_must(outcome: str, reason: str | None, wrong: str) -> None:
    found = expected.complaint(Result(outcome, "what it said"), reason)
    assert found.startswith(wrong) if wrong else found == ""


def test_every_reason_says_something() -> None:
    assert [name for reasons in expected.read().values() for name, reason in reasons.items() if len(reason) < 20] == []


# -- the children -----------------------------------------------------------------------------------------------------

CASES = """
import os, threading, unittest

class ThreadPoolTest(unittest.TestCase):
    def test_good(self): pass
    def test_bad(self): self.fail("wrong")
    def test_ugly(self): os._exit(7)
    def test_skipped(self): self.skipTest("not today")
    def test_in_part(self):
        with self.subTest(1): self.fail("in part")
    def test_thread(self): threading.Thread(target=threading.Event().wait, name="stray", daemon=True).start()
    def test_raising_thread(self):
        thread = threading.Thread(target=lambda: 1 / 0)
        thread.start()
        thread.join()
    def test_raising_finalizer(self):
        class Bad:
            def __del__(self): 1 / 0
        Bad()
    def test_warning(self):
        print("said before")
        import warnings
        warnings.warn("old", DeprecationWarning)
"""
OUTCOMES = {
    "good": ("passed", ""),
    "bad": ("failed", "AssertionError: wrong"),
    "ugly": ("failed", "the test's interpreter ended with 7"),
    "skipped": ("skipped", "not today"),
    "in_part": ("failed", "in part"),
    "thread": ("failed", "the test left behind: thread <Thread\\(stray, started daemon"),
    "raising_thread": ("failed", "ZeroDivisionError"),
    "raising_finalizer": ("failed", "ZeroDivisionError"),
    "warning": ("failed", "DeprecationWarning: old\n(.|\n)*said before"),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Result]]:
    """Give what one child, and its successor, said of each case."""
    folder = make_suite(tmp_path_factory.mktemp("suite"), wait=CASES)
    names = children.tests_of(folder)
    assert names["processes"] == []
    running = Children(folder, names["threads"], width=1)
    yield {name.rpartition(".test_")[2]: running.result(name) for name in names["threads"]}
    running.stop()


@pytest.mark.parametrize("case", OUTCOMES)
def test_a_child_sees_what_a_test_does(outcomes: dict[str, Result], case: str) -> None:
    outcome, details = OUTCOMES[case]
    assert outcomes[case].outcome == outcome
    assert re.search(details, outcomes[case].details), outcomes[case].details


def test_a_suite_that_cannot_be_imported_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        RuntimeError, match=r"to hold tests that this Python can import, got\n(.|\n)*No module named 'no"
    ):
        children.tests_of(make_suite(tmp_path, wait="import nothing_of_that_name"))
