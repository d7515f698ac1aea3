"""Checks of how much there is: processors, memory, limits, Python and libraries."""

import importlib.metadata
import os
import platform
import re
import resource
import sys
from pathlib import Path

from . import cgroups
from .findings import OUT_OF_FILES, Finding, checks, good, lack, weak
from .units import count, size

__all__ = ["MACHINE_CHECKS", "open_files", "usable_processors"]

_FILES_PER_WORKER = 10  #: descriptors of one worker process in the parent, with one to spare
_FILES_OF_ONE = 17  #: descriptors of an engine with its loop and one worker
_FILES_BESIDE = 64  #: descriptors that are left to the application
_LOKY = (3, 7)


def usable_processors() -> float:
    """Return how many processors this process may use, by affinity and control groups."""
    return min(len(os.sched_getaffinity(0)), cgroups.cpu_limit() or float("inf"))


@checks("python", "use CPython 3.11 or later")
def _python() -> Finding:
    name = f"{platform.python_implementation()} {platform.python_version()}"
    if sys.version_info < (3, 11) or sys.implementation.name != "cpython":
        return lack("python", name, "use CPython 3.11 or later")
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return weak("python", f"{name}, without the GIL", "untested without the GIL; set PYTHON_GIL=1 to switch it on")
    return good("python", f"{name}, with the GIL")


@checks("system", "use Linux")
def _system() -> Finding:
    value = f"{platform.system()} {platform.release()}, {platform.machine()}"
    if sys.platform == "linux":
        return good("system", value)
    return weak("system", value, "use Linux: elsewhere the workers run over loky, and nobody has tested it")


@checks("processors", "use Linux")
def _processors() -> Finding:
    there, affine, limit = os.cpu_count() or 1, len(os.sched_getaffinity(0)), cgroups.cpu_limit()
    told = f"{affine} of {there} by affinity, control group: {'no limit' if limit is None else f'{limit:g}'}"
    if usable_processors() < 2:
        return weak("processors", told, "with one processor CPU-bound work gains nothing: allow this process two")
    return good("processors", told)


@checks("memory", "mount /proc")
def _memory() -> Finding:
    text = Path("/proc/meminfo").read_text()
    there, free = (1024 * int(re.search(rf"^{name}:\s+(\d+)", text, re.M)[1]) for name in ("MemTotal", "MemAvailable"))  # type: ignore[index]  # a miss is a lack, as any error
    limit = cgroups.memory_limit()
    told = f"{size(there)}, {size(free)} of it free, control group: {'no limit' if limit is None else size(limit)}"
    if min(free, limit or free) < 256e6:
        return weak("memory", told, "a worker takes 15 MB and what its tasks need: free some, or raise the limit")
    return good("memory", told)


@checks("open files", OUT_OF_FILES)
def _files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    workers = len(os.sched_getaffinity(0)) + 1  # and a spare
    needed = _FILES_BESIDE + _FILES_PER_WORKER * workers
    told = (
        f"soft limit {_limit(soft)}, hard limit {_limit(hard)}; {count(workers, 'worker')} and {_FILES_BESIDE} files of"
        f" your own take {needed}"
    )
    wanted = max(4096, 2 * needed)
    remedy = f"ulimit -n {wanted if hard == resource.RLIM_INFINITY else min(wanted, max(hard, 2 * needed))}"
    if hard != resource.RLIM_INFINITY and hard < 2 * needed:
        remedy += ", after raising the hard limit (limits.conf, LimitNOFILE= or docker --ulimit)"
    if soft == resource.RLIM_INFINITY or soft >= 2 * needed:
        return good("open files", told)
    is_enough_for_one = soft >= open_files() + _FILES_OF_ONE
    return (weak if is_enough_for_one else lack)("open files", told, remedy)


def open_files() -> int:
    """Return how many descriptors this process has open."""
    return len(os.listdir("/dev/fd")) - 1  # without the one that lists them


@checks("processes", "see: ulimit -u")
def _processes() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    told = f"soft limit {_limit(soft)}, hard limit {_limit(hard)}, threads included"
    if soft != resource.RLIM_INFINITY and soft < 256 and os.geteuid() != 0:
        return weak("processes", told, "ulimit -u 4096 (or docker --pids-limit)")
    return good("processes", told)


@checks("shared memory", "mount a tmpfs at /dev/shm")
def _shared_memory() -> Finding:
    try:
        there = os.statvfs("/dev/shm")
    except OSError as error:
        return weak("shared memory", f"/dev/shm: {error.strerror}", "mount it: multiprocessing in a task may want it")
    told = f"/dev/shm has {size(there.f_bavail * there.f_frsize)} free; the engine itself uses none of it"
    return good("shared memory", told)


@checks("loky", "pip install 'loky>=3.7'")
def _loky() -> Finding:
    version = importlib.metadata.version("loky")
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < _LOKY:
        return lack("loky", version, "pip install 'loky>=3.7'")
    return good("loky", version)


@checks("psutil", "pip install psutil")
def _psutil() -> Finding:
    return good("psutil", importlib.metadata.version("psutil"))


def _limit(number: int) -> str:
    return "none" if number == resource.RLIM_INFINITY else f"{number:,}"


MACHINE_CHECKS = (_python, _system, _processors, _memory, _files, _processes, _shared_memory, _loky, _psutil)
