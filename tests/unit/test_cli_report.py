"""The tables: right, aligned, and no wider than they may be."""

import pytest

from engine import Lane
from engine.cli import report
from engine.cli.comparison import Comparison, take_sample
from engine.cli.lane_times import LaneTime
from engine.cli.metrics import Metrics, failure
from engine.cli.totals import ORDERS, Totals


def metrics(path: str, branches: int = 1, longest: tuple[str, int] | None = None, size_bytes: int = 1000) -> Metrics:
    return {
        "path": path,
        "size_bytes": size_bytes,
        "lines": 10 * branches,
        "functions": branches,
        "longest": {"name": longest[0], "line": 1, "lines": longest[1]} if longest else None,
        "branches": branches,
        "compression": 2.0,
    }


def filled() -> Totals:
    totals = Totals()
    totals.add(metrics("b.py", 1234, ("Class.method_of_some_length_that_does_not_fit", 1200)))
    totals.add(metrics("deep/" * 20 + "a.py", 999_999))
    totals.add(metrics("\x1b[31mred\n.py", 1234, ("f", 1)))
    for number in range(50):
        totals.add(failure(f"{'x' * number}.py", "unparsable" if number else "crashed", "because\nof " * number))
    return totals


def test_sums_and_counts_are_kept() -> None:
    totals = filled()
    assert (totals.done, len(totals.files), totals.size_bytes) == (53, 3, 3000)
    assert (totals.lines, totals.functions, totals.branches) == (10_024_670, 1_002_467, 1_002_467)
    assert totals.kinds() == {"unparsable": 49, "crashed": 1}


def test_the_top_is_in_order_and_ties_are_by_path() -> None:
    names = [file["path"][-4:] for file in filled().top(3, "branches")]
    assert names == ["a.py", "\n.py", "b.py"]
    assert [file["path"] for file in filled().top(1, "longest")] == ["b.py"]


@pytest.mark.parametrize("by", sorted(ORDERS))
@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider_than_the_terminal_or_holds_what_it_would_obey(by: str, width: int) -> None:
    totals = filled()
    lanes = {lane: LaneTime(999_999, 12, 3599.0, 3_599_999.0) for lane in Lane}
    lines = [
        *report.summary_lines(totals, 12.3),
        *report.top_lines(totals.top(10, by), by, width),
        *report.failure_lines(totals, width),
        *report.lane_lines(lanes, dict.fromkeys(Lane, 64), 12.3),
        *report.comparison_lines(Comparison(300, 5_000_000, 3.0, 0.8, 4, 3.0, 2)),
    ]
    assert [line for line in lines if len(line) > width or not line.isprintable()] == []


def test_failures_past_the_first_are_counted() -> None:
    lines = list(report.failure_lines(filled(), 80))
    assert lines[1] == "Not measured: 50 files (49 unparsable, 1 crashed)"
    assert lines[-1] == "  and 10 more; --json FILE has them all"


def test_nothing_measured_makes_no_table_and_no_error() -> None:
    totals = Totals()
    assert list(report.top_lines([], "lines", 80)) == list(report.failure_lines(totals, 80)) == []
    assert len(list(report.summary_lines(totals, 0.0))) == 2
    assert len(list(report.lane_lines({Lane.LOOP: LaneTime()}, {Lane.LOOP: 1}, 0.0))) == 4


def test_a_comparison_says_when_it_says_little() -> None:
    quiet = "\n".join(report.comparison_lines(Comparison(300, 5_000_000, 3.0, 1.5, 2, 0.1, 2)))
    assert "2.00 times as fast, with 2 worker processes" in quiet
    assert "says little" not in quiet
    assert "busy" not in quiet
    doubtful = "\n".join(report.comparison_lines(Comparison(3, 5000, 0.3, 0.2, 1, 2.0, 2)))
    assert "a sample below 500 ms says little" in doubtful
    assert "the machine was busy before we began (load 2.0)" in doubtful


def test_a_sample_is_spread_over_all_files_and_bounded_by_their_work() -> None:
    files = [metrics(f"{number:03}.py") for number in reversed(range(100))]
    assert take_sample(files, 4, 1e9) == ["000.py", "025.py", "050.py", "075.py"]
    assert take_sample(files, 500, 1e9) == [f"{number:03}.py" for number in range(100)]
    assert len(take_sample(files, 500, 10_000)) == 30  # 3 s of work at 10 files a second
    assert take_sample(files, 500, 1.0) == ["000.py"]
