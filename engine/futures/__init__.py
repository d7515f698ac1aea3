"""Drop-in replacements for the executors of ``concurrent.futures``, and executors over an engine.

``from engine.futures import ProcessExecutor as ProcessPoolExecutor`` is the whole change. Futures are those of
``concurrent.futures``: ``wait``, ``as_completed`` and ``asyncio.wrap_future`` take them. What differs, and why, is in
``docs/FUTURES.md``.
"""

from concurrent.futures.process import BrokenProcessPool
from concurrent.futures.thread import BrokenThreadPool

from ._broken import ResultDecodeError, TaskDecodeError, WorkerCrashed, WorkerMemoryExceeded, WorkerStartupError
from ._call_future import CallFuture
from ._executor import EngineExecutor
from ._process_executor import ProcessExecutor
from ._thread_executor import ThreadExecutor

__all__ = [
    "BrokenProcessPool", "BrokenThreadPool", "CallFuture", "EngineExecutor", "ProcessExecutor", "ResultDecodeError",
    "TaskDecodeError", "ThreadExecutor", "WorkerCrashed", "WorkerMemoryExceeded", "WorkerStartupError",
]  # fmt: skip
