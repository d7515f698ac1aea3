"""Private memory of a process, as the kernel tells it in ``/proc/<pid>/statm``."""

import mmap

__all__ = ["private_bytes"]

_PAGE = mmap.PAGESIZE


def private_bytes(statm: bytes) -> int | None:
    """Return what a process holds for itself alone (RssAnon), in bytes; None if ``statm`` does not tell.

    Resident minus shared: file pages and shared memory are not a process's own. Swapped pages are not resident.
    """
    fields = statm.split()
    try:
        return (int(fields[1]) - int(fields[2])) * _PAGE
    except (IndexError, ValueError):
        return None
