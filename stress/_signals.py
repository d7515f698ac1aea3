"""Sends a signal to a program at a random moment, and says what it left: a hang, words on stderr, orphans.

Guarantees
    A program's processes are found by a mark in their environment, so none of anybody else is taken for an orphan.
"""

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Blow", "Wound", "blows", "strike_all", "without_pythons_words"]

MARK = "STRESS_MARK"
PROGRAM = Path(__file__).with_name("_signalled.py")
AT_ONCE = 2  #: programs at the same time
ORPHAN_SECONDS = 10.0

#: What no program should say when it is interrupted: these come from a library's insides, or from the interpreter's.
NOT_THE_USERS = (
    "Exception ignored", "Task was destroyed", "never awaited", "never retrieved", "resource_tracker", "Fatal Python",
    "leaked", "Event loop is closed", "nobody retrieved", "Exception in thread", "Exception in callback",
)  # fmt: skip


SWALLOWED_SECONDS = 10.0  #: after which a Ctrl-C that the interpreter dropped is sent again

_SWALLOWED = re.compile(
    r"Exception ignored in: [^\n]*\nTraceback [^\n]*\n(?:  File \"<frozen importlib[^\n]*\n(?:    [^\n]*\n)*)+"
    r"KeyboardInterrupt: *\n"
)
_UNBORN_LOOP = re.compile(
    r"Exception ignored in: <function BaseEventLoop\.__del__ [^\n]*\nTraceback [^\n]*\n(?:  [^\n]*\n)+"
    r"AttributeError: [^\n]*\n"
)
_UNBEGUN_MAIN = re.compile(r"<?sys>?:\d+: RuntimeWarning: coroutine '(?:main|work_for_ever)' was never awaited\n")


@dataclass(frozen=True, slots=True)
class Blow:
    """One program and what befalls it."""

    number: int
    kind: str  #: "async", "blocking" or "busy"
    signal: signal.Signals
    times: int
    is_early: bool  #: while it imports
    after: float  #: seconds after it said "up", or, if it is not early, that it has imported all
    pause: float  #: seconds between two signals


@dataclass(frozen=True, slots=True)
class Wound:
    """How a program took its blow."""

    blow: Blow
    seconds: float  #: from the last signal to its end
    code: int | None  #: None: it did not end
    problems: tuple[str, ...]
    was_importing: bool  #: it was hit before it had the engine


def blows(rng: random.Random, count: int) -> list[Blow]:
    """Draw ``count`` blows of SIGINT and SIGTERM, and a tenth more of SIGKILL; most hit the start."""
    kinds = [(signal.SIGINT, 1)] * 5 + [(signal.SIGINT, 2)] * 2 + [(signal.SIGTERM, 1)] * 3
    drawn = [rng.choice(kinds) for _ in range(count)] + [(signal.SIGKILL, 1)] * (count // 10)
    return [
        Blow(
            number, rng.choice(["async", "blocking", "busy"]), *kind, is_early=(early := rng.random() < 0.3),
            after=rng.uniform(0, 0.2 if early else rng.choice([0.1, 0.5])), pause=rng.choice([0.0, 0.003, 0.1]),
        )
        for number, kind in enumerate(drawn)
    ]  # fmt: skip


def strike_all(planned: Iterable[Blow], *, patience: float, folder: str) -> list[Wound]:
    """Strike them, a few at once."""
    with ThreadPoolExecutor(AT_ONCE, "striker") as crew:
        return list(crew.map(lambda blow: _strike(blow, patience, folder), planned))


def _strike(blow: Blow, patience: float, folder: str) -> Wound:
    mark = f"{os.getpid()}-{blow.number}"
    error_path = Path(folder, f"stderr-{blow.number}")
    with error_path.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, str(PROGRAM), blow.kind],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), MARK: mark, "TMPDIR": folder},
            start_new_session=True,
        )  # fmt: skip
    assert process.stdout is not None
    with process.stdout:
        said = process.stdout.readline()
        if not blow.is_early:
            said += process.stdout.readline()
        time.sleep(blow.after)
        for number in range(blow.times):
            if number:
                time.sleep(blow.pause)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, blow.signal)  # as a terminal does; not reaped yet, so it is no stranger
        struck_at = time.monotonic()
        _wait(process, min(patience, SWALLOWED_SECONDS))
        if process.poll() is None and _is_swallowed(error_path.read_text(errors="replace")):
            os.killpg(process.pid, blow.signal)  # as its user would
        _wait(process, patience)
        seconds, code = time.monotonic() - struck_at, process.poll()
        process.kill()
        process.wait()
        orphans = _orphans(mark)
        was_importing = b"imported" not in said + process.stdout.read()  # no orphan holds the pipe any more
    words = error_path.read_text(errors="replace")
    error_path.unlink()
    wrong = [*_said_wrong(blow, words, was_importing), *_died_wrong(blow, code, words)]
    return Wound(blow, seconds, code, (*_hung(code), *wrong, *orphans), was_importing)


