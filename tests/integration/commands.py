"""Running the command line as people do: in processes of its own, in a pipe or on a terminal."""

import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import uuid
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.support import eventually

__all__ = ["Command", "Terminal"]


class Command:
    """How to run ``engine NAME`` in ``folder``, and how to find every process that came of it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name
        self.mark = f"ENGINE_TEST_MARK={uuid.uuid4().hex}"
        spec = find_spec("engine")  # the engine that these tests see, installed or not
        assert spec is not None
        assert spec.submodule_search_locations
        where = str(Path(spec.submodule_search_locations[0]).parent)
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, [where, os.environ.get("PYTHONPATH")])),
            "TERM": "xterm",
            "ENGINE_TEST_MARK": self.mark.partition("=")[2],
        }
        for name in ("COLUMNS", "LINES"):
            self.environment.pop(name, None)

    def line(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "engine", self.name, *arguments]

    def run(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.line(*arguments), cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=60,
            check=False, **options,
        )  # fmt: skip

    def processes(self) -> list[int]:
        """Give every process that has our mark in its environment, wherever it was reparented to."""
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdecimal():
                with contextlib.suppress(OSError):  # it ended, or is not ours
                    if self.mark.encode() in Path(f"/proc/{entry}/environ").read_bytes().split(b"\0"):
                        found.append(int(entry))
        return found


class Terminal:
    """The command on a terminal of its own, 80 columns wide, in a process group of its own."""

    def __init__(self, command: Command, *arguments: str, before: Callable[[], object] | None = None) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.text = ""
        try:
            self.process = subprocess.Popen(
                command.line(*arguments), cwd=command.folder, env=command.environment, start_new_session=True,
                stdin=slave, stdout=slave, stderr=slave, preexec_fn=before,
            )  # fmt: skip
        finally:
            os.close(slave)
        os.set_blocking(self.master, False)

    def read(self) -> str:
        """Give all that was printed so far."""
        with contextlib.suppress(BlockingIOError):
            try:
                while data := os.read(self.master, 65536):
                    self.text += data.decode(errors="replace").replace("\r\n", "\n")
            except OSError as error:
                if error.errno != 5:  # EIO: the other side is closed
                    raise
        return self.text

    def interrupt(self) -> None:
        """Do what Ctrl-C does."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self) -> int:
        """Wait until it has ended, reading what it prints."""
        eventually(lambda: self.read() is not None and self.process.poll() is not None, 30, "the demo ends")
        self.read()
        return self.process.wait()

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
