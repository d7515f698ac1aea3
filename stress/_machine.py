"""What a script says of the machine it ran on, so that its figures can be read later."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

__all__ = ["machine"]


def machine() -> dict[str, Any]:
    """Return processors, load, kernel and versions."""
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "kernel": platform.release(),
        "python": sys.version.split()[0],
        **{name: _version(name) for name in ("hybrid-engine", "loky", "psutil")},
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "checkout"
