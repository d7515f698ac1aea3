"""One turn of ``python -m stress versus``: one figure of one competitor, in a process of its own.

A process of its own, so that nothing that one competitor leaves behind (threads, workers, a grown heap, a stuck loop)
is carried by the next, and so that one that hangs can be ended with all that it started.
"""

import asyncio
import contextlib
import importlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass

import psutil

__all__ = ["Turn", "take_turn"]

_PREFIX = "turn: "
_LOOK_EVERY = 0.5  #: seconds between two looks for a Ctrl-C
_RESTS = 5.0  #: seconds that the processes of a turn have to be gone after they were killed


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn gave: a value, or why there is none."""

    value: float | None = None
    reason: str = ""
    is_final: bool = False  #: another turn would give the same reason


def take_turn(
    figure: str, peer: str, size: dict[str, float], patience: float, is_over: Callable[[], bool] = lambda: False
) -> Turn:
    """Let ``peer`` measure ``figure`` in a process of its own, for at most ``patience`` seconds.

    Raises:
        KeyboardInterrupt: ``is_over`` said so. A handler that only notes a Ctrl-C loses no process, where one that
            raises may do so between the start of a process and the assignment of what stands for it.
    """
    command = [sys.executable, "-m", "stress._turn", figure, peer, json.dumps(size)]
    # Files, not pipes: workers that outlive the turn would hold a pipe open.
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        run = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True)
        try:
            if not _has_ended(run, time.monotonic() + patience, is_over):
                return Turn(reason=f"gave up after {patience:g} s", is_final=True)
        finally:
            _end(run)
        out.seek(0)
        err.seek(0)
        stdout, stderr = out.read(), err.read()
    for line in reversed(stdout.splitlines()):
        if line.startswith(_PREFIX):
            return Turn(**json.loads(line.removeprefix(_PREFIX)))
    last = stderr.strip().splitlines() or [f"exit code {run.returncode}"]
    return Turn(reason=f"failed: {last[-1][:200]}")


def _has_ended(run: subprocess.Popen[bytes], end: float, is_over: Callable[[], bool]) -> bool:
    while True:
        try:
            run.wait(min(_LOOK_EVERY, max(0.0, end - time.monotonic())))
            return True
        except subprocess.TimeoutExpired:
            if is_over():
                raise KeyboardInterrupt from None
            if time.monotonic() >= end:
                return False


def _end(run: subprocess.Popen[bytes]) -> None:
    """End the process and whatever of its session and of its children is left.

    A resource tracker ends by itself when nobody is left who could use it, and takes away the semaphores that the
    others were killed with; it is killed only if it does not.
    """
    end = time.monotonic() + _RESTS
    while (left := _of_turn(run)) and time.monotonic() < end:
        may_tidy_up = time.monotonic() < end - _RESTS / 2
        for process in left:
            with contextlib.suppress(psutil.Error):
                if not (may_tidy_up and any("resource_tracker" in each for each in process.cmdline())):
                    process.kill()
        run.poll()
        time.sleep(0.01)
    run.wait()


def _of_turn(run: subprocess.Popen[bytes]) -> list[psutil.Process]:
    found = []
    if run.poll() is None:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(run.pid)
            found = [*process.children(recursive=True), process]
    for pid in psutil.pids():
        with contextlib.suppress(psutil.Error, OSError):
            if pid != run.pid and os.getsid(pid) == run.pid:
                found.append(psutil.Process(pid))
    return [process for process in found if not _is_over(process)]


def _is_over(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return True


def main(arguments: list[str]) -> None:
    """Measure, and print what came of it as the last line."""
    figure, peer, size = arguments
    warnings.simplefilter("ignore")  # of forks under threads, of the peers' own making
    logging.disable(logging.CRITICAL)
    turn = asyncio.run(_measure(figure, peer, json.loads(size)))
    print(_PREFIX + json.dumps(asdict(turn)), flush=True)


async def _measure(figure: str, peer: str, size: dict[str, float]) -> Turn:
    peers = importlib.import_module("stress._peers")
    workloads = importlib.import_module("stress._workloads")
    try:
        value = await workloads.figures()[figure].measure(peers.make(peer), workloads.Size(**size))
    except peers.Cannot as reason:
        return Turn(reason=str(reason), is_final=True)
    except Exception as error:
        return Turn(reason=f"failed: {type(error).__name__}: {str(error)[:200]}")
    return Turn(value=value)


if __name__ == "__main__":
    main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(0)  # what a failed peer left running is ended from outside
