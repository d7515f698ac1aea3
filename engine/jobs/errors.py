"""Everything that can go wrong with durable jobs. Each class's docstring is its default message."""

from engine.errors import EngineError

__all__ = [
    "AlreadyEnqueued",
    "ConfigurationError",
    "CorruptStore",
    "JobCancelled",
    "JobFailed",
    "JobNotFound",
    "JobRefused",
    "JobsError",
    "PayloadRefused",
    "ResultNotSerializable",
    "StoreClosed",
    "StoreError",
    "StoreFull",
    "UnknownTask",
]


class JobsError(EngineError):
    """Something went wrong with durable jobs."""


class JobRefused(JobsError, ValueError):
    """The job was not enqueued."""


class AlreadyEnqueued(JobRefused):
    """A job with this queueing_lock waits already; ``job_id`` is its id."""

    def __init__(self, message: str | None = None, *, queueing_lock: str = "", job_id: int | None = None) -> None:
        super().__init__(message)
        self.queueing_lock = queueing_lock
        self.job_id = job_id


class PayloadRefused(JobRefused):
    """The arguments are not what JSON can carry, or too large.

    ``where`` names the part, as in ``args['to'][0]``; ``size_bytes`` and ``limit_bytes`` are set where size was the
    reason.
    """

    def __init__(
        self, message: str | None = None, *, where: str = "", size_bytes: int | None = None,
        limit_bytes: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.where = where
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


class UnknownTask(JobRefused):
    """No function is registered under this name."""


class ConfigurationError(JobsError, ValueError):
    """The configuration cannot work. ``findings`` is all that ``jobs.check()`` found, warnings too."""

    def __init__(self, message: str | None = None, *, findings: tuple[object, ...] = ()) -> None:
        super().__init__(message)
        self.findings = findings


class ResultNotSerializable(JobsError):
    """The function returned what JSON cannot carry; its effects are done, so it is not run again."""


class JobNotFound(JobsError, LookupError):
    """There is no job with this id; it may have been pruned."""


class JobFailed(JobsError):
    """The job failed for good. ``job`` is how it ended, with the error of every attempt."""

    def __init__(self, message: str | None = None, *, job: object = None) -> None:
        super().__init__(message)
        self.job = job


class JobCancelled(JobsError):
    """The job was cancelled, or had expired before it was started. ``job`` is how it ended."""

    def __init__(self, message: str | None = None, *, job: object = None) -> None:
        super().__init__(message)
        self.job = job


class StoreError(JobsError):
    """The database cannot be used. ``path`` is its file."""

    def __init__(self, message: str | None = None, *, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class StoreFull(StoreError):
    """There is no room on the disk, or the file has reached its bound; nothing was changed."""


class CorruptStore(StoreError):
    """The file is no database, or a damaged one."""


class StoreClosed(StoreError, RuntimeError):
    """The store is closed."""
