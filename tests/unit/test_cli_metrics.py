"""What is measured of one file, and what is said of one that cannot be measured."""

import subprocess
import sys
import warnings
import zlib

import pytest

from engine.cli.metrics import Metrics, measure

SOURCE = b"""\
class Box:
    def put(self, *things):
        for thing in things:
            if thing and thing.ok or thing is None:
                pass
            elif thing:
                pass

    async def take(self):
        try:
            return [x for x in self if x if not x.y]
        except (KeyError, ValueError):
            return 1 if self else 2


def last():
    while True:
        match 1:
            case 1:
                pass
"""


def measured(data: bytes) -> Metrics:
    outcome = measure(("file.py", data))
    assert "kind" not in outcome, outcome
    return outcome


def test_a_file_is_measured() -> None:
    assert measured(SOURCE) == {
        "path": "file.py",
        "size_bytes": len(SOURCE),
        "lines": 20,
        "functions": 3,
        "longest": {"name": "Box.put", "line": 2, "lines": 6},
        # for, if, and, or, elif; comprehension, its two ifs, except, conditional expression; while, case
        "branches": 12,
        "compression": round(len(SOURCE) / len(zlib.compress(SOURCE)), 3),
    }


def test_of_equally_long_functions_the_first_is_the_longest() -> None:
    longest = measured(b"def a(): pass\ndef b(): pass\nclass C:\n    def d(self): pass\n")["longest"]
    assert longest == {"name": "a", "line": 1, "lines": 1}


@pytest.mark.parametrize(("data", "lines"), [(b"", 0), (b"\n", 1), (b"x = 1", 1), (b"x\r\ny\rz\n", 3)])
def test_lines_are_counted_as_an_editor_does(data: bytes, lines: int) -> None:
    assert measured(data)["lines"] == lines


def test_an_empty_file_has_no_longest_function_and_is_not_compressed() -> None:
    empty = measured(b"")
    assert (empty["longest"], empty["compression"]) == (None, 1.0)


@pytest.mark.parametrize("data", [b"\xef\xbb\xbfx = 1\n", b"# coding: latin-1\nx = 1\n", b"x = '\xc3\xbc'\n"])
def test_a_byte_order_mark_and_an_encoding_that_agrees_are_fine(data: bytes) -> None:
    assert measured(data)["functions"] == 0


def test_a_doubtful_escape_warns_nobody() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert measured(b"x = '\\d'\ny = 1 is 1\n")["lines"] == 2


BAD = {
    "latin-1": (b"# coding: latin-1\nx = '\xe9'\n", "not UTF-8", "byte 0xe9 at offset 23"),
    "UTF-16": ("x = 1".encode("utf-16"), "not UTF-8", "byte 0xff at offset 0"),
    "syntax": (b"x = 1\ndef (:\n", "unparsable", "(line 2)"),
    "null byte": (b"x\0y", "unparsable", "null byte at offset 1"),
    "unknown encoding": (b"# coding: klingon\nx = 1\n", "unparsable", "unknown encoding: klingon"),
    "brackets": (b"(" * 5000 + b")" * 5000, "unparsable", ""),
    "signs": (b"-" * 100_000 + b"1", "unparsable", "too deep for the parser"),
    "sum": (b"1" + b"+1" * 100_000, "unparsable", "too deep for the parser"),
    "calls": (b"f" + b"()" * 100_000, "unparsable", "too deep for the parser"),
    "huge number": (b"9" * 100_000, "unparsable", "4300"),
}


@pytest.mark.parametrize(("data", "kind", "reason"), BAD.values(), ids=BAD.keys())
def test_what_cannot_be_measured_is_a_failure_that_says_why(data: bytes, kind: str, reason: str) -> None:
    outcome = measure(("file.py", data))
    assert "kind" in outcome
    assert (outcome["path"], outcome["kind"]) == ("file.py", kind)
    assert reason in outcome["reason"]


def test_a_worker_imports_little_to_measure() -> None:
    code = "import sys, engine.cli.metrics; print(*sorted({'argparse', 'asyncio', 'json', 'loky'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.split() == []
