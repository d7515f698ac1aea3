"""What the command line understands, and how it says no: one line and exit code 2."""

import errno
import subprocess
import sys

import pytest

import engine
from engine.cli import INTERRUPTED, PIPE_CLOSED, main, parser
from tests.support import REPOSITORY


def test_the_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"engine {engine.__version__}\n"


HELPS = ["", "demo", "doctor", "worker", "jobs", "jobs list", "jobs cancel", "jobs prune", "jobs backup"]


@pytest.mark.parametrize("arguments", [[*command.split(), "--help"] for command in HELPS])
def test_help_fits_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: engine")
    assert max(map(len, out.splitlines())) <= 80


def test_no_command_prints_the_help_and_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "doctor" in captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bogus"], "invalid choice: 'bogus'"),
        (["demo", "--limit", "0"], "argument --limit: expected a positive integer, got '0'"),
        (["demo", "--processes", "many"], "argument --processes: expected a positive integer, got 'many'"),
        (["demo", "--sample", "-1"], "argument --sample: expected an integer of at least 0, got '-1'"),
        (["demo", "--top", "1.5"], "argument --top: expected a positive integer, got '1.5'"),
        (["demo", "--by", "size"], "argument --by: invalid choice: 'size'"),
        (["demo", "a", "b"], "engine demo: unrecognized arguments: b; see: engine demo --help"),
        (["doctor", "--fix"], "engine doctor: unrecognized arguments: --fix; see: engine doctor --help"),
        (["--fix"], "engine: unrecognized arguments: --fix; see: engine --help"),
        (["demo", "/nowhere"], "expected PATH to be a directory or a .py file, got '/nowhere': No such file"),
        (["demo", ""], "expected PATH to be a directory or a .py file, got '': No such file"),
        (["demo", "/dev/null"], "got '/dev/null', which is neither"),
        (["demo", "--json", "-"], "expected --json to be a file, got '-'; use /dev/stdout"),
        (["demo", "--json", "/nowhere/a"], "to be a file that can be written, got '/nowhere/a': No such"),
        (["demo", "--json", "/"], "Is a directory"),
    ],
)
def test_wrong_usage_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("engine")
    assert message in captured.err


@pytest.mark.parametrize("command", [["demo", str(REPOSITORY / "engine" / "cli"), "--sample", "0"], ["doctor"]])
def test_a_full_disk_behind_stdout_is_one_line(command: list[str]) -> None:
    with open("/dev/full", "w") as full:
        run = subprocess.run(
            [sys.executable, "-m", "engine", *command], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60,
            check=False, cwd=REPOSITORY,
        )  # fmt: skip
    assert (run.returncode, run.stderr) == (1, "engine: cannot write the output: No space left on device\n")


def test_an_error_of_another_file_is_not_taken_for_one_of_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", "somewhere")

    monkeypatch.setattr(parser, "run_command", broken)
    with pytest.raises(OSError, match="somewhere"):
        main([])


def test_a_keyboard_interrupt_anywhere_has_its_code_and_no_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(parser, "run_command", interrupted)
    assert main([]) == INTERRUPTED
    assert capsys.readouterr().err == ""


def test_closed_streams_are_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["--version"]) == 0
    sys.stdout.close()


def test_the_code_of_a_closed_pipe_is_the_shell_s() -> None:
    assert PIPE_CLOSED == 128 + 13


def test_the_demo_takes_jobs_or_a_sample(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--jobs", "nowhere/demo.db", "--sample", "3"]) == 2
    assert capsys.readouterr().err.startswith("engine demo: expected --jobs or --sample, got both")
