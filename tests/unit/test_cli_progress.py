"""The progress line, on a terminal and elsewhere."""

import io

import pytest

from engine.cli.metrics import failure
from engine.cli.progress import LIVE_EVERY, PLAIN_EVERY, Progress
from engine.cli.totals import Totals


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_elsewhere_a_plain_line_comes_now_and_then() -> None:
    stream, totals, clock = io.StringIO(), Totals(), Clock()
    progress = Progress(stream, totals, 10, clock=clock)
    for _ in range(5):
        totals.add(failure("a.py", "unparsable", ""))
        clock.now += PLAIN_EVERY / 2
        progress.show()
    clock.now = 110.0
    progress.close()
    assert stream.getvalue().splitlines() == [
        "2 of 10 files, 0 B, 1 files/s, 8.00 s left",
        "4 of 10 files, 0 B, 1 files/s, 6.00 s left",
        "5 of 10 files, 0 B, 0 files/s, 10.0 s left",
    ]


def test_on_a_terminal_one_line_is_rewritten_and_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    stream, totals, clock = Terminal(), Totals(), Clock()
    progress = Progress(stream, totals, 2, clock=clock)
    for _ in range(2):
        totals.add(failure("a.py", "unparsable", ""))
        clock.now += LIVE_EVERY
        progress.show()
        progress.show()
    progress.close()
    text = stream.getvalue()
    assert text.count("\n") == 1
    states = text.rstrip("\n").split("\r")[1:]
    assert len(states) == 3
    assert states[0].startswith("[##########..........]  1 of 2 files")
    assert states[2].startswith("[####################]  2 of 2 files")
    assert all(len(state) < 40 for state in states)


def test_a_terminal_that_cannot_go_back_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    Progress(stream, Totals(), 2).close()
    assert stream.getvalue() == "0 of 2 files, 0 B\n"
