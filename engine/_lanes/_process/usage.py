"""What a process uses, read from /proc."""

import os

__all__ = ["usage_of"]


def usage_of(pid: int) -> tuple[int | None, float | None]:
    """Return resident bytes and CPU seconds of ``pid``; None for both if it has ended meanwhile."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()  # the name before it may hold spaces
        return resident, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None, None
