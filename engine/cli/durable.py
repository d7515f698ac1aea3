"""Checks of what durable jobs need, which is an extra: nothing here is a lack of the engine."""

import importlib.metadata
import logging
import os
import tempfile
from pathlib import Path

from engine.jobs import Jobs, JobsError

from .findings import Finding, checks, good, weak

__all__ = ["JOBS_CHECKS", "file_system_of"]

_INSTALL = "for durable jobs: pip install 'hybrid-engine[jobs]'"
_ELSEWHERE = "keep the file of jobs on a disk of this machine, in a directory that you may write to"
_NO_WAL = "pip install -U apsw, for SQLite 3.51.3 or later; if it is that new, keep the file on a disk of this machine"
_UNKNOWN = "a file system of unknown kind"
#: Other machines may have the same file, and SQLite's locks and shared memory do not reach them.
_NETWORK = frozenset({"9p", "afs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "lustre", "nfs", "nfs4", "smb3"})


@checks("jobs", _INSTALL)
def _libraries() -> Finding:
    missing = [name for name in ("apsw", "cronsim") if not _version_of(name)]
    if missing:
        return weak("jobs", f"{' and '.join(missing)} not installed", _INSTALL)
    import apsw  # here, for it may be missing

    sqlite = apsw.sqlite_lib_version()
    return good("jobs", f"apsw {_version_of('apsw')} with SQLite {sqlite}, cronsim {_version_of('cronsim')}")


@checks("jobs file", "keep the file of jobs on Linux, where it was tried")
def _file() -> Finding:
    mounts = Path("/proc/self/mountinfo")
    kind = file_system_of(os.getcwd(), mounts.read_text()) if mounts.exists() else _UNKNOWN
    if kind in _NETWORK:
        return weak("jobs file", f"the current directory is on {kind}", _ELSEWHERE)
    if not _version_of("apsw"):
        return weak("jobs file", f"the current directory is on {kind}; apsw is missing to try it", _INSTALL)
    try:
        has_wal = _has_wal()
    except (OSError, JobsError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        return weak("jobs file", f"the current directory, on {kind}: {why}", _ELSEWHERE)
    if not has_wal:
        return weak("jobs file", f"in the current directory, on {kind}, it can have no WAL, and is slower", _NO_WAL)
    return good("jobs file", f"in the current directory, on {kind}, it can have a WAL")


def _has_wal() -> bool:
    """Make a file of jobs in the current directory, and look what becomes of it."""
    logger = logging.getLogger("engine.jobs")
    level = logger.level
    logger.setLevel(logging.ERROR)  # what it would warn of is what we find
    try:
        with tempfile.TemporaryDirectory(dir=os.getcwd(), prefix=".engine-doctor-") as directory:
            path = os.path.join(directory, "jobs.db")
            with Jobs(path):
                return os.path.exists(f"{path}-wal")
    finally:
        logger.setLevel(level)


def file_system_of(path: str, mounts: str) -> str:
    """Return the kind of file system that ``path`` is on, by the text of ``/proc/self/mountinfo``."""
    found, kind = "", _UNKNOWN
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        point = before.split(" ")[4].encode().decode("unicode_escape")  # blanks are octal there
        if len(point) >= len(found) and (path == point or path.startswith(point.rstrip("/") + "/")):
            found, kind = point, after.split(" ")[0]
    return kind


def _version_of(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


JOBS_CHECKS = (_libraries, _file)
