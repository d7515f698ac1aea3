"""The checks of conftest can fail: each kind of thing left behind is reported, and a clean test is not."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.support import REPOSITORY, Sequencer, eventually, eventually_async

CONFTEST = """
from tests import support
support.LEAK_PATIENCE = support.TASK_PATIENCE = 0.2
support.ASYNC_TEST_TIMEOUT = {async_timeout}
from tests.conftest import *
"""

INI = """
[pytest]
faulthandler_timeout = {watchdog}
faulthandler_exit_on_timeout = true
"""


def run_pytest(
    folder: Path, test: str, *, async_timeout: float = 60.0, watchdog: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """Run ``test`` in a pytest of its own under this conftest, which waits less."""
    (folder / "conftest.py").write_text(CONFTEST.format(async_timeout=async_timeout))
    (folder / "pytest.ini").write_text(INI.format(watchdog=watchdog))
    (folder / "test_it.py").write_text(textwrap.dedent(test))
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "test_it.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


LEAKS = {
    "thread": (
        """
        import threading
        def test_it():
            threading.Thread(target=threading.Event().wait, name="forgotten", daemon=True).start()
        """,
        "thread <Thread(forgotten",
    ),
    "process": (
        """
        import subprocess, sys
        kept = []
        def test_it():
            kept.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))
        """,
        "-c input()",
    ),
    "zombie": (
        """
        import os
        def test_it():
            pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 0"], {})
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        """,
        "zombie",
    ),
    "descriptor": (
        """
        import os
        def test_it():
            os.pipe()
        """,
        "file descriptor",
    ),
    "asyncio task": (
        """
        import asyncio
        async def test_it():
            task = asyncio.create_task(asyncio.sleep(60), name="forgotten")
            await asyncio.sleep(0)
        """,
        "name='forgotten'",
    ),
    "asyncio task under hypothesis": (
        """
        import asyncio
        from hypothesis import Phase, given, settings, strategies as st
        @settings(database=None, max_examples=2, phases=[Phase.generate])
        @given(st.integers())
        async def test_it(number):
            task = asyncio.create_task(asyncio.sleep(60), name="forgotten")
            await asyncio.sleep(0)
        """,
        "name='forgotten'",
    ),
}


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Run all that leave something, each under its own name, in one pytest; give what was said of each."""
    tests = [textwrap.dedent(test).replace("test_it", f"test_{n}") for n, (test, _) in enumerate(LEAKS.values())]
    run = run_pytest(tmp_path_factory.mktemp("leaks"), "".join(tests))
    assert run.returncode == 1, run.stdout + run.stderr
    said = re.split(r"^_+ (?:ERROR at teardown of )?test_(\d) _+$", run.stdout.partition("= short test")[0], flags=re.M)
    assert "2 failed, 4 passed, 4 errors" in run.stdout
    return dict(zip([list(LEAKS)[int(n)] for n in said[1::2]], said[2::2], strict=True))


@pytest.mark.parametrize(("what", "named"), [(what, named) for what, (_, named) in LEAKS.items()], ids=LEAKS.keys())
def test_what_a_test_leaves_is_an_error_that_names_it(reports: dict[str, str], what: str, named: str) -> None:
    assert named in reports[what]
    assert "the test left" in reports[what]


def test_a_clean_test_and_a_resource_tracker_are_no_leak(tmp_path: Path) -> None:
    run = run_pytest(
        tmp_path,
        """
        import asyncio, subprocess, sys, threading
        import pytest
        from hypothesis import given, settings, strategies as st

        def test_trackers():
            from multiprocessing import resource_tracker
            from loky.backend import resource_tracker as loky_tracker
            resource_tracker.ensure_running()
            loky_tracker.ensure_running()

        def test_thread_that_ends_soon_after():
            threading.Timer(0.05, int).start()

        def test_process_that_is_waited_for():
            subprocess.run([sys.executable, "-c", ""], check=True)

        async def test_coroutine(tmp_path):
            await asyncio.gather(asyncio.sleep(0), asyncio.to_thread(int))

        @settings(database=None, max_examples=20)
        @given(st.integers())
        async def test_property(number):
            await asyncio.sleep(0)

        async def test_timeout_inside():
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.sleep(9), 0.01)
        """,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "6 passed" in run.stdout


def test_an_async_test_that_hangs_fails_alone(tmp_path: Path) -> None:
    run = run_pytest(
        tmp_path,
        """
        import asyncio
        async def test_hangs():
            await asyncio.get_running_loop().create_future()
        def test_next():
            pass
        """,
        async_timeout=0.2,
    )
    assert run.returncode == 1
    assert "the test took more than 0.2 s" in run.stdout
    assert "1 failed, 1 passed" in run.stdout


def test_a_test_that_hangs_ends_the_run_with_stacks(tmp_path: Path) -> None:
    run = run_pytest(
        tmp_path,
        """
        import threading
        def test_it():
            threading.Event().wait()
        """,
        watchdog=0.5,
    )
    assert run.returncode == 1
    assert "in test_it" in run.stderr


def test_eventually_gives_up_with_what_it_saw_last() -> None:
    with pytest.raises(AssertionError, match="the last answer was 0"):
        eventually(lambda: 0, timeout=0.01)


async def test_eventually_async_takes_functions_and_coroutine_functions() -> None:
    answers = iter([0, 0, 7, 0, 8])

    async def answer() -> int:
        return next(answers)

    assert await eventually_async(lambda: next(answers)) == 7
    assert await eventually_async(answer) == 8


def test_a_sequencer_does_not_go_on_before_the_step_in_front() -> None:
    sequence = Sequencer(timeout=0.01)
    with pytest.raises(AssertionError, match="step 1 waited"), sequence(1):
        pass
    with sequence(0):
        pass
    with sequence(1):
        pass
