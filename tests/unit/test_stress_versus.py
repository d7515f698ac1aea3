"""How readings of a comparison are judged and written; and that the page in docs is of the script's making."""

import subprocess
import sys

import pytest

from stress import versus
from stress._peers import PEERS
from stress._readings import NOT_INSTALLED, Reading, number
from stress._report import PEERS_IN_WORDS, page
from stress._turn import Turn
from stress._workloads import Figure, Goal, Size, figures
from stress.versus import measure, order, parse
from tests.support import REPOSITORY


async def _never(*_: object) -> float:
    raise AssertionError


def reading(goal: Goal, *, is_rate: bool = False, **values: list[float]) -> Reading:
    """Make a reading of two peers."""
    figure = Figure("f", "{tasks} of them", "ms", _never, ("loky", "dask"), (goal,), is_rate=is_rate)
    found = Reading(figure, Size(tasks=7))
    for peer, each in values.items():
        for value in each:
            found.note(peer, Turn(value=value))
    return found


def test_a_ratio_above_one_is_in_favour_of_the_engine_for_rates_and_for_times() -> None:
    goal = Goal(2, ("loky", "dask"))
    assert reading(goal, is_rate=True, engine=[20, 30, 90], loky=[10]).ratios == {"loky": 3}
    assert reading(goal, engine=[10], loky=[30], dask=[20]).ratios == {"dask": 2, "loky": 3}
    assert list(reading(goal, engine=[10], loky=[30], dask=[20]).ratios) == ["dask", "loky"]


@pytest.mark.parametrize(("dask", "kept"), [(20.0, True), (19.0, False)])
def test_a_promise_is_held_against_the_best_of_the_peers(dask: float, kept: bool) -> None:
    found = reading(Goal(2, ("loky", "dask")), engine=[10], loky=[90], dask=[dask])
    assert found.verdicts == [("2 x the best of loky, dask", kept)]


def test_a_promise_is_not_called_kept_while_one_of_the_peers_is_not_installed() -> None:
    found = reading(Goal(2, ("loky", "dask")), engine=[10], loky=[90])
    found.note("dask", Turn(reason=NOT_INSTALLED))
    assert found.verdicts[0][1] is None
    found.note("loky", Turn(value=1))
    found.note("loky", Turn(value=1))
    assert found.verdicts[0][1] is False


@pytest.mark.parametrize(
    ("goal", "words", "kept"),
    [
        (Goal(most=10), "at most 10 ms", True),
        (Goal(most=9), "at most 9 ms", False),
        (Goal(least=10), "at least 10 ms", True),
        (Goal(least=11), "at least 11 ms", False),
        (Goal(0.5, ("loky",)), "at most 2 x the time of loky", None),
    ],
)
def test_a_promise_of_its_own_needs_no_peer(goal: Goal, words: str, kept: bool | None) -> None:
    assert reading(goal, engine=[10]).verdicts == [(words, kept)]


def test_everybody_is_first_once() -> None:
    turns = [order(["a", "b", "c"], turn) for turn in range(3)]
    assert [turn[0] for turn in turns] == ["a", "b", "c"]
    assert all(sorted(turn) == ["a", "b", "c"] for turn in turns)


@pytest.mark.parametrize(("slow", "turns"), [("60", 3), ("-1", 1)])
def test_a_competitor_that_is_slow_takes_one_turn_and_the_engine_all_of_them(
    monkeypatch: pytest.MonkeyPatch, slow: str, turns: int
) -> None:
    monkeypatch.setattr(versus, "is_installed", lambda peer: True)
    monkeypatch.setattr(versus, "take_turn", lambda *_: Turn(value=1.0))
    found = Reading(Figure("f", "f", "ms", _never, ("loky", "dask"), ()), Size())
    said = list(measure(found, parse(["--rounds", "3", "--slow", slow]), lambda: False))
    assert {peer: len(values) for peer, values in found.values.items()} == {"engine": 3, "loky": turns, "dask": turns}
    assert len(said) == 3 + 2 * turns


@pytest.mark.parametrize(("value", "text"), [(None, "-"), (0.01234, "0.0123"), (12.345, "12.3"), (12345.6, "12,346")])
def test_numbers_have_the_digits_that_count(value: float | None, text: str) -> None:
    assert number(value) == text


def test_every_figure_names_known_competitors_and_a_title_with_its_size() -> None:
    for name, figure in figures().items():
        assert {figure.ours, *figure.peers, *[peer for goal in figure.goals for peer in goal.against]} <= PEERS.keys()
        assert {peer for goal in figure.goals for peer in goal.against} <= set(figure.peers), name
        assert "{" not in figure.words(Size())
    assert PEERS_IN_WORDS.keys() == PEERS.keys()


def test_a_figure_whose_competitors_are_all_missing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versus, "is_installed", lambda peer: False)
    found = Reading(Figure("f", "f", "ms", _never, ("loky", "dask"), ()), Size())
    assert list(measure(found, parse([]), lambda: False)) == []
    assert found.reasons == dict.fromkeys(["engine", "loky", "dask"], NOT_INSTALLED)


def test_without_the_extra_for_jobs_the_rest_is_compared() -> None:
    code = "import sys; sys.modules['apsw'] = None; from stress._workloads import figures; print(*figures())"
    run = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == list(figures())


def test_the_page_says_why_a_competitor_has_no_value() -> None:
    found = reading(Goal(2, ("loky", "dask")), engine=[10], loky=[30])
    found.note("dask", Turn(reason="gave up after 3 s"))
    facts = {
        "command": "c", "rounds": 1, "slow": 30, "size": {"workers": 2, "tasks": 50, "megabytes": 100}, "versions": {},
        "machine": {"cpus": 2, "load": 1.5}, "chart": None,
    }  # fmt: skip
    text = page([found], facts)
    assert "the machine did other work (load 1.5 before the run); fewer than 5 rounds were made; the work was" in text
    assert "| | dask | gave up after 3 s | | |" in text
    assert "| 3 x | loky | 30 ms | 30 | 30 |" in text
    assert "| [f](#f) | 10 ms | 2 x the best of loky, dask | 3 x | kept |" in text
    assert "7 of them. Less is better." in text


def test_the_page_in_docs_is_of_the_scripts_making() -> None:
    told: list[str] = []
    for name in ("PERFORMANCE.md", "PERFORMANCE-JOBS.md"):
        text = (REPOSITORY / "docs" / name).read_text(encoding="utf-8")
        lines = text.splitlines()
        command = lines[2].removeprefix("<!-- made by ").removesuffix("; do not edit -->")
        assert command.startswith("python -m stress versus ")
        assert f"--write docs/{name}" in command
        assert f"$ {command}" in lines
        found = [line.removeprefix("### ") for line in lines if line.startswith("### ")]
        for figure in found:
            assert text.count(f"| [{figure}](#{figure}) |") == len(figures()[figure].goals)
        told += found
    assert sorted(told) == sorted(figures())
    assert (REPOSITORY / "docs" / "performance.png").read_bytes().startswith(b"\x89PNG")
