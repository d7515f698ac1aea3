"""Durable jobs: calls that a file of SQLite keeps until they are done. Start with ``Jobs``.

Names are found when they are first used (PEP 562): what enqueues does not import what runs.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._book import Book as Book
    from ._calls.job_call import JobCall as JobCall
    from ._check import Finding as Finding
    from ._current_job import CurrentJob as CurrentJob
    from ._current_job import Snoozed as Snoozed
    from ._current_job import current_job as current_job
    from ._current_job import snooze as snooze
    from ._job import Job as Job
    from ._jobs import Jobs as Jobs
    from ._memory.store import MemoryStore as MemoryStore
    from ._moment import Moment as Moment
    from ._records import Cancelled as Cancelled
    from ._records import Failure as Failure
    from ._records import Filter as Filter
    from ._records import Gate as Gate
    from ._records import HolderInfo as HolderInfo
    from ._records import JobInfo as JobInfo
    from ._records import QueueStatistics as QueueStatistics
    from ._records import Statistics as Statistics
    from ._reply import Reply as Reply
    from ._schedules.schedule import Schedule as Schedule
    from ._sqlite.store import SQLiteStore as SQLiteStore
    from ._store import Store as Store
    from ._tasks.job_task import JobTask as JobTask
    from ._worker.worker import Worker as Worker
    from ._worker.worker_statistics import WorkerStatistics as WorkerStatistics
    from .errors import AlreadyEnqueued as AlreadyEnqueued
    from .errors import ConfigurationError as ConfigurationError
    from .errors import CorruptStore as CorruptStore
    from .errors import JobCancelled as JobCancelled
    from .errors import JobFailed as JobFailed
    from .errors import JobNotFound as JobNotFound
    from .errors import JobRefused as JobRefused
    from .errors import JobsError as JobsError
    from .errors import PayloadRefused as PayloadRefused
    from .errors import ResultNotSerializable as ResultNotSerializable
    from .errors import StoreClosed as StoreClosed
    from .errors import StoreError as StoreError
    from .errors import StoreFull as StoreFull
    from .errors import UnknownTask as UnknownTask

_HOMES = {
    "AlreadyEnqueued": "errors",
    "Book": "_book",
    "Cancelled": "_records",
    "ConfigurationError": "errors",
    "CorruptStore": "errors",
    "CurrentJob": "_current_job",
    "Failure": "_records",
    "Finding": "_check",
    "Filter": "_records",
    "Gate": "_records",
    "HolderInfo": "_records",
    "Job": "_job",
    "JobCall": "_calls.job_call",
    "JobCancelled": "errors",
    "JobFailed": "errors",
    "JobInfo": "_records",
    "JobNotFound": "errors",
    "JobRefused": "errors",
    "JobTask": "_tasks.job_task",
    "Jobs": "_jobs",
    "JobsError": "errors",
    "MemoryStore": "_memory.store",
    "Moment": "_moment",
    "PayloadRefused": "errors",
    "QueueStatistics": "_records",
    "Reply": "_reply",
    "Schedule": "_schedules.schedule",
    "ResultNotSerializable": "errors",
    "SQLiteStore": "_sqlite.store",
    "Snoozed": "_current_job",
    "Statistics": "_records",
    "Store": "_store",
    "StoreClosed": "errors",
    "StoreError": "errors",
    "StoreFull": "errors",
    "UnknownTask": "errors",
    "Worker": "_worker.worker",
    "WorkerStatistics": "_worker.worker_statistics",
    "current_job": "_current_job",
    "snooze": "_current_job",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'engine.jobs' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"engine.jobs.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
