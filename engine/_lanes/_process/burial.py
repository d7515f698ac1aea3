"""Ends every worker without the event loop, which will not turn again."""

import contextlib
import time

from .pool import Pool
from .worker import Worker

__all__ = ["bury"]


def bury(pool: Pool, seconds: float) -> None:
    """Kill every worker, reap what is gone within ``seconds``, and close all descriptors. Any thread, no lock held."""
    workers, pool.workers = pool.workers, ()
    for worker in workers:
        worker.kill()
    end = time.monotonic() + seconds
    for worker in workers:
        if worker.child.has_ended(max(0.0, end - time.monotonic())):
            worker.child.reap()
        _close(pool, worker)


def _close(pool: Pool, worker: Worker) -> None:
    watcher = pool.watchers.pop(worker, None)
    with contextlib.suppress(RuntimeError):  # "Event loop is closed": then nothing is watched any more
        if watcher is not None:
            watcher.stop()
    worker.take_all()
    with contextlib.suppress(RuntimeError):  # as above
        worker.outbox.close()
    worker.close()
