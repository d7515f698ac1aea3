"""Every Python block of the README and the docs is a script that runs; those of docs/ecosystem: tests/ecosystem."""

import importlib.util
import os
import re
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", REPOSITORY / "engine" / "README.md"]
PAGES += sorted(page for page in DOCS.rglob("*.md") if DOCS / "ecosystem" not in page.parents)
BLOCK = re.compile(
    r"^(?P<indent>[ ]*)```python[ ]*\n(?P<code>.*?)^(?P=indent)```[ ]*$",
    re.MULTILINE | re.DOTALL,
)
NOT_RUN = re.compile(r"<!-- not run: \S.* -->\s*\Z")


@dataclass(frozen=True, slots=True)
class Example:
    """One block of code of one page."""

    page: str
    line: int
    code: str
    is_run: bool

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def examples_in(page: str, text: str) -> list[Example]:
    """Give the Python blocks of ``text``; one behind ``<!-- not run: reason -->`` is not run."""
    return [
        Example(
            page,
            text.count("\n", 0, match.start()) + 1,
            textwrap.dedent(match["code"]),
            NOT_RUN.search(text, 0, match.start()) is None,
        )
        for match in BLOCK.finditer(text)
    ]


EXAMPLES = [
    example
    for page in PAGES
    if page.exists()
    for example in examples_in(str(page.relative_to(REPOSITORY)), page.read_text(encoding="utf-8"))
]


def run_example(example: Example, folder: Path, timeout: float = 60.0) -> None:
    """Run one example as a script in ``folder``; fail with its code and what it printed."""
    script = folder / "example.py"
    script.write_text(example.code, encoding="utf-8")
    found = importlib.util.find_spec("engine")  # the engine that these tests see, installed or not
    assert found is not None
    assert found.submodule_search_locations
    where = str(Path(found.submodule_search_locations[0]).parent)
    path = os.pathsep.join(filter(None, [where, os.environ.get("PYTHONPATH")]))
    try:
        run = subprocess.run(
            [sys.executable, str(script)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
        )
        ended, output = f"ended with {run.returncode}", run.stdout
    except subprocess.TimeoutExpired as error:
        ended, output = f"did not end within {timeout} s", error.stdout or b""
    if ended != "ended with 0":
        shown = "\n".join(f"{number:4} {line}" for number, line in enumerate(example.code.splitlines(), 1))
        pytest.fail(f"{example} {ended}\n{shown}\n{output.decode(errors='replace')}", pytrace=False)


@pytest.mark.parametrize("example", [example for example in EXAMPLES if example.is_run], ids=str)
def test_the_example_runs(example: Example, tmp_path: Path) -> None:
    run_example(example, tmp_path)


def test_the_readme_has_an_example_that_runs() -> None:
    assert any(example.page == "README.md" and example.is_run for example in EXAMPLES)


def test_a_block_is_found_with_its_line_and_its_reason_not_to_run() -> None:
    text = (
        "# T\n\n```python\na = 1\n```\n\n"
        "<!-- not run: it needs a database -->\n```python\nb\n```\n"
        "- x\n  ```python\n  c\n  ```\n"
    )
    assert examples_in("P", text) == [
        Example("P", 3, "a = 1\n", True),
        Example("P", 8, "b\n", False),
        Example("P", 12, "c\n", True),
    ]


@pytest.mark.parametrize(
    ("code", "expected"),
    [("1 / 0", "ZeroDivisionError"), ("input_ = 1\nwhile input_: pass", "did not end within 1.0 s")],
)
def test_an_example_that_fails_is_shown(tmp_path: Path, code: str, expected: str) -> None:
    with pytest.raises(pytest.fail.Exception) as caught:
        run_example(Example("P", 1, code, True), tmp_path, timeout=1.0)
    assert expected in str(caught.value)
    assert f"   1 {code.splitlines()[0]}" in str(caught.value)
