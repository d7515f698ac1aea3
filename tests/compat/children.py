"""A few children that run CPython's tests side by side: most of these tests sleep most of the time."""

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.compat import suite
from tests.support import REPOSITORY

__all__ = ["Children", "Result", "tests_of"]

WIDTH = 3
PATIENCE = 100.0  #: seconds for the answer of one test; longer than the child gives it, so that the child says why
_PACKAGE = Path(__file__).parent / "cpython"
_MAIN = f"import sys; sys.path.append({str(REPOSITORY)!r}); from tests.compat.child import main; main()"


@dataclass(frozen=True, slots=True)
class Result:
    """What one test did: "passed", "failed" or "skipped"."""

    outcome: str
    details: str


def command(*arguments: str) -> list[str]:
    """Return the command of a child: our tests last on its path, so that an installed engine is the one tested."""
    return [sys.executable, "-P", "-W", "error", "-c", _MAIN, *arguments]


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of a child: the package ``test`` first on the path, for its workers and scripts too."""
    path = os.pathsep.join(filter(None, [str(_PACKAGE), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, suite.VARIABLE: str(folder)}


def tests_of(folder: Path) -> dict[str, list[str]]:
    """Return the names of the tests of each suite.

    Raises:
        RuntimeError: the package in ``folder`` cannot be imported here.
    """
    run = subprocess.run(
        command("--list"), env=environment(folder), capture_output=True, text=True, timeout=100, check=False
    )
    if run.returncode:
        raise RuntimeError(f"expected {folder} to hold tests that this Python can import, got\n{run.stderr}")
    found: dict[str, list[str]] = json.loads(run.stdout)
    return found


class Children:
    """Runs the named tests from now on; ``result`` waits for one of them."""

    def __init__(self, folder: Path, names: Sequence[str], width: int = WIDTH) -> None:
        self._folder = folder
        self._waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._results: dict[str, queue.SimpleQueue[Result]] = {name: queue.SimpleQueue() for name in names}
        self._stopping = threading.Event()
        for name in self._results:
            self._waiting.put(name)
        self._threads = [threading.Thread(target=self._run, name=f"compat-{each}") for each in range(width)]
        for thread in self._threads:
            thread.start()

    def result(self, name: str) -> Result:
        """Return what the test did; a test is asked for once."""
        return self._results[name].get()

    def stop(self) -> None:
        """End the children after the tests that they run now."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        """Run tests in a child until none waits; in another one after a child that did not survive its test."""
        child: _Child | None = None
        while not self._stopping.is_set():
            try:
                name = self._waiting.get_nowait()
            except queue.Empty:
                break
            child = child or _Child(self._folder)
            result = child.run(name)
            if result is None:
                result, child = Result("failed", child.last_words()), None
            self._results[name].put(result)
        if child is not None:
            child.end()


class _Child:
    """One interpreter that runs tests, with its answers on a pipe and what it prints in a file."""

    def __init__(self, folder: Path) -> None:
        self._printed: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - it is open as long as the child lives
        receiver, sender = os.pipe()
        self._process = subprocess.Popen(
            command(str(sender)),
            env=environment(folder),
            cwd=tempfile.gettempdir(),
            stdin=subprocess.PIPE,
            stdout=self._printed,
            stderr=subprocess.STDOUT,
            pass_fds=[sender],
            text=True,
        )
        os.close(sender)
        self._answers = os.fdopen(receiver)
        self._seen = 0

    def run(self, name: str) -> Result | None:
        """Run one test; None if the child ended instead."""
        self._seen = self._printed.seek(0, os.SEEK_END)
        assert self._process.stdin is not None
        try:
            print(name, file=self._process.stdin, flush=True)
        except BrokenPipeError:
            return None
        line = self._answers.readline()
        if not line:
            return None
        answer = json.loads(line)
        details = answer["details"]
        if answer["outcome"] == "failed":
            details += f"\n{self._output()}"
        return Result(answer["outcome"], details)

    def last_words(self) -> str:
        """Wait for the end of a child that answers no more; return its exit code and what it printed."""
        self.end()
        return f"the test's interpreter ended with {self._process.returncode}\n{self._words}"

    def end(self) -> None:
        """Let it come to its end."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass  # it has ended already
        self._answers.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._words = self._output()
        self._printed.close()

    def _output(self) -> str:
        """Return what was printed since the last test began."""
        self._printed.seek(self._seen)
        return self._printed.read().decode(errors="replace")
