"""A short run of ``python -m stress recovery``: it measures what it says. The figures are judged elsewhere."""

from stress.recovery import FIGURES
from tests.integration.stress_runs import result_of, run_stress


def test_two_rounds_of_each_figure_are_measured() -> None:
    """W1, W14: deaths are noticed, and cleared slots run again."""
    run = run_stress("recovery", "--rounds", "2")
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stderr == ""
    result = result_of(run)
    assert list(result["figures"]) == [figure.name for figure in FIGURES]
    for figure in result["figures"].values():
        assert 0 < figure["median"] <= figure["most"] < 30_000


def test_what_it_does_not_know_is_refused() -> None:
    run = run_stress("recovery", "speed")
    assert run.returncode == 2
    assert "expected names among bare-interpreter, death-to-failed" in run.stderr
