"""Where ``engine.futures`` does as the standard executors do and the engine, by itself, does otherwise."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.futures import ProcessExecutor

LAST = """
import atexit

@atexit.register
def last():
    try:
        executor.submit(abs, -1)
    except RuntimeError as error:
        print(type(error).__name__, error)

from engine.futures import ProcessExecutor, ThreadExecutor
executor = {executor}(1)
if {is_used}:
    executor.submit(abs, -1).result()
"""


def test_what_a_worker_prints_is_printed_as_it_is(capfd: pytest.CaptureFixture[str]) -> None:
    """E77: a program that has taken the drop-in executor, and prints in its calls, prints the same as before."""
    with ProcessExecutor(1) as executor:
        executor.submit(print, "apple\nand pear").result(30)
        executor.submit(os.write, 2, b"plum\n").result(30)
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("apple\nand pear\n", "plum\n")


@pytest.mark.parametrize("is_used", [False, True], ids=["first", "later"])
@pytest.mark.parametrize("executor", ["ProcessExecutor", "ThreadExecutor"])
def test_a_call_at_the_exit_is_refused_in_the_words_of_the_standard(
    executor: str, is_used: bool, tmp_path: Path
) -> None:
    """E78: a RuntimeError of no other type, which begins with them; also where the executor has not been used."""
    (tmp_path / "program.py").write_text(LAST.format(executor=executor, is_used=is_used), encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, str(tmp_path / "program.py")], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.stdout.startswith("RuntimeError cannot schedule new futures after interpreter shutdown: expected the ")
    assert (ended.returncode, ended.stderr) == (0, "")
