"""The manager that a whole program shares.

Guarantees
    ``_manager`` is guarded by ``_lock``, which is never held across await.
"""

import threading

from ._manager import BackgroundTaskManager

__all__ = ["get_background_task_manager", "init_background_task_manager", "shutdown_background_task_manager"]

_lock = threading.RLock()  # signal handlers and the collector may call us from inside
_manager: BackgroundTaskManager | None = None


def get_background_task_manager() -> BackgroundTaskManager:
    """Return the shared manager; the first call makes it, not started. Any thread."""
    global _manager
    with _lock:
        if _manager is None:
            _manager = BackgroundTaskManager()
        return _manager


async def init_background_task_manager(max_concurrent_tasks: int = 10) -> BackgroundTaskManager:
    """Put a new, started manager in the place of the shared one, which is stopped first; return the new one.

    Raises:
        ValueError: ``max_concurrent_tasks`` is not a positive integer.
    """
    global _manager
    manager = BackgroundTaskManager(max_concurrent_tasks)
    with _lock:
        previous, _manager = _manager, manager
    if previous is not None:
        await previous.stop()
    await manager.start()
    return manager


async def shutdown_background_task_manager(timeout: float = 30.0) -> None:
    """Stop the shared manager, as its ``stop`` does, and forget it. Nothing happens if there is none."""
    global _manager
    with _lock:
        manager = _manager
    if manager is None:
        return
    await manager.stop(timeout)
    with _lock:
        if _manager is manager:
            _manager = None
