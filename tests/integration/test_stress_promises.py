"""Short runs of the scripts that measure promises: they measure what they say. The figures are judged elsewhere."""

import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from stress import endings, recovery
from tests.integration.stress_runs import result_of, run_stress

MEASURED = {"recovery": (2, recovery.FIGURES), "endings": (1, endings.FIGURES)}

Runs = dict[str, subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def runs() -> Runs:
    """Run the scripts beside each other: most of their time they wait."""

    def run(script: str) -> subprocess.CompletedProcess[str]:
        return run_stress(script, "--rounds", str(MEASURED[script][0]))

    with ThreadPoolExecutor() as pool:
        return dict(zip(MEASURED, pool.map(run, MEASURED), strict=True))


@pytest.mark.parametrize("script", MEASURED)
def test_each_figure_is_measured(script: str, runs: Runs) -> None:
    """W1, W14, N5, N7, N10: deaths are noticed, slots run again; stops, exits and Ctrl-C with work that never ends."""
    run, figures = runs[script], MEASURED[script][1]
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stderr == ""
    result = result_of(run)
    assert list(result["figures"]) == [figure.name for figure in figures]
    for figure in result["figures"].values():
        assert figure["median"] <= figure["most"] < 30_000
        assert script == "endings" or figure["median"] > 0  # a stop may end before its time is over


def test_what_it_does_not_know_is_refused() -> None:
    run = run_stress("recovery", "speed")
    assert run.returncode == 2
    assert "expected names among bare-interpreter, death-to-failed" in run.stderr
