"""``engine jobs list``, ``show`` and ``stats``, on a real file."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from engine.cli import PIPE_CLOSED, main
from engine.cli.table import cells
from engine.jobs._records import End
from tests.support import REPOSITORY, eventually

from .conftest import File, Run

Jobs = Callable[..., Run]

#: Escapes, a carriage return, writing from right to left, half a pair, a line end, and something wide.
HOSTILE = "\x1b[2J\r\u202eevil\u2066\x00\ud800\n\u200b名前"


# -- list


def test_list_shows_a_line_for_each_job_the_newest_first(file: File, jobs: Jobs) -> None:
    file.add(2)
    file.complete(file.claim(1))
    file.fail(file.claim(1))
    file.add(delay=600)
    file.add(lock="a", priority=5)
    file.claim(1)
    file.add(lock="a")
    file.claim(1)
    run = jobs("list")
    assert run.code == 0
    assert [re.split(r"  +", line.strip()) for line in run.lines] == [
        ["id", "state", "queue", "name", "tries", "when", "what"],
        ["5", "pending", "default", "app.send", "0", "0 s ago", "waits for the lock a"],
        ["4", "running", "default", "app.send", "1", "0 s ago", "host:12:w"],
        ["3", "pending", "default", "app.send", "0", "0 s ago", "due in 10 min"],
        ["2", "failed", "default", "app.send", "1", "0 s ago", "ValueError: no"],
        ["1", "completed", "default", "app.send", "1", "0 s ago", '{"a": 1}'],
    ]


def test_a_job_that_is_tried_again_says_when_and_why(file: File, jobs: Jobs) -> None:
    file.add()
    file.fail(file.claim(), end=End.RETRY, delay=300.0)
    assert "due in 5 min; ValueError: no" in jobs("list").lines[1]


def test_list_takes_filters_and_pages(file: File, jobs: Jobs) -> None:
    file.add(3)
    file.add(queue="mail", name="app.mail")
    file.complete(file.claim(2))

    def ids(*arguments: str) -> list[int]:
        return [each["id"] for each in jobs("list", "--json", *arguments).objects]

    assert ids() == [4, 3, 2, 1]
    assert ids("--state", "pending") == [4, 3]
    assert ids("--state", "pending", "--state", "completed", "--queue", "default") == [3, 2, 1]
    assert ids("--name", "app.mail") == [4]
    assert ids("--limit", "2", "--before", "4") == [3, 2]
    assert jobs("list", "--limit", "2").lines[-1] == "the newest 2 jobs; older ones: --before 3"
    assert jobs("list", "--name", "app.nothing").out == "No such job\n"


def test_more_jobs_than_are_read_at_once_are_each_listed_once(file: File, jobs: Jobs) -> None:
    file.add(130)
    assert [each["id"] for each in jobs("list", "--json", "--limit", "120").objects] == list(range(130, 10, -1))


# -- what rows may hold


@pytest.mark.parametrize("width", [20, 80])
def test_hostile_rows_are_shown_as_what_they_are(
    file: File, jobs: Jobs, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    """E135: nothing in a row moves the cursor, colours the terminal, or breaks a line."""
    text = HOSTILE.replace("\ud800", "")  # which SQLite does not take
    file.add(3, queue=text, name=text, args=json.dumps({text: HOSTILE}), lock=text, priority=1)
    file.fail(file.claim(1, [text]), error=text, traceback=f"{text}\n{text}")
    file.do(lambda book, now: book.pause(text, True))
    monkeypatch.setenv("COLUMNS", str(width))
    for action in ("list", "stats"):
        lines = jobs(action).lines
        assert all(line.isprintable() for line in lines)
    assert all(cells(line) <= width for line in jobs("list").lines)
    shown = jobs("show", 1)
    assert all(line.isprintable() for line in shown.lines)
    assert "\\x1b[2J\\r\\u202eevil\\u2066\\x00" in shown.out
    for command in ("list", "show 1", "stats"):
        run = jobs(*command.split(), "--json")
        assert run.out.isascii()
        assert all(line.isprintable() for line in run.lines)
    assert jobs("show", 1, "--json").objects[0]["args"] == {text: HOSTILE}


@pytest.mark.parametrize(
    "planted", ["no json", "[" * 100_000, '{"a": NaN}', "1" * 10_000, '{"a": 1e999}', "", "[" * 900 + "]" * 900]
)
def test_args_that_are_no_json_are_shown_as_text(file: File, jobs: Jobs, planted: str) -> None:
    """E135: a planted payload breaks no look."""
    file.add(args=planted)
    assert jobs("list").code == jobs("show", 1).code == 0
    for found in (*jobs("list", "--json").objects, *jobs("show", 1, "--json").objects):
        assert found["args"] == planted or json.dumps(found["args"]) == planted.replace("1e999", "Infinity")


# -- show


def test_show_prints_all_that_is_known(file: File, jobs: Jobs) -> None:
    file.add(priority=7, lock="a", queueing_lock="b", args='{"to": "x", "n": [1, {"k": null}]}')
    file.fail(file.claim(), end=End.RETRY, error="OSError: first", traceback="Traceback:\n  File x\nOSError: first")
    file.fail(file.claim(), error="ValueError: second")
    lines = jobs("show", 1).lines
    assert lines[0] == "job 1: app.send"
    start = lines.index("  arguments")
    facts = {line[2:16].strip(): line[17:] for line in lines[1:start]}
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC \(0 s ago\)", facts.pop("enqueued"))
    assert facts.keys() >= {"started", "ended"}
    assert {name: facts[name] for name in ("state", "queue", "priority", "attempt", "lock")} == {
        "state": "failed", "queue": "default", "priority": "7", "attempt": "2 (2 claims)", "lock": "a",
    }  # fmt: skip
    assert json.loads("".join(lines[start + 1 : lines.index("  history")])) == {"to": "x", "n": [1, {"k": None}]}
    history = "\n".join(lines[lines.index("  history") :])
    assert re.search(r"attempt 1, claim 1: error on host:12:w, .*\n +Traceback:\n +File x\n +OSError: first", history)
    assert re.search(r"attempt 2, claim 2: error on host:12:w, .*\n +ValueError: second", history)


def test_show_tells_who_holds_a_job_and_for_how_long(file: File, jobs: Jobs) -> None:
    file.add()
    file.claim(lease=600.0)
    assert "  held by        host:12:w, lease 10 min more" in jobs("show", 1).lines


def test_a_job_that_is_not_there_is_one_line(jobs: Jobs, file: File) -> None:
    file.add()
    for job_id in (2, 10**17):
        run = jobs("show", job_id)
        assert (run.code, run.out) == (1, "")
        assert run.err == (
            f"engine jobs show: expected the id of a job, got {job_id}, which is not there; it may have been pruned\n"
        )


# -- stats


def test_stats_count_queues_and_holders(file: File, jobs: Jobs) -> None:
    file.add(3)
    file.add(2, queue="mail")
    file.complete(file.claim(1))
    file.claim(1)
    file.do(lambda book, now: book.pause("mail", True))
    run = jobs("stats")
    rows = [line.split() for line in run.lines]
    assert rows[:4] == [
        ["queue", "ready", "running", "completed", "failed"],
        ["default", "1", "1", "1", "0"],
        ["mail", "2", "0", "0", "0", "paused"],
        ["3", "1", "1", "0"],
    ]
    assert "the oldest that is ready has waited 0 s, in" in run.out
    assert ["host:12:w", "1", "0", "s", "30", "s"] in rows or ["host:12:w", "1", "0", "s", "29", "s"] in rows
    told = jobs("stats", "--json").objects[0]
    assert [queue["ready"] for queue in told["queues"]] == [1, 2]
    assert [holder["running"] for holder in told["holders"]] == [0, 1]
    assert 0 < told["holders"][1]["lease_left"] <= 30
    assert told["counters"]["fenced"] == 0


def test_numbers_stay_narrow(file: File, jobs: Jobs) -> None:
    from engine.cli.jobs.overview import _number

    assert [_number(each) for each in (0, 99_999, 100_000, 9_999_999, 10**9)] == [
        "0", "99,999", "100 k", "10,000 k", "1,000 M",
    ]  # fmt: skip


def test_a_reader_that_leaves_ends_a_list_quietly(file: File) -> None:
    file.add(3000)
    command = [sys.executable, "-m", "engine", "jobs", "list", str(file.path), "--json", "--limit", "3000"]
    listing = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=REPOSITORY)
    with listing:
        assert listing.stdout is not None
        assert listing.stderr is not None
        assert listing.stdout.readline().startswith(b'{"id": 3000, ')
        listing.stdout.close()
        eventually(lambda: listing.poll() is not None, 30, "the list ends")
        assert listing.stderr.read() == b""
    assert listing.returncode == PIPE_CLOSED


def test_a_narrow_terminal_shows_a_part_of_every_column(
    file: File, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    file.add(2, name="shop.reports.monthly_report")
    file.fail(file.claim(2), error="ValueError: expected something else")
    monkeypatch.setenv("COLUMNS", "60")
    assert jobs("list").lines == [
        "id  state   queue    name           tries  when     what",
        " 2  failed  default  ...hly_report      1  0 s ago  Value...",
        " 1  failed  default  ...hly_report      1  0 s ago  Value...",
    ]


def test_what_is_piped_is_not_cut(file: File, jobs: Jobs) -> None:
    file.add(name="application.package.of.tasks." + "x" * 100)
    assert "..." in jobs("list").out
    assert "application.package.of.tasks." + "x" * 100 in jobs_piped(file)


def jobs_piped(file: File) -> str:
    """Return what ``engine jobs list`` prints into a pipe."""
    found = subprocess.run(
        [sys.executable, "-m", "engine", "jobs", "list", str(file.path)], cwd=REPOSITORY, timeout=60, check=True,
        env={name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    return found.stdout


def test_json_may_come_before_the_command(file: File, capsys: pytest.CaptureFixture[str]) -> None:
    file.add()
    assert main(["jobs", "--json", "stats", str(file.path)]) == 0
    assert json.loads(capsys.readouterr().out)["queues"][0]["ready"] == 1


def test_stats_show_the_last_period_of_each_schedule(file: File, jobs: Jobs) -> None:
    assert jobs("stats", "--json").objects[0]["schedules"] == []
    file.do(lambda book, now: book.tick("nightly", now.wall - 3600, None, now))
    last_at = file.do(lambda book, now: book.last_tick("nightly"))
    assert jobs("stats", "--json").objects[0]["schedules"] == [{"name": "nightly", "last_at": last_at}]
    assert "nightly" in jobs("stats").out
    assert "60 min ago" in jobs("stats").out
