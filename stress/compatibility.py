"""Which tests of other people hold of it: CPython's own of its executors, and those with the libraries around it?

    python -m stress compatibility [--python PYTHON ...] [--write docs/COMPATIBILITY.md]

Expected: for each interpreter a line for each suite: how many tests passed, do not apply, and failed; then one line of
JSON. It ends with 1 if one failed. An interpreter without the libraries of the extra ``ecosystem`` runs CPython's tests
alone. ``--write`` makes the page.
"""

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from stress._machine import machine
from tests.compat import expected
from tests.support import REPOSITORY

__all__ = ["Row", "main", "not_applicable", "page", "rows_of"]

FOLDERS = ("tests/compat/test_cpython.py", "tests/ecosystem")
NOTHING_COLLECTED = 5  #: pytest's exit code
PATIENCE = 1800.0  #: seconds for one run of pytest
CPYTHON = {"processes": "CPython's process tests", "threads": "CPython's thread tests"}
#: What the name of a file of tests/ecosystem tells: the suite's title, and the distributions that it is of.
LIBRARIES = {
    "joblib": ("joblib", ("joblib",)),
    "sklearn": ("scikit-learn", ("scikit-learn",)),
    "scikit": ("scikit-learn", ("scikit-learn",)),
    "dask": ("Dask", ("dask", "distributed")),
    "pandas": ("pandas", ("pandas",)),
    "anyio": ("anyio", ("anyio",)),
    "jupyter": ("Jupyter", ("ipykernel", "jupyter_client")),
    "notebook": ("Jupyter", ("ipykernel", "jupyter_client")),
    "asyncio": ("asyncio", ()),
}
_VERSIONS = """
import importlib.metadata, json, platform, sys
found = {each.name.lower().replace("_", "-"): each.version for each in importlib.metadata.distributions() if each.name}
print(json.dumps({"Python": platform.python_version(), **found}))
"""


@dataclass
class Row:
    """One suite on one Python."""

    suite: str
    python: str
    of: str  #: whose tests, with the version
    passed: int = 0
    not_applicable: dict[str, str] = field(default_factory=dict)  #: test → reason
    failed: list[str] = field(default_factory=list)


# -- the runs ---------------------------------------------------------------------------------------------------------


def run(python: str) -> Iterator[Row]:
    """Run both folders with that interpreter and yield the rows of each.

    Raises:
        SystemExit: pytest itself failed.
    """
    asked = subprocess.run([python, "-c", _VERSIONS], capture_output=True, text=True, timeout=60, check=True)
    versions: dict[str, str] = json.loads(asked.stdout)
    for folder in FOLDERS:
        with tempfile.TemporaryDirectory() as scratch:
            report = Path(scratch, "report.xml")
            command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", folder]
            done = subprocess.run(
                command, cwd=REPOSITORY, capture_output=True, text=True, timeout=PATIENCE, check=False
            )
            if done.returncode not in (0, 1, NOTHING_COLLECTED):
                raise SystemExit(f"expected {shlex.join(command)} to run tests, got\n{done.stdout}{done.stderr}")
            if done.returncode == 1:
                print(done.stdout, file=sys.stderr)
            yield from rows_of(report.read_text(encoding="utf-8"), versions)


def rows_of(report: str, versions: dict[str, str]) -> list[Row]:
    """Return the rows of one report of pytest, in the form that CI servers read."""
    root = ElementTree.fromstring(report)  # of pytest's own making
    properties = {each.attrib["name"]: each.attrib["value"] for each in root.iter("property")}
    rows: dict[str, Row] = {}
    for case in root.iter("testcase"):
        title, of = _suite(case.attrib["classname"], case.attrib["name"], {**properties, **versions})
        if not title:
            continue
        row = rows.setdefault(title, Row(title, versions["Python"], of))
        name = case.attrib["name"].removeprefix("test_cpython[").removesuffix("]")
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            row.failed.append(name)
        elif skipped is not None:
            row.not_applicable[name] = skipped.attrib["message"]
        else:
            row.passed += 1
    return list(rows.values())


def _suite(where: str, name: str, versions: dict[str, str]) -> tuple[str, str]:
    """Return the title of a test's suite and whose it is; an empty title if the test is of none."""
    if where.startswith("tests.compat."):
        kind = next((kind for kind in CPYTHON if _is_of(kind, name)), "")
        return CPYTHON.get(kind, ""), f"CPython {versions.get('cpython', '3.13')}"
    module = next(each for each in reversed(where.split(".")) if each.startswith("test_"))
    for word, (title, names) in LIBRARIES.items():
        if word in module:
            return title, ", ".join(f"{each} {versions.get(each.replace('_', '-'), '-')}" for each in names)
    return module.removeprefix("test_").replace("_", " "), ""


def _is_of(kind: str, name: str) -> bool:
    return {"processes": ".ProcessPool", "threads": ".ThreadPool"}[kind] in name


