"""Why a run did not complete, as text that fits a row."""

import os

import engine
from engine import RemoteError, WorkerCrashed
from engine.errors import RemoteTraceback
from engine.jobs._worker.failure import ERROR_MOST, TRACEBACK_MOST, describe


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


class Sly(str):
    """A text whose own methods are user code."""

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        raise SystemExit(4)

    split = strip = __len__ = __format__  # type: ignore[assignment]


class Nameless(type):
    """A class that does not tell its name."""

    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise SystemExit(5)


class Sneaky(Exception, metaclass=Nameless):
    """Gives a text that is none."""

    def __str__(self) -> str:
        return Sly("boo")


def test_neither_the_text_nor_the_class_of_an_error_runs_its_own_code() -> None:
    """E181: the run of it is recorded, whatever ``__str__`` gives and the metaclass answers."""
    line, trace = describe(raised(Sneaky()))
    assert line == "Sneaky: boo"
    assert trace


def remote(text: str) -> RemoteTraceback:
    return RemoteTraceback(text)


FRAMES = """\
  File "{root}/_worker/runner.py", line 72, in _call
    return VALUE, call(
           ^^^^^
  File "{root}/jobs/_plain_call.py", line 29, in __call__
    return encode_result(self._task.fn(**job.args))
""".format(root=os.path.dirname(engine.__file__))
OWN = 'Traceback (most recent call last):\n  File "/app/shop.py", line 3, in send\n    send_it()\n'


def test_what_a_worker_process_raised_begins_in_the_function_and_is_said_once() -> None:
    """E159: also the error that its cause was."""
    head, _, rest = OWN.partition("\n")
    inner = f"{head}\n{FRAMES}{rest}KeyError: 'x'\n"
    outer = f"{head}\n{FRAMES}{rest}OSError: it\n"
    error = OSError("it")
    error.__cause__ = remote(f"{inner}\nThe above exception was ...\n\n{outer}")
    line, trace = describe(error)
    assert line == "OSError: it"
    assert trace == f"{OWN}KeyError: 'x'\n\nThe above exception was ...\n\n{OWN}OSError: it\n"


def test_what_could_not_travel_has_its_traceback_and_the_reason() -> None:
    """E159."""
    error = RemoteError("shop.Odd: it", traceback=f"{OWN}shop.Odd: it\n")
    error.add_note("It arrives as RemoteError because ...")
    assert describe(error) == ("shop.Odd: it", f"{OWN}shop.Odd: it\nIt arrives as RemoteError because ...\n")


def test_a_crash_keeps_the_last_words_of_its_process() -> None:
    """E159."""
    error = WorkerCrashed("process-1 was ended by SIGKILL")
    error.__cause__ = remote("the last of its stderr:\nlast words")
    _, trace = describe(error)
    assert trace == "engine.errors.WorkerCrashed: process-1 was ended by SIGKILL\nthe last of its stderr:\nlast words\n"


def test_what_a_function_got_from_an_engine_of_its_own_has_both_tracebacks() -> None:
    """E159: where it was raised again, and where it came from."""
    error = OSError("it")
    error.__cause__ = remote(f"{OWN}OSError: it\n")
    _, trace = describe(raised(error))
    assert "/app/shop.py" in trace
    assert "test_failure.py" in trace
    assert trace.index("/app/shop.py") < trace.index("test_failure.py")
