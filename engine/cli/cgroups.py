"""The limits that control groups (version 1 and 2) set for this process."""

from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

__all__ = ["cpu_limit", "memory_limit"]

_NO_LIMIT = 1 << 60  #: version 1 says "no limit" by a number near 2**63


def cpu_limit(proc: Path = Path("/proc/self")) -> float | None:
    """Return how many processors' worth of time we may use, the least of our group and those above; None: no limit."""
    return _least([*map(_cpu_v2, _folders(proc, "")), *map(_cpu_v1, _folders(proc, "cpu"))])


def memory_limit(proc: Path = Path("/proc/self")) -> float | None:
    """Return how many bytes of memory we may use, the least of our group and those above; None: no limit."""
    return _least(
        [
            *(_number(folder / "memory.max") for folder in _folders(proc, "")),
            *(_number(folder / "memory.limit_in_bytes") for folder in _folders(proc, "memory")),
        ]
    )


def _least(limits: list[float | None]) -> float | None:
    return min((limit for limit in limits if limit is not None), default=None)


def _cpu_v2(folder: Path) -> float | None:
    quota, _, period = _text(folder / "cpu.max").partition(" ")
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() and int(period) else None


def _cpu_v1(folder: Path) -> float | None:
    quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
    return quota / period if quota and period else None  # a quota of -1 means none


def _number(path: Path) -> float | None:
    text = _text(path)
    return float(text) if text.isdecimal() and int(text) < _NO_LIMIT else None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:  # the controller is not switched on here, or a sandbox hides it
        return ""


def _folders(proc: Path, controller: str) -> Iterator[Path]:
    """Yield our group's folder for ``controller`` ("" for version 2), and those above it up to the mount point."""
    group = next((path for wanted, path in _groups(proc) if wanted(controller)), None)
    if group is None:
        return
    for root, mount in _mounts(proc, controller):
        # A container's mount may show only the part below ``root``; a group outside of it is seen as the mount itself.
        inside = group.relative_to(root) if group.is_relative_to(root) else PurePosixPath()
        for part in (inside, *inside.parents):
            yield mount / part


def _groups(proc: Path) -> Iterator[tuple[Callable[[str], bool], PurePosixPath]]:
    """Yield from lines like ``4:memory:/some/group``: which controllers, and the group."""
    for line in _text(proc / "cgroup").splitlines():
        _, names, path = line.split(":", 2)
        yield names.split(",").__contains__, PurePosixPath(path)


def _mounts(proc: Path, controller: str) -> Iterator[tuple[PurePosixPath, Path]]:
    """Yield from mountinfo, for each mount that has ``controller``: its root in the hierarchy, and where it is."""
    for line in _text(proc / "mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 3:
            continue
        if kind[0] == ("cgroup" if controller else "cgroup2") and (not controller or controller in kind[2].split(",")):
            yield PurePosixPath(fields[3]), Path(fields[4])
