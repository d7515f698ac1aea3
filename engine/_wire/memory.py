"""Private writable memory for what arrives."""

import mmap

__all__ = ["MAPPED_BYTES", "allocate"]

MAPPED_BYTES = 1 << 20  #: from here on a mapping: its pages come as they are filled, a bytearray is zeroed at once


def allocate(size: int) -> memoryview:
    """Return ``size`` bytes of private writable memory."""
    if size < MAPPED_BYTES:
        return memoryview(bytearray(size))
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        try:
            memory.madvise(mmap.MADV_HUGEPAGE)
        except OSError:  # a kernel without huge pages
            pass
    return memoryview(memory)
