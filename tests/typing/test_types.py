"""mypy refuses what is wrong, line by line, and knows the type of what comes back."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import REPOSITORY

HERE = Path(__file__).parent
EXPECTED = re.compile(r"# error$")
#: What mypy may say of a wrong argument or a wrong type of result; which of them it chooses depends on its version.
ABOUT_TYPES = {
    "arg-type", "assignment", "attr-defined", "call-arg", "call-overload", "list-item", "misc", "untyped-decorator"
}  # fmt: skip
REPORTED = re.compile(
    r"^(?P<file>[^:]+):(?P<line>\d+): error: (?P<text>.*?)(?:  \[(?P<code>[a-z-]+)\])?$", re.MULTILINE
)

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("mypy") is None, reason="mypy is not installed; tox -e type has it"
)


def errors_in(source: str, folder: Path) -> tuple[dict[int, set[str]], str]:
    """Run ``mypy --strict`` on ``source``; give the codes by line, and all that it printed."""
    (folder / "checked.py").write_text(source, encoding="utf-8")
    found = importlib.util.find_spec("engine")  # the engine that these tests see, installed or not
    assert found is not None
    assert found.submodule_search_locations
    where = Path(found.submodule_search_locations[0]).parent
    run = subprocess.run(
        [
            sys.executable, "-m", "mypy", "--strict", "--no-color-output", "--show-error-codes", "--no-pretty",
            "--hide-error-context", "--follow-imports=silent", "--config-file", str(REPOSITORY / "setup.cfg"),
            "--cache-dir", str(folder / "cache"), "checked.py",
        ],
        cwd=folder,
        env={**os.environ, "MYPYPATH": str(where)} if where == REPOSITORY else {**os.environ},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    printed = run.stdout + run.stderr
    assert run.returncode in (0, 1), printed  # 2: mypy itself failed
    codes: dict[int, set[str]] = {}
    for match in REPORTED.finditer(run.stdout):
        assert match["file"] == "checked.py", printed
        codes.setdefault(int(match["line"]), set()).add(match["code"])
    return codes, printed


def test_every_wrong_call_is_refused_and_nothing_else(tmp_path: Path) -> None:
    source = (HERE / "bad_calls.txt").read_text(encoding="utf-8")
    expected = {number for number, line in enumerate(source.splitlines(), 1) if EXPECTED.search(line)}
    assert len(expected) > 30
    found, printed = errors_in(source, tmp_path)
    assert set(found) == expected, printed
    assert set().union(*found.values()) <= ABOUT_TYPES, printed


def test_every_right_call_passes_and_has_its_functions_type(tmp_path: Path) -> None:
    """The file is part of the ordinary run of mypy too; its ``assert_type`` lines are checked, never run."""
    found, printed = errors_in((HERE / "good.py").read_text(encoding="utf-8"), tmp_path)
    assert found == {}, printed
    assert "Success" in printed


def test_a_wrong_expectation_of_a_type_is_seen(tmp_path: Path) -> None:
    """The check of the checker: else the file of right calls could say anything."""
    source = (
        "from typing import assert_type\n"
        "from engine import Engine, Task\n"
        "def f(engine: Engine) -> None:\n"
        "    assert_type(engine.submit(len, 'x'), Task[str])\n"
    )
    found, _ = errors_in(source, tmp_path)
    assert found == {4: {"assert-type"}}
