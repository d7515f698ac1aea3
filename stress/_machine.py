"""What a script says of the machine it ran on, so that its figures can be read later."""

import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

__all__ = ["machine"]


def machine() -> dict[str, Any]:
    """Return processors, load, kernel, the file system of temporary files, the commit, and versions."""
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "kernel": platform.release(),
        "file_system": _file_system(tempfile.gettempdir()),
        "commit": _commit(),
        "python": sys.version.split()[0],
        **{name: _version(name) for name in ("hybrid-engine", "loky", "psutil")},
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "checkout"


def _commit() -> str:
    """Return the commit of the checkout that this file is in, with a + if it was changed since; "-" if it is none."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
    try:
        run = subprocess.run(git, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return "-"
    return run.stdout.strip() or "-"


def _file_system(path: str) -> str:
    path = os.path.realpath(path)
    mounts = [part for part in psutil.disk_partitions(all=True) if _is_under(path, part.mountpoint)]
    return max(mounts, key=lambda part: len(part.mountpoint)).fstype if mounts else "-"


def _is_under(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
