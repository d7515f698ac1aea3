"""Why a run did not complete, as text that fits a row."""

from engine.jobs._failure import ERROR_MOST, TRACEBACK_MOST, describe


class Hostile(Exception):
    """Exits where its message is asked for."""

    def __str__(self) -> str:
        raise SystemExit(3)


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def test_type_and_message_are_one_line_and_the_traceback_has_the_causes() -> None:
    cause = raised(KeyError("deep"))
    error = ValueError("two\nlines")
    error.__cause__ = cause
    line, trace = describe(raised(error))
    assert line == "ValueError: two lines"
    assert "KeyError: 'deep'" in trace
    assert "test_failure.py" in trace


def test_what_is_long_keeps_its_head_and_tail() -> None:
    """E124: the history of a job is bounded, whatever its errors say."""
    line, trace = describe(raised(ValueError("a" + "x" * 10**6 + "z")))
    assert len(line) <= ERROR_MOST
    assert line.startswith("ValueError: a")
    assert line.endswith("z")
    assert len(trace) <= TRACEBACK_MOST
    assert trace.startswith("Traceback")
    assert trace.endswith("z\n")


def test_an_error_that_cannot_be_told_is_told_all_the_same() -> None:
    """E124: neither is an error whose own code exits, nor one that no database takes."""
    line, trace = describe(raised(Hostile()))
    assert line.startswith("Hostile: <its message could not be had: SystemExit>")
    assert trace
    line, trace = describe(raised(ValueError("nul \0, half \ud800")))
    assert line == "ValueError: nul \\x00, half \\ud800"
    line.encode()
    trace.encode()
