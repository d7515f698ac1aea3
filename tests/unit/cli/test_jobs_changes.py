"""``engine jobs cancel``, ``requeue``, ``pause``, ``resume`` and ``prune``, on a real file."""

import io
import sys
from collections.abc import Callable

import pytest

from engine import TaskState
from engine.jobs import Filter

from .conftest import File, Run

Jobs = Callable[..., Run]


def states(file: File) -> list[str]:
    """Return the states of all jobs, in the order of their ids."""
    found = file.store.read(lambda book, now: book.find(Filter(limit=10_000, oldest_first=True))).result(10)
    return [row.state.value for row in found]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_cancel_says_what_it_found_of_each(file: File, jobs: Jobs) -> None:
    file.add(3)
    file.complete(file.claim(1))
    file.claim(1)
    run = jobs("cancel", 1, 2, 3, 4, 3)
    assert run.code == 1
    assert run.lines == [
        "job 1: ended already",
        "job 2: asked to stop",
        "job 3: cancelled",
        "job 4: not there",
    ]
    assert states(file) == ["completed", "running", "cancelled"]
    assert jobs("cancel", "--json", 2, 3).objects == [{"id": 2, "outcome": "asked"}, {"id": 3, "outcome": "too late"}]
    assert jobs("cancel", 2).code == 0


def test_requeue_has_what_ended_run_again(file: File, jobs: Jobs) -> None:
    file.add(2)
    file.fail(file.claim(1))
    run = jobs("requeue", 1, 2)
    assert (run.code, run.lines) == (1, ["job 1: requeued", "job 2: not ended"])
    assert states(file) == ["pending", "pending"]


def test_requeue_says_in_json_why_not(file: File, jobs: Jobs) -> None:
    file.add(2)
    file.complete(file.claim(1))
    assert jobs("requeue", 1, 2, 3, "--json").objects == [
        {"id": 1, "requeued": True, "reason": None},
        {"id": 2, "requeued": False, "reason": "not ended"},
        {"id": 3, "requeued": False, "reason": "unknown"},
    ]


def test_a_filter_takes_what_it_finds(file: File, jobs: Jobs) -> None:
    file.add(450)
    file.add(2, name="app.mail")
    file.fail(file.claim(452))
    assert jobs("requeue", "--state", "failed", "--name", "app.send", "--yes").out == "450 jobs: requeued\n"
    assert states(file) == ["pending"] * 450 + ["failed"] * 2
    assert jobs("cancel", "--queue", "default", "--json", "--yes").objects == [
        {"id": job_id, "outcome": "now"} for job_id in range(450, 0, -1)
    ]
    assert jobs("cancel", "--queue", "default", "--yes").out == "No such job\n"


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("yes\n", 0), ("\n", 2), ("n\n", 2), ("", 2)])
def test_a_filter_asks_whether_so_many_are_meant(
    file: File, jobs: Jobs, monkeypatch: pytest.MonkeyPatch, answer: str, code: int
) -> None:
    file.add(2)
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    run = jobs("cancel", "--state", "pending", "--name", "app.send")
    assert run.code == code
    assert run.err.startswith("cancel 2 pending jobs of app.send? [y/N] ")
    assert states(file) == ["pending" if code else "cancelled"] * 2


def test_where_nobody_can_be_asked_a_filter_needs_yes(
    file: File, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    file.add(2)
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    run = jobs("cancel", "--queue", "default")
    assert (run.code, run.out) == (2, "")
    assert run.err == (
        "engine jobs cancel: expected --yes, for nobody can be asked here: "
        "cancel 2 pending or running jobs in default?\n"
    )
    assert states(file) == ["pending", "pending"]


@pytest.mark.parametrize(("arguments", "got"), [((), "neither"), ((1, "--state", "pending"), "both")])
def test_either_ids_or_a_filter(file: File, jobs: Jobs, arguments: tuple[object, ...], got: str) -> None:
    run = jobs("cancel", *arguments)
    assert (run.code, run.out) == (2, "")
    assert run.err.endswith(f"expected either IDs or a filter such as --state pending --name NAME, got {got}\n")


def test_a_queue_is_paused_and_resumed(file: File, jobs: Jobs) -> None:
    file.add()
    assert jobs("pause", "default", "maill").lines == [
        "default is paused: workers claim nothing from it",
        "maill is paused: workers claim nothing from it; no job is in it so far",
    ]
    assert file.claim() == []
    assert jobs("resume", "default", "--json").objects == [{"queues": ["default"], "paused": False}]
    assert len(file.claim()) == 1


def test_prune_deletes_what_ended_long_ago(file: File, jobs: Jobs) -> None:
    file.add(2500)
    file.complete(file.claim(2300))
    file.fail(file.claim(100))
    assert jobs("prune", "--older-than", "1h").out == "0 jobs deleted that ended more than 60 min ago\n"
    assert jobs("prune", "--older-than", "0s", "--state", "completed").out.startswith("2,300 jobs deleted that ended")
    assert states(file) == ["failed"] * 100 + ["pending"] * 100
    assert jobs("prune", "--older-than", "0s", "--json").objects == [{"deleted": 100}]
    assert states(file) == [TaskState.PENDING.value] * 100


def test_a_long_prune_shows_on_a_terminal_how_far_it_is(
    file: File, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    from engine.cli.jobs import pruning

    file.add(300)
    file.complete(file.claim(300))
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(pruning, "_BATCH", 100)
    monkeypatch.setattr(pruning, "LIVE_EVERY", 0.0)
    assert jobs("prune", "--older-than", "0s").code == 0
    assert [text.strip() for text in terminal.getvalue().split("\r")] == [
        "", "100 jobs deleted so far", "200 jobs deleted so far", "300 jobs deleted so far", "300 jobs deleted so far",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("prune",), "the following arguments are required: --older-than"),
        (("prune", "--older-than", "7"), "argument --older-than: expected a duration such as 90s, 15m, 6h or 7d"),
        (("prune", "--older-than", "1d", "--state", "pending"), "argument --state: invalid choice: 'pending'"),
        (("list", "--limit", "0"), "argument --limit: expected a positive integer, got '0'"),
        (("list", "--before", "x"), "argument --before: expected a positive integer, got 'x'"),
        (("show",), "the following arguments are required: ID"),
        (("show", "-1"), "argument ID: expected a positive integer, got '-1'"),
        (("cancel", "--yes", "x"), "expected a positive integer, got 'x'"),
        (("pause",), "the following arguments are required: QUEUE"),
    ],
)
def test_wrong_usage_is_one_line(jobs: Jobs, arguments: tuple[str, ...], message: str) -> None:
    run = jobs(*arguments)
    assert (run.code, run.out, run.err.count("\n")) == (2, "", 1)
    assert run.err.startswith(f"engine jobs {arguments[0]}: ")
    assert message in run.err