def _wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        pass


def _is_swallowed(said: str) -> bool:
    """Say whether the interpreter dropped a Ctrl-C that came while it ran a weak reference's callback of its own."""
    return bool(_SWALLOWED.search(said))


def without_pythons_words(said: str) -> str:
    """Take out what a Ctrl-C makes Python say without any engine.

    That it was dropped in an import; that it struck ``asyncio.run`` before that had a loop, or had begun its coroutine.
    """
    return _UNBEGUN_MAIN.sub("", _UNBORN_LOOP.sub("", _SWALLOWED.sub("", said)))


def _hung(code: int | None) -> list[str]:
    return ["did not end"] if code is None else []


def _said_wrong(blow: Blow, said: str, was_importing: bool) -> list[str]:
    """Judge stderr: nothing at all, but for a Ctrl-C the user's own traceback."""
    if blow.signal is not signal.SIGINT:
        return [f"said: {said}"] if said else []
    said = without_pythons_words(said)
    if blow.times > 1:  # what the interpreter says of the second one, in its own shutdown
        said = said.replace("Exception ignored in", "")
    found = [f"said {text!r}: {said}" for text in NOT_THE_USERS if text in said]
    if blow.times == 1 and said and not found:
        lines = said.rstrip().splitlines()
        is_its_own = lines[0].startswith("Traceback ") and (was_importing or lines[-1].startswith("KeyboardInterrupt"))
        if not is_its_own:
            found.append(f"said more than its traceback: {said}")
    return found


def _died_wrong(blow: Blow, code: int | None, said: str) -> list[str]:
    """Judge the exit code: by the signal, or 1 with a KeyboardInterrupt.

    Before CPython 3.12 any ``exec`` of a text on another thread, as in an import there, makes it forget that the one on
    the main thread was not caught (``_Py_UnhandledKeyboardInterrupt`` is one for all).
    """
    wanted = {signal.SIGINT: (-signal.SIGINT, 130), signal.SIGTERM: (-signal.SIGTERM,), signal.SIGKILL: (-9,)}
    is_interrupted = blow.signal is signal.SIGINT and code == 1 and "KeyboardInterrupt" in said
    if code is None or code in wanted[blow.signal] or is_interrupted:
        return []
    return [f"ended with {code}: {said}"]


def _orphans(mark: str) -> list[str]:
    """Return what still lives of the program after some time; it is killed."""
    end = time.monotonic() + ORPHAN_SECONDS
    while (left := _marked(mark)) and time.monotonic() < end:
        time.sleep(0.02)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return [f"orphans: {left}"] if left else []


def _marked(mark: str) -> list[int]:
    needle = f"{MARK}={mark}".encode()
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                if needle in Path("/proc", name, "environ").read_bytes().split(b"\0"):
                    found.append(int(name))
    return found
