"""What ``test_payload_sizes.py`` runs in workers; it imports nothing heavy."""

import gc
import sys
from typing import Any


def echo(value: Any) -> Any:
    return value


def measure(value: Any) -> tuple[int, int]:
    """Return how much arrived, and the most memory that this worker has had, in bytes."""
    return size_of(value), peak()


def make(kind: str, size: int) -> Any:
    """Make about ``size`` bytes; none of them zero, or the kernel would not give memory for them."""
    if kind == "bytes":
        return b"x" * size
    if kind == "array":
        import numpy as np

        return np.full(size, 7, dtype=np.uint8)
    return nest(size)


def nest(size: int) -> dict[str, list[bytes]]:
    """Make pieces of 1 MiB that stay in the pickle, at the bottom of a dict and a list."""
    return {"pieces": [b"x" * (1 << 20) for _ in range(size >> 20)]}


def size_of(value: Any) -> int:
    if isinstance(value, dict):
        return sum(map(len, value["pieces"]))
    return int(getattr(value, "nbytes", None) or len(value))


def peak() -> int:
    """Return the most memory that this process has had since it began or since ``forget_peak``, in bytes."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM"))


def forget_peak() -> int:
    """Begin to measure anew; return what this process holds now, in bytes."""
    gc.collect()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return peak()


def limit_payloads(size: int) -> None:
    """Have this worker refuse to send more than ``size`` bytes."""
    from engine._wire import pickling

    pickling.__dict__["MAX_PAYLOAD_BYTES"] = size


def say(sizes: list[int]) -> None:
    """Print a line of each size, as it is and as an unfinished one."""
    for size in sizes:
        print("x" * (size - 1))
        sys.stdout.write("y" * size)
        print()


def many_views(count: int) -> list[memoryview]:
    data = bytes(64 << 10)
    return [memoryview(data) for _ in range(count)]
