"""What ``test_memory_limit.py`` and ``test_recycling.py`` run in workers. It is imported there: it imports little."""

import gc
import os
import resource
import time
from pathlib import Path
from typing import Any

from engine._wire.statm import private_bytes
from tests.contracts.functions import mark

MIB = 1 << 20
LEAKED: list[Any] = []


def held() -> int:
    """Return the bytes that this process holds for itself."""
    return private_bytes(Path("/proc/self/statm").read_bytes()) or 0


def leak(size: int, path: str = "", key: str = "") -> tuple[int, int]:
    """Take ``size`` bytes for ever; return pid and the bytes held. With a path it notes when it came and went."""
    if path:
        mark(path, f"begun {key}")
    LEAKED.append(b"x" * size)
    if path:
        mark(path, f"ended {key}")
    return os.getpid(), held()


def take(size: int) -> int:
    """Take ``size`` bytes for a moment; return the pid."""
    data = b"x" * size
    return os.getpid() if data else 0


def take_and_wait(size: int, folder: str) -> int:
    """Take ``size`` bytes, say so, and hold them until the file ``go`` is there."""
    data = b"x" * size
    mark(f"{folder}/took", str(os.getpid()))
    while not os.path.exists(f"{folder}/go"):
        time.sleep(0.002)
    return len(data)


def eat(size: int = 1 << 40) -> None:
    """Take more and more, 8 MiB every 10 ms, up to ``size`` bytes; then hold them."""
    kept: list[bytes] = []
    while len(kept) * 8 * MIB < size:
        kept.append(b"x" * (8 * MIB))
        time.sleep(0.01)
    time.sleep(600)


def eat_if(number: int, path: str) -> int:
    """Note that it ran; number 100 takes all that there is."""
    mark(path, str(number))
    if number == 100:
        eat()
    return number


def litter(size: int) -> int:
    """Leave garbage that only the cyclic collector finds, with the collector off; return the pid."""
    gc.disable()
    ring: list[Any] = [b"x" * size]
    ring.append(ring)
    return os.getpid()


def litter_in_between(size: int) -> int:
    """As ``litter``, with a small block above that stays: the allocator alone would keep what lies below it."""
    pid = litter(size)
    LEAKED.append(b"x" * 100_000)
    return pid


def limit_address_space(size: int) -> None:
    """Let this process have ``size`` more bytes of address space."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + size
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


def limit_and_take(size: int) -> int:
    """Set the limit inside the task."""
    limit_address_space(size)
    return take(4 * size)


def join_group(folder: str) -> None:
    """Enter a control group."""
    Path(folder, "cgroup.procs").write_text(str(os.getpid()))


def crash_if(number: int, path: str) -> int:
    """Note that it ran; every seventh dies."""
    mark(path, str(number))
    if number % 7 == 3:
        os._exit(5)
    return number


def own_pid() -> int:
    """Return the pid."""
    return os.getpid()
