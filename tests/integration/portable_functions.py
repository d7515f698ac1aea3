"""What tasks of the portable backend's tests run."""

import os
import sys
import time

__all__ = ["leak_limit", "nap"]


def nap(path: str) -> None:
    """Say that it began, then sleep for a minute."""
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    time.sleep(60)


def leak_limit() -> bool:
    """Say whether loky's own recycling is off in this worker."""
    return bool(sys.maxsize == sys.modules["loky.process_executor"]._MAX_MEMORY_LEAK_SIZE)
