"""An engine's errors as they speak of a job: it is no task to who reads its history or the log."""

from engine import EngineError, TaskTimeout

__all__ = ["told_of_job"]


def told_of_job(error: BaseException, task_id: int, name: str, job_id: int) -> BaseException:
    """Return ``error`` with the job in the place of the task that ran it; one that speaks of neither as it is.

    An error of an engine that the function used itself may have the same id: it has another name.
    """
    kind = type(error)
    if not issubclass(kind, EngineError) or kind.__module__ != EngineError.__module__:  # a user's class is his own code
        return error
    task, text = f"task {task_id} ({name})", error.args[0] if error.args else None
    if type(text) is not str or task not in text:
        return error
    if isinstance(error, TaskTimeout) and error.scope == "attempt" and type(error.timeout) is float:
        text = f"the run took longer than its timeout of {error.timeout:g} s"
    told = kind.__new__(kind)
    told.args = (text.replace(task, f"job {job_id} ({name})"),)
    told.__dict__.update(error.__dict__)
    told.__cause__, told.__context__ = error.__cause__, error.__context__
    told.__suppress_context__ = error.__suppress_context__
    return told.with_traceback(error.__traceback__)
