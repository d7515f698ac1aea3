"""Ends every worker without the event loop, which will not turn again."""

import contextlib
import time

from .pool import Pool

__all__ = ["bury"]


def bury(pool: Pool, seconds: float) -> None:
    """Kill every worker, reap what is gone within ``seconds``, and close all descriptors. Any thread, no lock held."""
    workers, pool.workers = pool.workers, ()
    for worker in workers:
        worker.kill()
    end = time.monotonic() + seconds
    for worker in workers:
        watcher = pool.watchers.pop(worker, None)
        with contextlib.suppress(RuntimeError):  # "Event loop is closed": then nothing is watched any more
            if watcher is not None:
                watcher.stop()
        worker.take_all()
        worker.bury(max(0.0, end - time.monotonic()))
