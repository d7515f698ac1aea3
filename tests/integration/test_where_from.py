"""Where a program may come from: a script without a guard, a command line, a pipe, an archive, a prompt."""

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
import zipapp
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

import engine
from tests.integration.exits import STUCK, environment, orphans
from tests.support import eventually

SCRIPT = """
import concurrent.futures, multiprocessing, os, threading
print("the script runs in", os.getpid(), flush=True)
started = threading.Thread(target=abs, args=(-1,))
started.start()
with concurrent.futures.ThreadPoolExecutor(1) as pool:
    pool.submit(abs, -1).result()
child = multiprocessing.get_context("fork").Process(target=abs, args=(-1,))
child.start()
child.join()

from engine import Engine

OFFSET = 1

class Point:
    def __init__(self, n):
        self.n = n + OFFSET

def work(n):
    return Point(n * 10)

def forked(n):
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.map(abs, [n])

def spawned(n):
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(abs, n).result()

def fail():
    known = {}
    return known["of the script"]

with Engine(processes=1, process_backend=BACKEND) as engine:
    point = engine.run(work, 1)
    print(type(point) is Point, point.n, [each.n for each in engine.map(work, range(3))])
    OFFSET = 2
    print(engine.run(work, 1).n, engine.run(forked, -3), engine.run(spawned, -4))
    try:
        engine.run(fail)
    except KeyError as error:
        print(error.__cause__)
left_open = Engine(processes=1).__enter__()
print(left_open.run(work, 3).n)
"""
SAID = "True 11 [1, 11, 21]\n12 [3] 4\n"


@dataclass(frozen=True, slots=True)
class Place:
    """One way to run a program."""

    arguments: list[str]
    stdin: str | None = None
    path: list[str] | None = None  #: PYTHONPATH in place of that of the tests


def places(folder: Path, script: str) -> dict[str, Place]:
    """Lay ``script`` down, and give every way to run it."""
    file, module, app, whole = (folder / name for name in ("script.py", "module.py", "app", "whole"))
    main = script.replace("work(n):", "work(n):\n    import part").replace("n * 10", "n * part.TEN")
    for path in (file, module):
        path.write_text(script)
    for path in (app, whole):
        path.mkdir()
        (path / "__main__.py").write_text(main)
        (path / "part.py").write_text("TEN = 10\n")
    shutil.copytree(Path(engine.__file__).parent, whole / "engine", ignore=shutil.ignore_patterns("__pycache__"))
    for path in (app, whole):
        zipapp.create_archive(path)
    return {
        "a script": Place([str(file)]),
        "a module": Place(["-m", "module"]),
        "-c": Place(["-c", script]),
        "- < script": Place(["-"], stdin=script),
        "< script": Place([], stdin=script),
        "an archive": Place([f"{app}.pyz"]),
        "an archive with the engine": Place([f"{whole}.pyz"], path=[]),
    }


def run_place(place: Place, folder: Path) -> str:
    """Run the program; return what it printed. It must end well, and leave no process."""
    mark = f"where-{os.getpid()}-{time.monotonic_ns()}"
    env = environment(mark)
    if place.path is not None:
        env["PYTHONPATH"] = os.pathsep.join(place.path)
    done = subprocess.run(
        [sys.executable, *place.arguments], cwd=folder, env=env, input=place.stdin, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=STUCK, check=False, start_new_session=True,
    )  # fmt: skip
    eventually(lambda: not orphans(mark), 5.0, "every worker of the program is gone")
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("backend", ["native", "loky"])
def test_a_program_without_a_guard_runs_once_wherever_it_comes_from(tmp_path: Path, backend: str) -> None:
    """E86, E87: it starts threads and processes first, and its tasks start some; workers never run it again."""
    all_places = places(tmp_path, SCRIPT.replace("BACKEND", repr(backend)))
    if backend == "loky":  # the rest is the same
        all_places = {"< script": all_places["< script"]}
    with ThreadPoolExecutor(len(all_places)) as pool:
        running = {name: pool.submit(run_place, place, tmp_path) for name, place in all_places.items()}
        printed = {name: future.result() for name, future in running.items()}
    for name, text in printed.items():
        assert text.count("the script runs in") == 1, f"{name}:\n{text}"
        assert SAID in text, f"{name}:\n{text}"
        assert text.endswith("32\n"), f"{name}:\n{text}"
        trace = text[text.index(SAID) + len(SAID) :].splitlines()
        frame = next(line for line in trace if line.endswith(", in fail"))
        below = trace[trace.index(frame) + 1].strip()
        is_known = name in ("a script", "a module") or (name == "-c" and sys.version_info >= (3, 13))
        source = 'return known["of the script"]' if is_known else "KeyError: 'of the script'"
        assert below == source, f"{name}:\n{text}"


# -- prompts ----------------------------------------------------------------------------------------------------------

#: Makes the terminal on descriptor 0 the one of this session, so that its Ctrl-C is a signal; then becomes the program.
WITH_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)


