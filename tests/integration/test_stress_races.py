"""A short run of the stress script: its promises hold, and it says so as its README tells."""

import json

import pytest

from stress import races
from tests.integration.stress_runs import result_of, run_stress
from tests.support import REPOSITORY


@pytest.mark.parametrize("seed", [4, 7], ids=["stopped at rest", "stopped under fire"])
def test_three_seconds_of_races_keep_every_promise(seed: int) -> None:
    """N15, A4, N2: threads and two loops on one engine; the ledger agrees with what every submitter was told."""
    run = run_stress("races", "--seconds", "1.5", "--seed", str(seed))
    assert run.returncode == 0, run.stdout + run.stderr
    lines = run.stdout.splitlines()
    assert lines[0].startswith("machine ")
    assert lines[1] == f"seed {seed}"
    result = result_of(run)
    assert result["ok"] is True
    assert result["faults"] == result["left"] == {}
    assert result["accepted"] > 50
    assert sum(result["states"].values()) == result["accepted"]
    assert set(result["states"]) <= {"completed", "failed", "cancelled"}


def test_a_broken_promise_is_told_and_ends_with_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A check that cannot fail is a bug: here the ledger loses what truly ran."""
    monkeypatch.setattr(races, "read", lambda path: [])
    assert races.main(["--seconds", "0.5", "--seed", "2"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out.splitlines()[-1])["ok"] is False
    assert "FAULTS: {'faults': {'lost'" in captured.err


def test_the_list_names_every_script_and_an_unknown_name_is_an_error() -> None:
    run = run_stress("--list")
    assert run.returncode == 0
    names = {line.split()[0] for line in run.stdout.splitlines()}
    assert names >= {"cancel_storm", "chaos", "races", "resources", "versus"}
    readme = (REPOSITORY / "stress" / "README.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in readme for name in names)
    assert run_stress("nonsense").returncode == 2
