"""What tasks of the portable backend's tests run."""

import os
import signal
import sys
import time

__all__ = ["die_half_sent", "leak_limit", "nap"]


def nap(path: str) -> None:
    """Say that it began, then sleep for a minute."""
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    time.sleep(60)


def leak_limit() -> bool:
    """Say whether loky's own recycling is off in this worker."""
    return bool(sys.maxsize == sys.modules["loky.process_executor"]._MAX_MEMORY_LEAK_SIZE)


def die_half_sent(size: int) -> bytes:
    """Return what does not fit a pipe, and have this process killed while it is written."""
    import threading

    def kill_when_it_is_written() -> None:
        while "_send" not in _main_stack():
            time.sleep(0)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=kill_when_it_is_written, daemon=True).start()
    return bytes(size)


def _main_stack() -> list[str]:
    import threading

    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    names = []
    while frame is not None:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    return names