class Prompt:
    """A Python that is typed to, on a terminal of its own."""

    def __init__(self, *arguments: str, **environ: str) -> None:
        self._master, slave = pty.openpty()
        self._mark = f"prompt-{os.getpid()}-{time.monotonic_ns()}"
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", WITH_TERMINAL, sys.executable, *arguments],
                stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
                env=environment(self._mark) | {"TERM": "dumb", "PYTHON_BASIC_REPL": "1", "NO_COLOR": "1"} | environ,
            )  # fmt: skip
        except BaseException:
            os.close(self._master)
            raise
        finally:
            os.close(slave)
        self._printed = ""
        self._asked = 0

    def type(self, text: str) -> None:
        """Type ``text`` and a line end."""
        os.write(self._master, text.encode() + b"\n")

    def ask(self, expression: str) -> str:
        """Type an expression; return what its value prints, and what was printed before it since the last ask."""
        self._asked += 1
        self.type(f"print('<' '{self._asked}', ({expression}), '{self._asked}' '>')")
        return self.wait_for(f"<{self._asked} (.*?) {self._asked}>")

    def wait_for(self, pattern: str, seconds: float = STUCK) -> str:
        """Wait until ``pattern`` has been printed; return its group, and forget what came before."""
        end = time.monotonic() + seconds
        while not (found := re.search(pattern, self._printed, re.DOTALL)):
            ready = select.select([self._master], [], [], max(0.0, end - time.monotonic()))[0]
            try:
                more = os.read(self._master, 1 << 16) if ready else b""
            except OSError:  # nobody has the terminal any more
                more = b""
            assert more, f"expected {pattern!r} to be printed, got:\n{self._printed}"
            self._printed += more.decode(errors="replace").replace("\r", "")
        self._printed = self._printed[found.end() :]
        return found[1] if found.re.groups else found[0]

    def press_ctrl_c(self) -> None:
        """Press it: the signal goes to whoever is in the foreground."""
        os.write(self._master, b"\x03")

    def leave(self) -> str:
        """Leave the prompt; return what it still printed. Its workers must be gone within 5 s."""
        self.type("exit()")
        end = time.monotonic() + STUCK
        while time.monotonic() < end and select.select([self._master], [], [], STUCK)[0]:
            try:
                more = os.read(self._master, 1 << 16)
            except OSError:
                break
            self._printed += more.decode(errors="replace").replace("\r", "")
        assert self._process.wait(5.0) == 0, self._printed
        eventually(lambda: not orphans(self._mark), 5.0, "every worker of the prompt is gone")
        return self._printed.removeprefix("exit()\n")

    def close(self) -> None:
        """End what is left."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(STUCK)
        os.close(self._master)


@contextmanager
def prompt(*arguments: str, **environ: str) -> Iterator[Prompt]:
    """Give a prompt that is closed afterwards."""
    each = Prompt(*arguments, **environ)
    try:
        yield each
    finally:
        each.close()


DEFINITIONS = """\
import asyncio, time
from engine import BlockingEngine, Engine
OFFSET = 1
def helper(n): return n * 10

def work(n): return helper(n) + OFFSET

def late(): return not_there_yet + 1

def sleep(path): open(path, "w").close(); time.sleep(100)

"""


def test_a_prompt_runs_what_is_typed_and_survives_ctrl_c(tmp_path: Path) -> None:
    """E85: functions typed there, changed there, interrupted there; and an engine left open at the end."""
    with prompt("-q", "-i") as python:
        python.type(DEFINITIONS + "engine = BlockingEngine(processes=2).start()")
        assert python.ask("engine.run(work, 1), list(engine.map(work, range(2)))") == "(11, [1, 11])"
        python.type("OFFSET = 2")
        assert python.ask("engine.run(work, 1)") == "12"
        python.type("def helper(n): return n * 100\n")
        assert python.ask("engine.run(work, 1), list(engine.map(work, range(2)))") == "(102, [2, 102])"
        python.type("engine.run(late)")
        python.wait_for("NameError: name 'not_there_yet' is not defined")
        python.type("not_there_yet = 5")
        assert python.ask("engine.run(late)") == "6"
        for number, call in enumerate(["engine.run(sleep, {!r})", "list(engine.map(sleep, [{!r}] * 5))"]):
            path = tmp_path / str(number)
            python.type(call.format(str(path)))
            eventually(path.exists)
            python.press_ctrl_c()
            python.wait_for("KeyboardInterrupt")
            assert python.ask("engine.run(work, 1), engine.snapshot().phase") == "(102, 'running')"
        assert "Traceback" not in python.leave()


def test_a_prompt_with_a_loop_awaits_what_is_typed(tmp_path: Path) -> None:
    """`python -m asyncio`: the loop of the main thread is the engine's home, and Ctrl-C leaves both usable."""
    with prompt("-m", "asyncio") as python:
        python.wait_for(">>> ")
        python.type(DEFINITIONS + "engine = await Engine(processes=2).start()")
        assert python.ask("await engine.run(work, 1), [n async for n in engine.map(work, range(2))]") == "(11, [1, 11])"
        python.type("OFFSET = 2")
        assert python.ask("await engine.run(work, 1)") == "12"
        assert python.ask("await asyncio.gather(*[engine.submit(work, n) for n in range(3)])") == "[2, 12, 22]"
        path = tmp_path / "await"
        python.type(f"await engine.run(sleep, {str(path)!r})")
        eventually(path.exists)
        python.press_ctrl_c()
        python.wait_for("KeyboardInterrupt")
        assert python.ask("await engine.run(work, 1), engine.snapshot().phase") == "(12, 'running')"
        python.type("with Engine(processes=1) as blocking: print('of', blocking.run(work, 2))\n")
        python.wait_for("of 22")
        assert "Traceback" not in python.leave()
