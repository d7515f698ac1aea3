"""One awaitable API for coroutines, threads and worker processes. Start with ``engine.Engine``.

Names are found when they are first used (PEP 562), so that importing the package stays cheap in worker processes.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._blocking import BlockingEngine as BlockingEngine
    from ._blocking_group import BlockingTaskGroup as BlockingTaskGroup
    from ._current import CurrentTask as CurrentTask
    from ._current import checkpoint as checkpoint
    from ._current import current_task as current_task
    from ._decorators import cpu as cpu
    from ._decorators import io as io
    from ._decorators import task as task
    from ._engine import Engine as Engine
    from ._group import TaskGroup as TaskGroup
    from ._lanes.base import WorkerInfo as WorkerInfo
    from ._records import Progress as Progress
    from ._records import TaskInfo as TaskInfo
    from ._shared import Shared as Shared
    from ._snapshot import LaneSnapshot as LaneSnapshot
    from ._snapshot import Snapshot as Snapshot
    from ._states import Lane as Lane
    from ._states import Priority as Priority
    from ._states import TaskState as TaskState
    from ._stop import ShutdownReport as ShutdownReport
    from ._task import Task as Task
    from .errors import DependencyFailed as DependencyFailed
    from .errors import EngineClosed as EngineClosed
    from .errors import EngineError as EngineError
    from .errors import EngineForked as EngineForked
    from .errors import EngineFull as EngineFull
    from .errors import NestedDeadlock as NestedDeadlock
    from .errors import PayloadTooLarge as PayloadTooLarge
    from .errors import PickleError as PickleError
    from .errors import RemoteError as RemoteError
    from .errors import ResultDecodeError as ResultDecodeError
    from .errors import ShareError as ShareError
    from .errors import TaskCancelled as TaskCancelled
    from .errors import TaskDecodeError as TaskDecodeError
    from .errors import TaskTimeout as TaskTimeout
    from .errors import WorkerCrashed as WorkerCrashed
    from .errors import WorkerMemoryExceeded as WorkerMemoryExceeded
    from .errors import WorkerStartupError as WorkerStartupError
    from .retry import Retry as Retry

_HOMES = {
    "BlockingEngine": "_blocking",
    "BlockingTaskGroup": "_blocking_group",
    "CurrentTask": "_current",
    "DependencyFailed": "errors",
    "Engine": "_engine",
    "EngineClosed": "errors",
    "EngineError": "errors",
    "EngineForked": "errors",
    "EngineFull": "errors",
    "Lane": "_states",
    "LaneSnapshot": "_snapshot",
    "NestedDeadlock": "errors",
    "PayloadTooLarge": "errors",
    "PickleError": "errors",
    "Priority": "_states",
    "Progress": "_records",
    "RemoteError": "errors",
    "ResultDecodeError": "errors",
    "Retry": "retry",
    "ShareError": "errors",
    "Shared": "_shared",
    "ShutdownReport": "_stop",
    "Snapshot": "_snapshot",
    "Task": "_task",
    "TaskCancelled": "errors",
    "TaskDecodeError": "errors",
    "TaskGroup": "_group",
    "TaskInfo": "_records",
    "TaskState": "_states",
    "TaskTimeout": "errors",
    "WorkerCrashed": "errors",
    "WorkerInfo": "_lanes.base",
    "WorkerMemoryExceeded": "errors",
    "WorkerStartupError": "errors",
    "checkpoint": "_current",
    "cpu": "_decorators",
    "current_task": "_current",
    "io": "_decorators",
    "task": "_decorators",
}

__all__ = sorted(_HOMES)

__version__ = "0.1.0.dev0"


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'engine' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"engine.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
