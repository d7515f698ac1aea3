"""``engine demo --jobs``: what it remembers, and what it refuses; the runs are in tests/integration."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.cli import main
from engine.cli.demo_jobs.plan import Plan, enqueue_once, load_plan
from engine.cli.demo_jobs.work import measure_file, outcome_of, path_of, text_of_path
from engine.cli.refusals import Refused
from engine.jobs import Jobs
from tests.support import REPOSITORY


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    with Jobs(tmp_path / "demo.db") as jobs:
        yield jobs


@pytest.fixture
def planned(jobs: Jobs, tmp_path: Path) -> Callable[[Plan], None]:
    """Write a plan into the file, with the jobs of two files."""
    task = jobs.task(name="engine.demo.measure", queue="demo")(measure_file)
    return lambda plan: enqueue_once(jobs, task, plan, ["a.py", "b.py"])


# -- the plan


def test_a_plan_is_written_with_its_jobs_once(jobs: Jobs, planned: Callable[[Plan], None], tmp_path: Path) -> None:
    assert load_plan(jobs) is None
    planned(Plan(root=str(tmp_path), files=2, failures=[{"path": "x\udce9", "kind": "unreadable", "reason": "no"}]))
    planned(Plan(root="/elsewhere", files=2))
    found = load_plan(jobs)
    assert found is not None
    assert (found.root, found.files, found.failures[0]["path"]) == (str(tmp_path), 2, "x\udce9")
    assert [job.args for job in jobs.list().result(20)] == [
        {"root": str(tmp_path), "path": path} for path in ("b.py", "a.py")
    ]


def test_a_plan_that_cannot_be_enqueued_is_not_written(jobs: Jobs, tmp_path: Path) -> None:
    @jobs.task
    def other(path: str) -> None: ...

    with pytest.raises(TypeError):
        enqueue_once(jobs, other, Plan(root=str(tmp_path)), ["a.py"])
    assert load_plan(jobs) is None
    assert jobs.list().result(20) == []


@pytest.mark.parametrize("limit", [[], ["--limit", "2"]])
def test_a_file_for_another_path_is_refused(
    planned: Callable[[Plan], None], tmp_path: Path, capsys: pytest.CaptureFixture[str], limit: list[str]
) -> None:
    """E138: the work of one tree is not mixed with that of another."""
    planned(Plan(root="/elsewhere", files=2, limit=1))
    (tmp_path / "a.py").touch()
    path = str(tmp_path / "demo.db")
    arguments = [] if limit else [str(tmp_path)]
    assert main(["demo", *arguments, "--jobs", path, *limit]) == 2
    assert capsys.readouterr() == (
        "",
        "engine demo: expected --jobs to be a new file, or one for the same PATH and --limit, "
        f"got '{path}', which is for: /elsewhere --limit 1\n",
    )


@pytest.mark.parametrize(
    ("said", "made_by"),
    [
        ({"engine": "0.0.1", "format": 1}, "0.0.1"), ({"engine": "9", "format": 2}, "9"), (7, "another program"),
        ({}, "another program"), ({"engine": "\x1b[2J", "format": 1}, "\\x1b[2J"), ("no json", "another program"),
    ],
)  # fmt: skip
def test_a_file_of_another_version_is_refused(
    jobs: Jobs, tmp_path: Path, capsys: pytest.CaptureFixture[str], said: object, made_by: str
) -> None:
    """E138: what one version has measured is not mixed with what another one does."""
    connection = jobs.connect()
    connection.execute("CREATE TABLE engine_demo (plan TEXT)")
    connection.execute("INSERT INTO engine_demo VALUES (?)", (said if said == "no json" else json.dumps(said),))
    connection.close()
    assert main(["demo", "--jobs", str(tmp_path / "demo.db")]) == 2
    error = capsys.readouterr().err
    assert re.search(rf"to be made by engine demo of \S+, got one of {re.escape(made_by)}; begin a new file\n$", error)


def test_a_file_of_other_jobs_is_left_alone(jobs: Jobs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """E138: somebody's own jobs are not mixed with the demo's."""

    @jobs.task
    def mine() -> None: ...

    mine.enqueue().result(20)
    assert main(["demo", "--jobs", str(tmp_path / "demo.db")]) == 2
    assert "to be a file of its own for the demo, got " in capsys.readouterr().err
    with pytest.raises(Refused):
        load_plan(jobs)
    assert len(jobs.list().result(20)) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "--jobs", "x.db"], "expected PATH to be a directory or a .py file, got 'nowhere'"),
        (["empty", "--jobs", "x.db"], "expected PATH to hold .py files, got none below "),
        (["empty", "--jobs", ""], "expected --jobs to be a file, got ''"),
    ],
)
def test_a_wrong_path_makes_no_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert main(["demo", *arguments]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert captured.err.startswith(f"engine demo: {message}")
    assert os.listdir(tmp_path) == ["empty"]


def test_without_the_extra_it_is_named() -> None:
    code = "import sys; sys.modules['apsw'] = None; from engine.cli import main; sys.exit(main(sys.argv[1:]))"
    for command in (["demo", "--jobs", "/tmp/nowhere/x.db"], ["jobs", "list", "setup.cfg"]):
        run = subprocess.run(
            [sys.executable, "-c", code, *command], capture_output=True, text=True, timeout=60, check=False,
            cwd=REPOSITORY,
        )  # fmt: skip
        assert (run.returncode, run.stdout, run.stderr.count("\n")) == (1, "", 1)
        assert "pip install 'hybrid-engine[jobs]'" in run.stderr


def test_a_file_that_cannot_be_made_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.py").touch()
    assert main(["demo", str(tmp_path), "--jobs", str(tmp_path / "nowhere" / "x.db")]) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert captured.err.startswith(f"engine demo: expected the directory {tmp_path}/nowhere to exist, got none")
    assert "doctor" not in captured.err


# -- one file


@given(st.binary(min_size=1).filter(lambda data: b"\0" not in data))
def test_any_path_comes_back_from_json_as_it_was(data: bytes) -> None:
    path = os.fsdecode(data)
    text = text_of_path(path)
    assert json.loads(json.dumps(text).encode()) == text.encode().decode()
    assert path_of(text) == path


def test_a_path_of_text_stays_readable_in_the_rows() -> None:
    assert text_of_path("pkg/\u00fc.py") == "pkg/\u00fc.py"
    assert path_of(text_of_path("bytes:00")) == "bytes:00"


def test_what_a_parser_quotes_is_made_fit_for_json(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(b"# coding: raw_unicode_escape\n\\ud800 = 1\n")
    result = measure_file(str(tmp_path), "a.py")
    assert result["kind"] == "unparsable"
    json.dumps(result, ensure_ascii=False).encode()
    assert outcome_of("a.py", result)["path"] == "a.py"
