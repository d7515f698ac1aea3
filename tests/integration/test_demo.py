"""``engine demo`` as a command: real trees, a real terminal, a real Ctrl-C."""

import ast
import json
import os
import re
import signal
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.commands import Command, Terminal
from tests.integration.trees import make_bad_files, make_long_work, make_tree
from tests.support import eventually


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    command = Command(tmp_path, "demo")
    yield command
    eventually(lambda: not command.processes(), 5, "no process of the demo is left")


def remeasured(text: str) -> dict[str, Any]:
    """Measure again, by other means than the demo's."""
    nodes = list(ast.walk(ast.parse(text)))
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    branches = sum(isinstance(node, ast.If | ast.comprehension) for node in nodes)
    branches += sum(len(node.ifs) for node in nodes if isinstance(node, ast.comprehension))
    branches += sum(len(node.values) - 1 for node in nodes if isinstance(node, ast.BoolOp))
    data = text.encode()
    return {
        "size_bytes": len(data),
        "lines": len(text.splitlines()),
        "functions": len(functions),
        "longest": max(((node.end_lineno or 0) - node.lineno + 1 for node in functions), default=None),
        "branches": branches,
        "compression": round(len(data) / len(zlib.compress(data)), 3) if data else 1.0,
    }


def test_the_result_file_holds_what_is_in_the_files(command: Command, tmp_path: Path) -> None:
    files = make_tree(tmp_path / "tree")
    run = command.run("tree", "--json", "result.json", "--processes", "2")
    assert (run.returncode, run.stderr) == (0, "")
    result = json.loads((tmp_path / "result.json").read_text())
    measured = {file.pop("path"): file for file in result["files"]}
    for file in measured.values():
        file["longest"] = file["longest"] and file["longest"]["lines"]
    assert measured == {path: remeasured(text) for path, text in files.items()}
    assert (result["format"], result["interrupted"], result["found"]) == (1, False, len(files))
    assert result["root"] == str(tmp_path / "tree")
    for name in ("size_bytes", "lines", "functions", "branches"):
        assert result["totals"][name] == sum(file[name] for file in measured.values())
    assert {lane: told["tasks"] for lane, told in result["lanes"].items()} == {"thread": 6, "process": 5, "loop": 5}
    assert all(told["failed"] == 0 and told["run_seconds"] > 0 for told in result["lanes"].values())
    assert result["comparison"]["files"] == len(files)
    assert result["comparison"]["speed_up"] > 0


def test_bad_files_are_counted_and_listed_and_never_fatal(command: Command, tmp_path: Path) -> None:
    files, bad = make_tree(tmp_path / "tree"), make_bad_files(tmp_path / "tree")
    run = command.run("tree", "--json", "result.json")
    assert (run.returncode, run.stderr) == (0, "")
    result = json.loads((tmp_path / "result.json").read_text())
    assert sorted(file["path"] for file in result["files"]) == sorted(files)
    assert {failure["path"]: failure["kind"] for failure in result["failures"]} == bad
    assert "Not measured: 12 files (7 unparsable, 3 unreadable, 1 not UTF-8, 1 too large)" in run.stdout
    for reason in (
        "dangling link",
        "not a regular file",
        "byte 0xe9 at offset 23",
        "9,000,000 bytes",
        "null byte at offset 1",
    ):
        assert reason in run.stdout
    assert "two\\nlines\\x1b[31m.py" in run.stdout
    assert all(line.isprintable() and len(line) <= 80 for line in run.stdout.splitlines() if "below" not in line)


def test_piped_output_is_plain_and_complete(command: Command, tmp_path: Path) -> None:
    make_tree(tmp_path / "tree")
    run = command.run("tree", "--top", "2", "--by", "lines")
    assert run.returncode == 0
    assert "\r" not in run.stdout
    assert "\x1b" not in run.stdout
    lines = run.stdout.splitlines()
    assert re.fullmatch(r"5 of 5 files, [\d.]+ kB, [\d,]+ files/s, done in [\d.]+ m?s", lines[2])
    assert "Top 2 files by lines" in lines
    assert [line.split()[0] for line in lines if line.startswith(("thread ", "process ", "loop "))] == [
        "thread", "process", "loop",
    ]  # fmt: skip
    assert re.search(r"one after another +[\d.]+ m?s +[\d,]+ files/s\n +through the engine +[\d.]+ m?s", run.stdout)
    assert re.search(r"[\d.]+ times as fast, with \d+ worker process", run.stdout)


def test_one_file_is_enough_and_no_sample_is_no_comparison(command: Command, tmp_path: Path) -> None:
    make_tree(tmp_path)
    run = command.run("pkg/b.py", "--sample", "0", "--processes", "1")
    assert (run.returncode, run.stderr) == (0, "")
    assert "Measured 1 file in" in run.stdout
    assert "C.f (4)" in run.stdout
    assert "times as fast" not in run.stdout


def test_limit_takes_the_first_files(command: Command, tmp_path: Path) -> None:
    make_tree(tmp_path)
    run = command.run(".", "--limit", "2", "--json", "/dev/stdout", "--sample", "0")
    result = json.loads(run.stdout[run.stdout.index("\n{\n") :])
    assert [file["path"] for file in result["files"]] == ["a.py", "empty.py"]


