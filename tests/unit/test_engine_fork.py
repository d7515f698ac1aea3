"""os.fork() in a process that has an engine."""

import subprocess
import sys
import textwrap

import pytest


def run_script(code: str, timeout: float = 60) -> str:
    """Run ``code`` in a fresh interpreter that finds what this one finds; return what it printed."""
    prologue = f"import sys; sys.path[:] = {sys.path!r}\n"
    run = subprocess.run(
        [sys.executable, "-c", prologue + textwrap.dedent(code)],
        capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return run.stdout


FORKED = """
import asyncio, os, signal, warnings
from engine import Engine, EngineForked
warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of fork with threads, rightly: it is what is tested

def in_child(fn):
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        try:
            fn()
        except EngineForked:
            os._exit(42)
        except BaseException:
            os._exit(1)
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


@pytest.mark.parametrize("lane", ["thread", "process"])
def test_a_forked_child_is_told_so_and_its_parent_goes_on(lane: str) -> None:
    """Row N12, submit."""
    printed = run_script(
        FORKED
        + f"""
with Engine(threads=1, processes=1, default_lane={lane!r}) as engine:
    assert engine.run(abs, -1) == 1
    for use in (lambda: engine.submit(abs, -2), lambda: engine.run(abs, -2), engine.stop, engine.warm_up):
        print(in_child(use))
    print(engine.run(abs, -3))
"""
    )
    assert printed.split() == ["42"] * 4 + ["3"]


def test_a_forked_child_may_leave_the_engines_block() -> None:
    """Row N12: it waits for nobody, and its parent's workers go on."""
    printed = run_script(
        FORKED
        + """
pid = None
with Engine(threads=1, processes=1) as engine:
    assert engine.run(abs, -1) == 1
    pid = os.fork()
    if pid:
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), engine.run(abs, -3))
    else:
        signal.alarm(20)
if not pid:
    os._exit(5)
"""
    )
    assert printed.split() == ["5", "3"]


def test_a_forked_child_of_an_async_engine_is_told_so() -> None:
    """Row N12, on a running loop."""
    printed = run_script(
        FORKED
        + """
async def main():
    async with Engine(threads=1, processes=1, default_lane="thread") as engine:
        assert await engine.run(abs, -1) == 1
        print(in_child(lambda: engine.submit(abs, -2)), in_child(lambda: engine.stop().send(None)))
        print(await engine.run(abs, -3))
asyncio.run(main())
"""
    )
    assert printed.split() == ["42", "42", "3"]
