"""How reports of pytest become rows; and that the page in docs is of the script's making, and of ``expected.toml``."""

import re

import pytest

from stress.compatibility import Row, not_applicable, page, results, rows_of
from tests.compat import expected
from tests.support import REPOSITORY

REPORT = """<testsuites><testsuite name="pytest">
<properties><property name="cpython" value="3.13.9"/></properties>
<testcase classname="tests.compat.test_cpython" name="test_cpython[test_wait.ProcessPoolSpawnWaitTest.test_a]"/>
<testcase classname="tests.compat.test_cpython" name="test_cpython[test_wait.ProcessPoolSpawnWaitTest.test_b]">
  <skipped type="pytest.xfail" message="no | here"/></testcase>
<testcase classname="tests.compat.test_cpython" name="test_cpython[test_wait.ThreadPoolWaitTests.test_a]">
  <failure message="no">...</failure></testcase>
<testcase classname="tests.compat.test_cpython" name="test_what_does_not_apply_is_of_the_suite"/>
<testcase classname="tests.ecosystem.test_joblib" name="test_a"/>
<testcase classname="tests.ecosystem.test_joblib.TestMore" name="test_b"><error message="no">...</error></testcase>
<testcase classname="tests.ecosystem.test_jupyter_kernels" name="test_a"/>
<testcase classname="tests.ecosystem.test_other_things" name="test_a"/>
</testsuite></testsuites>"""
VERSIONS = {"Python": "3.12.1", "joblib": "1.5.0", "ipykernel": "6.0", "jupyter-client": "8.0"}
ROWS = [
    Row(
        "CPython's process tests",
        "3.12.1",
        "CPython 3.13.9",
        1,
        {"test_wait.ProcessPoolSpawnWaitTest.test_b": "no | here"},
    ),
    Row("CPython's thread tests", "3.12.1", "CPython 3.13.9", 0, {}, ["test_wait.ThreadPoolWaitTests.test_a"]),
    Row("joblib", "3.12.1", "joblib 1.5.0", 1, {}, ["test_b"]),
    Row("Jupyter", "3.12.1", "ipykernel 6.0, jupyter_client 8.0", 1),
    Row("other things", "3.12.1", "", 1),
]
PAGE = (REPOSITORY / "docs" / "COMPATIBILITY.md").read_text(encoding="utf-8")


def test_a_report_gives_a_row_for_each_suite() -> None:
    assert rows_of(REPORT, VERSIONS) == ROWS


def test_the_page_has_the_counts_and_names_what_failed() -> None:
    text = page(ROWS, {"cpus": 2}, "the command")
    assert "| CPython's process tests | CPython 3.13.9 | 3.12.1 | 1 | 1 | 0 |" in text
    assert "- joblib on 3.12.1: `test_b`" in text
    assert "| cpus | 2 |" in text


def test_a_reason_does_not_break_its_table() -> None:
    assert "| `a` | one \\| two |" in not_applicable({"threads": {"a": "one | two"}})
    assert "All of them apply." in not_applicable({"threads": {}})
    assert results([]).count("\n") == 1


def test_the_page_in_docs_was_made_from_the_list_in_the_repository() -> None:
    command = PAGE.splitlines()[2].removeprefix("<!-- made by ").removesuffix("; do not edit -->")
    assert command.startswith("python -m stress compatibility ")
    assert f"$ {command}" in PAGE
    assert not_applicable(expected.read()) in PAGE, f"make it again: {command}"


@pytest.mark.parametrize(
    ("kind", "title"), [("processes", "CPython's process tests"), ("threads", "CPython's thread tests")]
)
def test_the_page_in_docs_counts_what_the_list_names_on_every_python(kind: str, title: str) -> None:
    rows = re.findall(
        rf"^\| {title} \| CPython 3\.13\S* \| (3\.\d+)\.\d+ \| \d+ \| (\d+) \| (\d+) \|$", PAGE, re.MULTILINE
    )
    assert rows == [(python, str(len(expected.read()[kind])), "0") for python in ("3.11", "3.12", "3.13")]
