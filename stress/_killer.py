"""Kills worker processes at their worst moments, and remembers which: nobody else's death is explained by us.

Guarantees
    A thread of its own; ``killed`` is written by it alone, before the signal is sent, and read by others after it has
    ended, or one key at a time. A pid is signalled through a pidfd opened while it was our child, so no stranger is
    hit. A worker that is stopped is continued or killed by the same step. Of starting workers none is killed before
    one has come up since the last: three that fail in a row are the engine's own limit, and fail what waits.
"""

import contextlib
import os
import random
import select
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from stress._ledger import REUSE_SECONDS

__all__ = ["Killer"]

FIND_SECONDS = 0.1  #: how long to look for a worker in the state that is wanted
ANNOUNCED_SECONDS = 1.0  #: how long to wait for a worker that is about to give a big answer
STATES = (("busy", 10), ("starting", 4), ("idle", 4), ("retiring", 1))


class Killer:
    """Strikes ``count`` times while ``progress`` goes from 0 to 1."""

    def __init__(
        self,
        rng: random.Random,
        count: int,
        *,
        progress: Callable[[], float],
        workers: Callable[[], tuple[Any, ...]],
        plant: Callable[[str, float], object],
        announcements: str,
    ) -> None:
        self.killed: dict[int, float] = {}  #: pid → when, the last time: pids come again
        self.deaths: list[tuple[int, float]] = []  #: all of them
        self.strikes: Counter[str] = Counter()
        self.victims: Counter[str] = Counter()  #: by the state in which they were found
        self.errors: list[BaseException] = []
        self._rng = rng
        self._count = count
        self._progress = progress
        self._workers = workers
        self._plant = plant  #: submits a call of the kind that kills its worker, or that announces a big answer
        self._over = threading.Event()
        self._seen_ready: set[str] = set()
        self._ready_at_start_kill = -1
        self._pipe = os.open(announcements, os.O_RDONLY | os.O_NONBLOCK)
        self._keep_open = os.open(announcements, os.O_WRONLY | os.O_NONBLOCK)  # or a reader sees the end of the file
        self._thread = threading.Thread(target=self._run, name="killer", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for that."""
        self._over.set()
        self._thread.join()
        for fd in (self._pipe, self._keep_open):
            os.close(fd)

    @property
    def is_done(self) -> bool:
        """Say whether no further strike will come."""
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while not self._over.is_set() and (done := self.strikes.total()) < self._count:
                if done < self._count * self._progress():
                    self._strike()
                else:
                    self._over.wait(0.002)
        except BaseException as error:  # the run fails by it
            self.errors.append(error)

    def _strike(self) -> None:
        strike: Callable[[], bool] = self._rng.choices(
            [
                self._kill, self._segfault, self._stop_and_continue, self._stop_and_kill, self._exit, self._mid_frame,
                self._mid_argument,
            ],
            [6, 4, 2, 2, 4, 2, 1],
        )[0]  # fmt: skip
        if strike():
            self.strikes[strike.__name__.strip("_").replace("_", " ")] += 1

    # -- ways to go

    def _kill(self) -> bool:
        return self._signal_one(signal.SIGKILL)

    def _segfault(self) -> bool:
        return self._signal_one(signal.SIGSEGV)

    def _signal_one(self, number: signal.Signals) -> bool:
        with self._victim() as found:
            if found is None:
                return False
            pid, pidfd = found
            self._send_last(pid, pidfd, number)
            return True

    def _stop_and_continue(self) -> bool:
        with self._victim(is_killed=False) as found:
            if found is None:
                return False
            _, pidfd = found
            _send(pidfd, signal.SIGSTOP)
            self._over.wait(self._rng.uniform(0.001, 0.05))
            _send(pidfd, signal.SIGCONT)
            return True

    def _stop_and_kill(self) -> bool:
        with self._victim() as found:
            if found is None:
                return False
            pid, pidfd = found
            self._note(pid)
            _send(pidfd, signal.SIGSTOP)
            self._over.wait(self._rng.uniform(0.001, 0.05))
            self._send_last(pid, pidfd, signal.SIGKILL)
            return True

    def _exit(self) -> bool:
        """Let a worker leave by ``_exit`` from another of its threads: it says so in the ledger."""
        self._plant("dies soon", self._rng.choice([0.0, 0.0005, 0.003, 0.02]))
        return True

    def _mid_frame(self) -> bool:
        """Kill a worker in the middle of a big answer."""
        self._plant("gives much", 0.0)
        poll = select.poll()
        poll.register(self._pipe, select.POLLIN)
        end = time.monotonic() + ANNOUNCED_SECONDS
        while not poll.poll(20):
            if self._over.is_set() or time.monotonic() > end:
                return False
        pids = os.read(self._pipe, 4096).split()
        pidfd = _open_child(int(pids[-1]))
        if pidfd is None:
            return False
        try:
            self._over.wait(self._rng.uniform(0, 0.006))
            self._send_last(int(pids[-1]), pidfd, signal.SIGKILL)
        finally:
            os.close(pidfd)
        self.victims["mid-frame"] += 1
        return True

    def _mid_argument(self) -> bool:
        """Kill a worker while a big argument may be on its way to it."""
        self._plant("is given very much", 0.0)
        self._over.wait(self._rng.uniform(0, 0.02))
        return self._kill()

    def _send_last(self, pid: int, pidfd: int, number: signal.Signals) -> None:
        self._note(pid)
        _send(pidfd, number)

    def _note(self, pid: int) -> None:
        self.killed[pid] = at = time.monotonic()
        self.deaths.append((pid, at))

    # -- whom

    @contextlib.contextmanager
    def _victim(self, *, is_killed: bool = True) -> Iterator[tuple[int, int] | None]:
        """Give (pid, pidfd) of a worker in a state drawn by lot, of any other if none is found, or None."""
        state = self._rng.choices([name for name, _ in STATES], [weight for _, weight in STATES])[0]
        found = None
        end = time.monotonic() + FIND_SECONDS
        while found is None and not self._over.is_set():
            since = time.monotonic() - REUSE_SECONDS
            workers = [each for each in self._workers() if each.pid and self.killed.get(each.pid, 0.0) < since]
            self._seen_ready |= {worker.name for worker in workers if worker.state in ("idle", "busy")}
            wanted = [worker for worker in workers if worker.state == state and self._may_kill(state, is_killed)]
            if not wanted and time.monotonic() > end:
                wanted = [worker for worker in workers if worker.state != "starting"]
            if wanted:
                worker = self._rng.choice(wanted)
                pidfd = _open_child(worker.pid)
                found = None if pidfd is None else (worker.pid, pidfd)
                if found is not None:
                    self.victims[worker.state] += 1
                    if worker.state == "starting" and is_killed:
                        self._ready_at_start_kill = len(self._seen_ready)
            elif time.monotonic() > end:
                break
            else:
                self._over.wait(0.001)
        try:
            yield found
        finally:
            if found is not None:
                os.close(found[1])

    def _may_kill(self, state: str, is_killed: bool) -> bool:
        return state != "starting" or not is_killed or len(self._seen_ready) > self._ready_at_start_kill


def _open_child(pid: int) -> int | None:
    """Return a pidfd of ``pid`` if that is a child of ours now; None if it is gone, or somebody else's by now."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return None
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            parent = int(file.read().rpartition(b")")[2].split()[1])
    except OSError:
        parent = 0
    if parent != os.getpid():
        os.close(pidfd)
        return None
    return pidfd


def _send(pidfd: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, number)
