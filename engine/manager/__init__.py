"""Named background tasks with a hard limit on how many run at once: a manager in front of an engine of its own."""

from ._default import (
    get_background_task_manager,
    init_background_task_manager,
    shutdown_background_task_manager,
)
from ._manager import BackgroundTaskManager
from ._records import BackgroundTask, TaskStatus

__all__ = [
    "BackgroundTask",
    "BackgroundTaskManager",
    "TaskStatus",
    "get_background_task_manager",
    "init_background_task_manager",
    "shutdown_background_task_manager",
]
