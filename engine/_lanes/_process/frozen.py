"""What ``/proc`` says about a process and a descriptor. Where it says nothing, the answer is no."""

__all__ = ["is_pidfd_of", "is_stopped"]


def is_stopped(pid: int) -> bool:
    """Say whether a signal or a debugger has stopped ``pid``: it is somebody's doing, and may go on any time."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state = file.read().rpartition(b")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state in (b"T", b"t")


def is_pidfd_of(fd: int, pid: int) -> bool:
    """Say whether ``fd`` is a pidfd of process ``pid``."""
    try:
        with open(f"/proc/self/fdinfo/{fd}", "rb") as file:
            fields = dict(line.split(b":", 1) for line in file.read().splitlines() if b":" in line)
    except OSError:
        return False
    return fields.get(b"Pid", b"").strip() == str(pid).encode()
