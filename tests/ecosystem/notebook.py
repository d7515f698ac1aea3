"""A Jupyter kernel, and cells that are run in it as a notebook does."""

import os
import queue
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from tests.integration.exits import environment, orphans
from tests.support import eventually

__all__ = ["Cell", "Notebook", "notebook"]

STUCK = 30.0  #: seconds


@dataclass(slots=True)
class Cell:
    """What one cell gave."""

    error: str = ""  #: type and message; empty if there was none
    traceback: str = ""
    out: str = ""
    err: str = ""
    value: dict[str, Any] = field(default_factory=dict)  #: of its last expression, by MIME type

    @property
    def text(self) -> str:
        """Give the value as text."""
        assert not self.error, self.traceback
        return str(self.value.get("text/plain", ""))


class Notebook:
    """A kernel in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.mark = f"kernel-{os.getpid()}-{time.monotonic_ns()}"
        self._dump = folder / f"{self.mark}.stacks"
        self.manager = KernelManager(connection_file=str(folder / f"{self.mark}.json"))
        env = environment(self.mark) | {"IPYTHONDIR": str(folder / "ipython"), "NO_COLOR": "1"}
        self.manager.start_kernel(env=env, cwd=str(folder), extra_arguments=["--colors=NoColor"])
        self.client = self._connect()

    def _connect(self) -> BlockingKernelClient:
        client = self.manager.client()
        client.start_channels()
        client.wait_for_ready(timeout=STUCK)
        client.execute(
            f"import faulthandler\nfaulthandler.dump_to = open({str(self._dump)!r}, 'w')\n"
            f"faulthandler.register({int(signal.SIGUSR1)}, faulthandler.dump_to)"
        )
        return client

    def run(self, code: str, when: Callable[[], object] | None = None) -> Cell:
        """Run a cell and return what it gave; interrupt it as soon as ``when`` gives something true."""
        cell = Cell()
        request = self.client.execute(code)
        if when is not None:
            eventually(when)
            self.manager.interrupt_kernel()
        while True:
            try:
                message = self.client.get_iopub_msg(timeout=STUCK)
            except queue.Empty:
                raise AssertionError(f"expected this cell to end:\n{code}\ngot {cell}\n{self._stacks()}") from None
            if message["parent_header"].get("msg_id") != request:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream" and content["name"] == "stdout":
                cell.out += content["text"]
            elif kind == "stream":
                cell.err += content["text"]
            elif kind == "execute_result":
                cell.value = content["data"]
            elif kind == "error":
                cell.error = f"{content['ename']}: {content['evalue']}"
                cell.traceback = "\n".join(content["traceback"])
            elif kind == "status" and content["execution_state"] == "idle":
                return cell

    def _stacks(self) -> str:
        """Say what every thread of the kernel does."""
        self.manager.signal_kernel(signal.SIGUSR1)
        eventually(lambda: self._dump.stat().st_size)
        return self._dump.read_text()

    def restart(self, *, now: bool) -> None:
        """Restart the kernel as the menu does."""
        self.client.stop_channels()
        self.manager.restart_kernel(now=now)
        self.client = self._connect()

    def workers(self) -> list[int]:
        """Give the live processes of this kernel, without itself."""
        own = self.manager.provisioner.pid if self.manager.provisioner is not None else None
        return [pid for pid in orphans(self.mark) if pid != own]

    def close(self) -> None:
        """Shut the kernel down."""
        self.client.stop_channels()
        self.manager.shutdown_kernel()


@contextmanager
def notebook(folder: Path) -> Iterator[Notebook]:
    """Give a notebook; its kernel is shut down afterwards, and nothing of it may be left within 5 s."""
    each = Notebook(folder)
    try:
        yield each
    finally:
        each.close()
    eventually(lambda: not orphans(each.mark), 5.0, "every process of the kernel is gone")
