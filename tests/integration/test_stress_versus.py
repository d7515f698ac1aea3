"""Short runs of the comparison: everybody is measured, what is missing is said. The figures are judged elsewhere."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from stress import versus
from stress._turn import Turn, take_turn
from stress._workloads import figures
from tests.integration.stress_runs import result_of, run_stress
from tests.support import REPOSITORY, eventually

AT_ONCE = 3  #: runs beside each other, where no figure is judged
SMALL = ("--rounds", "1", "--tasks", "50", "--megabytes", "1")


def test_the_engine_and_the_standard_executors_are_measured_beside_each_other(tmp_path: Path) -> None:
    page, record = tmp_path / "page.md", tmp_path / "record.json"
    run = run_stress(
        "versus", *SMALL, "--only", "flood-process", "array-*", "urgent-p99", "--skip", "array-[so]*",
        "--peers", "cf-fork", "cf-spawn", "loky",
        "--write", str(page), "--json", str(record),
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    result = result_of(run)
    assert result == json.loads(record.read_text())
    assert list(result["figures"]) == ["flood-process", "urgent-p99", "array-in"]
    flood = result["figures"]["flood-process"]
    assert set(flood["ratios"]) == {"cf-fork", "cf-spawn", "loky"}
    assert all(flood["ratios"][peer] == flood["engine"] / flood["values"][peer][0] for peer in flood["ratios"])
    array = result["figures"]["array-in"]
    assert all(array["ratios"][peer] == array["values"][peer][0] / array["engine"] for peer in array["ratios"])
    assert array["reasons"]["joblib"] == "not asked for"
    assert array["goals"][1] == {"target": "1.5 x joblib", "kept": None}
    assert result["figures"]["urgent-p99"]["reasons"]["cf-fork"] == "has no priorities"
    text = page.read_text()
    assert f"$ {result['command']}\n" in text
    assert "| [flood-process](#flood-process) |" in text


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="the chart needs matplotlib (the extra versus)")
def test_a_chart_is_drawn(tmp_path: Path) -> None:
    chart = tmp_path / "ratios.png"
    run = run_stress("versus", *SMALL, "--only", "flood-thread", "--peers", "cf-thread", "--chart", str(chart))
    assert run.returncode == 0, run.stdout + run.stderr
    assert chart.read_bytes().startswith(b"\x89PNG")


#: More than any turn ends, and a number of this run's own: other runs of these tests have turns of theirs.
ENDLESS = 100_000_000 + os.getpid()


def turns_of(tasks: int) -> list[psutil.Process]:
    """Return the processes of turns with so many tasks."""
    found = psutil.process_iter(["cmdline"])
    return [process for process in found if f'"tasks": {tasks}' in " ".join(process.info["cmdline"] or [])]


def test_every_figure_of_the_engine_alone_gives_a_value() -> None:
    names = list(figures())
    parts = [names[part::AT_ONCE] for part in range(AT_ONCE)]

    def run_part(part: list[str]) -> subprocess.CompletedProcess[str]:
        return run_stress("versus", *SMALL, "--peers", "engine", "--only", *part)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        runs = list(pool.map(run_part, parts))
    for part, run in zip(parts, runs, strict=True):
        assert run.returncode == 0, run.stdout + run.stderr
        result = result_of(run)["figures"]
        assert list(result) == part
        without = {name: figure["reasons"] for name, figure in result.items() if figure["engine"] is None}
        assert without.keys() <= {"array-shared"}, without
        assert all("not built" in reasons["engine"] for reasons in without.values())


def test_a_library_that_is_missing_is_a_row_and_a_missed_promise_ends_a_check_with_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(versus, "is_installed", lambda name: name != "loky")
    monkeypatch.setattr(versus, "take_turn", lambda *_: Turn(value=7.0))
    arguments = ["--only", "flood-process", "--peers", "cf-fork", "loky"]
    assert versus.main(arguments) == 0
    assert versus.main([*arguments, "--check"]) == 1
    captured = capsys.readouterr()
    assert "loky          not installed" in captured.out
    assert "MISSED  10 x the best of cf-fork, cf-spawn" in captured.out
    assert "missed: flood-process" in captured.err


def test_a_turn_that_takes_too_long_is_given_up_with_all_that_it_started() -> None:
    turn = take_turn("flood-process", "cf-spawn", {"tasks": ENDLESS}, patience=3)
    assert turn.value is None
    assert turn.reason == "gave up after 3 s"
    eventually(lambda: not turns_of(ENDLESS))


def test_ctrl_c_ends_it_with_what_was_measured_so_far() -> None:
    run = subprocess.Popen(
        [
            sys.executable, "-m", "stress", "versus", *SMALL, "--tasks", str(ENDLESS), "--peers", "cf-fork",
            "--only", "first-result", "speed-up",
        ],
        cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", str(REPOSITORY))},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert run.stdout is not None
        for line in run.stdout:
            if line.startswith("first-result"):
                break
        run.send_signal(signal.SIGINT)
        stdout, stderr = run.communicate(timeout=60)
    finally:
        run.kill()
        run.wait()
    assert run.returncode == 130, stderr
    eventually(lambda: not turns_of(ENDLESS))
    result = json.loads(stdout.splitlines()[-1])
    assert result["interrupted"] is True
    assert result["figures"]["first-result"]["engine"] > 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--only", "speed"], "expected --only to be names or patterns of flood-process"),
        (["--skip", "jobs"], "expected --skip to be names or patterns of flood-process"),
        (["--only", "trip-*", "--skip", "trip*"], "expected --only and --skip to leave a figure, got none"),
        (["--peers", "celery"], "expected --peers to be names among engine"),
        (["--rounds", "0"], "expected --rounds to be positive, got 0"),
        (["--json", "/nowhere/x.json"], "expected --json to be a file in a directory that is there"),
    ],
)
def test_what_it_does_not_know_is_refused(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        versus.main(arguments)
    assert caught.value.code == 2
    assert expected in capsys.readouterr().err


def test_tuning_measures_each_option_and_writes_its_rows_into_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text((REPOSITORY / "docs" / "TUNING.md").read_text(encoding="utf-8"), encoding="utf-8")
    run = run_stress("tuning", "--rounds", "1", "--tasks", "50", "--megabytes", "0.1", "--write", str(page))
    assert run.returncode == 0, run.stdout + run.stderr
    assert all(figure["median"] >= 0 for figure in result_of(run)["figures"].values())
    assert "| a no-op to a process, nothing said |" in page.read_text()
    assert "Medians of 1 rounds; 50 tasks" in page.read_text()
