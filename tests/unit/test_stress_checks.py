"""What the campaigns use besides the ledger: each check finds what it is there to find."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from stress import _signals
from stress._belongings import OURS, SHARED_MEMORY, Belongings
from stress._campaign import percentile
from stress._signals import Blow
from stress.resources import slope

KINDS = ("threads", "descriptors", "processes", "zombies", "shared_memory", "temporary_files")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_left_is_named(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / f"{OURS}x"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    before = Belongings()
    assert before.left(0) == {}
    leave = threading.Event()
    thread = threading.Thread(target=leave.wait, name="left behind")
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) if kind == "processes" else None
    shared = SHARED_MEMORY / f"sem.loky-{os.getpid()}-left"
    pid = fd = None
    try:
        if kind == "threads":
            thread.start()
        elif kind == "descriptors":
            fd = os.open(tmp_path, os.O_RDONLY)
        elif kind == "zombies":
            pid = os.posix_spawn("/bin/true", ["true"], {})
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        elif kind == "shared_memory":
            shared.touch()
        elif kind == "temporary_files":
            (folder / "left").touch()
        assert kind in before.left(0)
    finally:
        leave.set()
        if thread.ident is not None:
            thread.join()
        if child is not None:
            child.communicate(b"\n")
        if pid is not None:
            os.waitpid(pid, 0)
        if fd is not None:
            os.close(fd)
        shared.unlink(missing_ok=True)
        (folder / "left").unlink(missing_ok=True)
    assert before.left(5) == {}


def blow(number: signal.Signals, times: int = 1) -> Blow:
    """Return a blow with that signal."""
    return Blow(1, "async", number, times, is_early=False, after=0.0, pause=0.0)


SWALLOWED = """Exception ignored in: <function _get_module_lock.<locals>.cb at 0x7f5bcef6efc0>
Traceback (most recent call last):
  File "<frozen importlib._bootstrap>", line 446, in cb
KeyboardInterrupt: \n"""

UNBORN = """Exception ignored in: <function BaseEventLoop.__del__ at 0x7f27fe63b1d0>
Traceback (most recent call last):
  File "asyncio/base_events.py", line 691, in __del__
    if not self.is_closed():
           ^^^^^^^^^^^^^^^^
AttributeError: '_UnixSelectorEventLoop' object has no attribute '_closed'
"""
UNBEGUN = "sys:1: RuntimeWarning: coroutine 'work_for_ever' was never awaited\n"

TRACEBACK = 'Traceback (most recent call last):\n  File "x.py", line 1, in <module>\n'


@pytest.mark.parametrize(
    ("number", "said", "was_importing", "is_fine"),
    [
        (signal.SIGINT, "", False, True),
        (signal.SIGINT, TRACEBACK + "KeyboardInterrupt\n", False, True),
        (signal.SIGINT, TRACEBACK + "KeyboardInterrupt\nError calling __set_name__\n", True, True),
        (signal.SIGINT, TRACEBACK + "KeyboardInterrupt\nError calling __set_name__\n", False, False),
        (signal.SIGINT, "engine: a word\n" + TRACEBACK + "KeyboardInterrupt\n", False, False),
        (signal.SIGINT, TRACEBACK + "ValueError: 3\n", False, False),
        (signal.SIGINT, "Exception ignored in: <x>\n" + TRACEBACK + "KeyboardInterrupt\n", True, False),
        (signal.SIGINT, TRACEBACK + "KeyboardInterrupt\nsys:1: RuntimeWarning: x was never awaited\n", False, False),
        (signal.SIGINT, SWALLOWED + TRACEBACK + "KeyboardInterrupt\n", False, True),
        (signal.SIGINT, TRACEBACK + "KeyboardInterrupt\n" + UNBORN + UNBEGUN, False, True),
        (signal.SIGINT, UNBORN + UNBEGUN + TRACEBACK + "KeyboardInterrupt\n" + UNBORN + "x", False, False),
        (signal.SIGINT, TRACEBACK + "KeyboardInterrupt\n" + UNBORN.replace("Attribute", "Value"), False, False),
        (signal.SIGINT, TRACEBACK + "KeyboardInterrupt\n" + UNBORN.replace("BaseEventLoop", "Engine"), False, False),
        (signal.SIGTERM, "", False, True),
        (signal.SIGTERM, "Terminated\n", False, False),
    ],
)
def test_only_the_users_own_traceback_may_be_on_stderr(
    number: signal.Signals, said: str, was_importing: bool, is_fine: bool
) -> None:
    assert (not _signals._said_wrong(blow(number), said, was_importing)) is is_fine


def test_an_exit_code_is_the_signals() -> None:
    assert not _signals._died_wrong(blow(signal.SIGINT), -2, "")
    assert not _signals._died_wrong(blow(signal.SIGTERM), -15, "")
    assert not _signals._died_wrong(blow(signal.SIGINT), 1, "KeyboardInterrupt\n")
    assert _signals._died_wrong(blow(signal.SIGINT), 1, "")
    assert _signals._died_wrong(blow(signal.SIGTERM), 0, "")
    assert _signals._hung(None)


def test_a_process_that_outlives_its_program_is_an_orphan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_signals, "ORPHAN_SECONDS", 0.2)
    environment = {**os.environ, _signals.MARK: f"{os.getpid()}-orphan"}
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env=environment)
    try:
        assert _signals._orphans(f"{os.getpid()}-nobody") == []
        assert _signals._orphans(f"{os.getpid()}-orphan") == [f"orphans: [{process.pid}]"]
        assert process.wait(10) == -signal.SIGKILL
    finally:
        process.kill()
        process.wait()


def test_a_slope_is_what_values_rise_by() -> None:
    assert slope([5.0]) == slope([5.0, 5.0, 5.0]) == 0.0
    assert slope([1.0, 3.0, 5.0, 7.0]) == pytest.approx(2.0)
    assert slope([4.0, 3.0, 2.0]) == pytest.approx(-1.0)


def test_a_percentile_is_one_of_the_values() -> None:
    assert percentile([], 0.5) is None
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([3.0, 1.0, 2.0], 1.0) == 3.0