def test_a_result_on_redirected_output_comes_after_the_tables(command: Command, tmp_path: Path) -> None:
    make_tree(tmp_path)
    with open(tmp_path / "out.txt", "w") as out:
        line = command.line(".", "--json", "/dev/stdout", "--sample", "0")
        subprocess.run(line, cwd=tmp_path, env=command.environment, stdout=out, timeout=60, check=True)
    text = (tmp_path / "out.txt").read_text()
    assert text.startswith("engine")
    assert json.loads(text[text.index("\n{\n") :])["found"] == 5


def test_the_default_is_the_library_of_this_python(command: Command) -> None:
    run = command.run("--limit", "30", "--sample", "0")
    assert (run.returncode, run.stderr) == (0, "")
    assert f"30 .py files below {Path(os.__file__).parent}" in run.stdout
    assert "__future__.py" in command.run("--limit", "3", "--sample", "0").stdout


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere", "expected PATH to be a directory or a .py file, got 'nowhere': No such file or directory"),
        ("text.txt", "expected PATH to be a directory or a .py file, got 'text.txt', which is neither"),
        ("empty", "expected PATH to hold .py files, got none below"),
    ],
)
def test_a_wrong_path_is_one_clear_line(command: Command, tmp_path: Path, path: str, message: str) -> None:
    (tmp_path / "text.txt").touch()
    (tmp_path / "empty").mkdir()
    run = command.run(path)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith(f"engine demo: {message}")
    assert run.stderr.count("\n") == 1


def test_a_result_file_that_cannot_be_is_refused_before_the_work(command: Command, tmp_path: Path) -> None:
    make_tree(tmp_path)
    run = command.run(".", "--json", "nowhere/result.json")
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("engine demo: expected --json to be a file that can be written, got 'nowhere/result")


def test_a_reader_that_leaves_ends_it_quietly(command: Command, tmp_path: Path) -> None:
    make_tree(tmp_path)
    demo = subprocess.Popen(
        command.line("."), cwd=tmp_path, env=command.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert demo.stdout is not None
    assert demo.stderr is not None
    demo.stdout.readline()
    demo.stdout.close()
    assert demo.stderr.read() == b""
    demo.stderr.close()
    assert demo.wait(30) == 141


# -- on a terminal, and Ctrl-C ----------------------------------------------------------------------------------------


def test_on_a_terminal_one_line_shows_the_progress(command: Command, tmp_path: Path) -> None:
    make_tree(tmp_path)
    with Terminal(command, ".") as terminal:
        assert terminal.end() == 0
        states = terminal.text[: terminal.text.index("\nMeasured")].split("\n")[2].split("\r")
    assert all(len(state) < 80 for state in states)
    assert re.match(r"\[#{20}\]  5 of 5 files, .* done in ", states[-1])
    assert "times as fast" in terminal.text


def test_ctrl_c_shows_what_was_done_and_leaves_no_process(command: Command, tmp_path: Path) -> None:
    make_long_work(tmp_path)
    with Terminal(command, "tree", "--json", "result.json", "--processes", "2") as terminal:
        eventually(lambda: re.search(r"\b[1-9]\d* of 400 files", terminal.read()), 30)
        assert len(command.processes()) >= 2
        terminal.interrupt()
        assert terminal.end() == 130
    text = terminal.text
    assert "Traceback" not in text
    assert "Error" not in text
    interrupted = re.search(r"^Interrupted after ([1-9]\d*) of 400 files; what was done so far:$", text, re.MULTILINE)
    assert interrupted
    assert f"Measured {interrupted[1]} file" in text
    assert re.search(r"^ +[\d,]+ +400 .* C0\.f ", text, re.MULTILINE)  # the table of the top files
    assert re.search(r"^process +2 +\d+", text, re.MULTILINE)
    assert "times as fast" not in text
    eventually(lambda: not command.processes(), 5, "no process is left")
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["interrupted"] is True
    assert len(result["files"]) == int(interrupted[1])


def test_ctrl_c_in_the_comparison_keeps_the_tables(command: Command, tmp_path: Path) -> None:
    make_long_work(tmp_path, 100)
    with Terminal(command, "tree", "--processes", "1") as terminal:
        eventually(lambda: "done in" in terminal.read(), 30)
        terminal.interrupt()
        assert terminal.end() == 130
    assert "Traceback" not in terminal.text
    assert "Interrupted after the last file" in terminal.text
    assert "Measured 100 files in" in terminal.text
    assert "times as fast" not in terminal.text


def test_two_ctrl_c_in_a_row_leave_neither_traceback_nor_process(command: Command, tmp_path: Path) -> None:
    make_long_work(tmp_path)
    with Terminal(command, "tree") as terminal:
        eventually(lambda: re.search(r"\b[1-9]\d* of 400 files", terminal.read()), 30)
        terminal.interrupt()
        terminal.interrupt()
        code = terminal.end()
    assert "Traceback" not in terminal.text
    assert code == 130


def test_ctrl_c_stays_ignored_where_a_shell_ignores_it(command: Command, tmp_path: Path) -> None:
    make_long_work(tmp_path, 20)
    with Terminal(
        command, "tree", "--sample", "0", before=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)
    ) as terminal:
        eventually(lambda: "of 20 files" in terminal.read(), 30)
        terminal.interrupt()
        assert terminal.end() == 0
    assert "Measured 20 files" in terminal.text
