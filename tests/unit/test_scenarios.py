"""``tests/SCENARIOS.md`` against the tests: every row is held by a test that names it, and every name is a row."""

import ast
import re
from collections import defaultdict

from tests.support import REPOSITORY

ROW = re.compile(r"\b[WSNARTQJXE]\d{1,3}\b")


def rows_of_the_list() -> list[str]:
    text = (REPOSITORY / "tests" / "SCENARIOS.md").read_text(encoding="utf-8")
    return re.findall(r"^\| ([A-Z]\d+) \|", text, re.MULTILINE)


def named_by_tests() -> dict[str, list[str]]:
    """Return the rows that docstrings of test modules, classes and functions name, with who names them."""
    found = defaultdict(list)
    for path in sorted((REPOSITORY / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test"):
                for row in ROW.findall(ast.get_docstring(node) or ""):
                    found[row].append(f"{path.name}::{node.name}")
    return found


def test_every_row_is_held_by_a_test_that_names_it() -> None:
    named = named_by_tests()
    assert [row for row in rows_of_the_list() if row not in named] == []


def test_every_row_that_a_test_names_is_in_the_list() -> None:
    listed = set(rows_of_the_list())
    assert {row: tests for row, tests in named_by_tests().items() if row not in listed} == {}


def test_no_row_is_listed_twice() -> None:
    rows = rows_of_the_list()
    assert sorted(set(rows)) == sorted(rows)
