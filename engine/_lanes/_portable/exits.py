"""Interpreter exit: engines end before loky waits for their workers.

loky joins its threads, and so waits for the tasks of its workers, when the main thread is done. What is registered
after it is called before it: there the engines end as they do over the native backend (``end_first``). One that a
thread uses which the interpreter waits for goes on with the tasks that it has begun; loky starts no worker any more.

Guarantees
    Shared: ``_ends_first``, ``_pid``, ``_is_ending``.  Guarded by: ``_lock``, held for two registrations.
    Callers: any thread. After ``_end_all`` has begun to let loky wait, ``prepare`` lets no worker start.
"""

import os
import threading
from collections.abc import Callable
from typing import Any

from ..._system import is_exiting

__all__ = ["end_first", "explained", "prepare"]

_lock = threading.Lock()
_ends_first: Callable[[], None] | None = None  #: ends the engines that the interpreter does not wait for
_pid = 0  #: who has registered; a forked child has not
_is_ending = False


def end_first(end: Callable[[], None]) -> None:
    """Have ``end`` called when the main thread is done, before loky waits."""
    global _ends_first
    _ends_first = end


def explained(error: BaseException) -> BaseException:
    """Return why a worker could not be started: ``error``, unless that was in vain because the interpreter ends."""
    if not (isinstance(error, RuntimeError) and is_exiting()):
        return error
    return RuntimeError(
        "expected the main thread to run, got one that has ended: loky starts no process then; keep the main thread"
        ' alive until the engine has stopped (join your threads there), or use process_backend="native"'
    )


def prepare() -> None:
    """Make sure that we are called before loky at the end; called before each start of a worker.

    loky 3.7 registers itself again with each executor, since it looks for a result that the registration does not have:
    then it would come before us, and its list would grow with every worker. So we register it, once, and say so.

    Raises:
        RuntimeError: the interpreter is ending; loky's import may say so, too.
    """
    global _pid
    from loky import process_executor

    register: Any = getattr(threading, "_register_atexit", None)  # what loky and concurrent.futures use too
    with _lock:
        if _is_ending:
            raise RuntimeError("expected a running interpreter, got one that is ending")
        if _pid != os.getpid() and register is not None:
            register(process_executor._python_exit)
            process_executor.process_pool_executor_at_exit = True
            register(_end_all)
            _pid = os.getpid()


def _end_all() -> None:
    global _is_ending
    if os.getpid() != _pid:  # a forked child: they are the parent's
        return
    if _ends_first is not None:
        _ends_first()
    with _lock:
        _is_ending = True