# -- the page ---------------------------------------------------------------------------------------------------------

_HEAD = """# Compatibility

<!-- made by {command}; do not edit -->

Other people's tests, run against the engine. This page is made by a script; nobody edits it. To make it again:

```console
$ {command}
```

- **CPython's own tests of its executors**, the package `test.test_concurrent_futures` of a CPython 3.13, are given
  `engine.futures.ProcessExecutor` and `engine.futures.ThreadExecutor` by `tests/compat/adapter.py`. Nothing of CPython
  is changed or copied. The process tests are those of one start method, `spawn`: the engine's workers are always fresh
  interpreters. Tests of the class `Future` alone are left out: ours are the standard ones. `tests/compat/subjects.py`
  has all that the executors are helped with:
  - `broken_on_crash=True`: CPython's pools break when a worker dies, and by default ours heals;
  - 20 seconds at interpreter exit for what was accepted: CPython waits for ever, and ours for two;
  - private attributes such as `_processes` and `_threads`, which answer once the calls run: ours starts its workers a
    moment after `submit`; for the same reason `shutdown(cancel_futures=True)` waits until one call runs;
  - semaphores and queues of a `Manager` in place of those that only processes started by `multiprocessing` inherit.
- **Tests with the libraries**, `tests/ecosystem`, use each library as it is released.

Each of them runs in the matrix of every change. A test that does not apply must not pass either, and one that is not
named below must.
"""


def page(rows: Sequence[Row], facts: dict[str, Any], command: str) -> str:
    """Return the whole page."""
    parts = [_HEAD.format(command=command), "## Results\n\n" + results(rows) + "\n"]
    if failed := [f"- {row.suite} on {row.python}: `{name}`" for row in rows for name in row.failed]:
        parts.append("### Failed\n\n" + "\n".join(failed) + "\n")
    parts.append(not_applicable(expected.read()))
    parts.append(_library_skips(rows))
    table = "\n".join(f"| {name.replace('_', ' ')} | {_cell(str(value))} |" for name, value in facts.items())
    parts.append(f"## Machine and versions\n\n| | |\n| --- | --- |\n{table}\n")
    return "\n".join(part for part in parts if part)


def results(rows: Sequence[Row]) -> str:
    """Return the table of all suites."""
    lines = [
        "| suite | of | Python | passed | not applicable | failed |",
        "| --- | --- | --- | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {row.suite} | {row.of or '-'} | {row.python} | {row.passed} | {len(row.not_applicable)} |"
        f" {len(row.failed)} |"
        for row in sorted(rows, key=lambda row: (list(CPYTHON.values()).count(row.suite) == 0, row.suite))
    ]
    return "\n".join(lines)


def not_applicable(found: dict[str, dict[str, str]]) -> str:
    """Return the section of what ``tests/compat/expected.toml`` names."""
    parts = ["## What does not apply\n\nFrom `tests/compat/expected.toml`.\n"]
    for kind, reasons in found.items():
        lines = [f"### {CPYTHON[kind]}\n", "| test | why |", "| --- | --- |"]
        lines += [f"| `{name}` | {_cell(reason)} |" for name, reason in reasons.items()]
        parts.append("\n".join(lines if reasons else [*lines[:1], "All of them apply."]) + "\n")
    return "\n".join(parts)


def _library_skips(rows: Sequence[Row]) -> str:
    """Return the section of tests with libraries that were skipped; empty if none was."""
    lines = {
        f"| {row.suite} | `{name}` | {_cell(reason)} |"
        for row in rows
        if row.suite not in CPYTHON.values()
        for name, reason in row.not_applicable.items()
    }
    head = "### Tests with libraries\n\n| suite | test | why |\n| --- | --- | --- |\n"
    return head + "\n".join(sorted(lines)) + "\n" if lines else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def main(arguments: list[str]) -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(prog="python -m stress compatibility", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--python", nargs="+", metavar="PYTHON", default=[sys.executable], help="interpreters to run")
    parser.add_argument("--write", metavar="FILE", help="make the page, such as docs/COMPATIBILITY.md")
    options = parser.parse_args(arguments)
    found = machine()
    print(f"machine {json.dumps(found)}\nseed none", flush=True)
    rows: list[Row] = []
    for python in options.python:
        for row in run(python):
            rows.append(row)
            counts = f"{row.passed} passed, {len(row.not_applicable)} not applicable, {len(row.failed)} failed"
            print(f"{row.python:8} {row.suite} ({row.of or 'no version'}): {counts}", flush=True)
    if options.write:
        command = "python -m stress compatibility --python PYTHON ... --write docs/COMPATIBILITY.md"
        Path(options.write).write_text(page(rows, found, command), encoding="utf-8")
    failed = sum(len(row.failed) for row in rows)
    print(json.dumps({"script": "compatibility", "failed": failed, "rows": [asdict(row) for row in rows]}))
    return 1 if failed or not rows else 0
