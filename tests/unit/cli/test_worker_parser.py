"""What ``engine worker`` understands."""

import pytest

from engine.cli import main
from engine.cli.parser import build_parser


def test_queues_are_named_with_their_bounds() -> None:
    parse = build_parser().parse_args
    assert parse(["worker", "a:b"]).queues is None
    assert parse(["worker", "a:b", "--queues", "mail"]).queues == {"mail": None}
    assert parse(["worker", "a:b", "--queues", "a,b=4,c d=1"]).queues == {"a": None, "b": 4, "c d": 1}
    assert parse(["worker", "a:b", "--queues", "a, b = 4"]).queues == {"a": None, "b": 4}
    assert parse(["worker", "a:b", "--drain", "0.5"]).drain == 0.5


def test_queues_that_are_said_twice_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """E172: the second list would be served alone."""
    assert main(["worker", "a:b", "--queues", "a", "--queues", "b"]) == 2
    assert "argument --queues: expected it once, with all that is meant, as --queues a,b=4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        *[("--queues", text, "names of queues such as a,b=4, each once") for text in (
            "", ",", "a,", "=4", "a=", "a=0", "a=-1", "a=x", "a=1.5", "a,a", "a=1,a", "a=99999999999", "a=\u0664")],
        *[("--drain", text, "a number of seconds such as 30 or 2.5") for text in (
            "", "-1", "nan", "inf", "1e3", "30s", " 3", "9" * 10_000, "\u0663", "0x1")],
        *[("--concurrency", text, "a positive integer") for text in (
            "0", "-1", "many", "1.0", "1_0", " 3", "\u0663", "9" * 10_000)],
    ],
)  # fmt: skip
def test_what_is_out_of_range_is_refused(
    capsys: pytest.CaptureFixture[str], option: str, value: str, expected: str
) -> None:  # fmt: skip
    """T5: on the command line."""
    assert main(["worker", "app:jobs", f"{option}={value}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"engine worker: argument {option}: expected {expected}, got '")
    assert len(error) < 250
