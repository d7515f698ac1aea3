"""Numbers as people read them."""

import pytest

from engine.cli import units


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 us"),
        (85e-6, "85 us"),
        (0.0009999, "1.0 ms"),
        (0.0123, "12 ms"),
        (0.9999, "1.00 s"),
        (3.421, "3.42 s"),
        (59.99, "1 min 00 s"),
        (125, "2 min 05 s"),
        (3661, "1 h 01 min"),
    ],
)
def test_a_duration_has_the_unit_that_suits_it(seconds: float, text: str) -> None:
    assert units.duration(seconds) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (3_449_999, "3.4 MB"), (999_960, "1.0 MB"), (2e12, "2.0 TB")],
)
def test_a_size_has_the_unit_that_suits_it(size_bytes: float, text: str) -> None:
    assert units.size(size_bytes) == text


def test_a_count_goes_with_its_noun() -> None:
    assert [units.count(n, "file") for n in (0, 1, 1771)] == ["0 files", "1 file", "1,771 files"]
    assert units.count(2, "branch", "branches") == "2 branches"


def test_a_share_of_nothing_is_a_dash() -> None:
    assert (units.share(1, 4), units.share(1, 0)) == ("25 %", "-")


def test_a_name_that_a_terminal_would_obey_is_escaped() -> None:
    assert units.plain("a\x1b[2Jb\n\udce9\u00fc") == "a\\x1b[2Jb\\n\\udce9\u00fc"


def test_a_path_is_clipped_at_its_beginning_and_a_text_at_its_end() -> None:
    assert units.clip("package/module.py", 12) == "...module.py"
    assert units.head("Class.method", 8) == "Class..."
    assert units.clip("short", 5) == units.head("short", 5) == "short"
