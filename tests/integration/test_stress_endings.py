"""A short run of ``python -m stress endings``: it measures what it says. The figures are judged elsewhere."""

from stress.endings import FIGURES
from tests.integration.stress_runs import result_of, run_stress


def test_each_way_to_end_is_measured() -> None:
    """N5, N7, N10: stops, exits and Ctrl-C with work that never ends."""
    run = run_stress("endings", "--rounds", "1")
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stderr == ""
    result = result_of(run)
    assert list(result["figures"]) == [figure.name for figure in FIGURES]
    for figure in result["figures"].values():
        assert figure["median"] <= figure["most"] < 30_000
