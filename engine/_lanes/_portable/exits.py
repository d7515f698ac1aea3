"""Interpreter exit: workers end before loky waits for them.

loky joins its threads, and so waits for the tasks of its workers, when the interpreter ends. What is registered after
it is called before it, and ends the workers whose loop ends with the interpreter: nobody would get what they still do.
Where the loop runs in a thread that the interpreter waits for, tasks go on, but no further worker is started.

Guarantees
    Shared: ``_keepers``, ``_pid``, ``_is_ending``.  Guarded by: ``_lock``, held for a few set operations.
    Callers: any thread. A keeper is either in the set when the interpreter begins to end, or asked by ``end_at_exit``;
    after that no worker is started (``prepare``).
"""

import os
import threading
import weakref
from typing import Any

__all__ = ["end_at_exit", "is_ending", "prepare"]

_lock = threading.Lock()
_keepers: "weakref.WeakSet[Any]" = weakref.WeakSet()
_pid = 0  #: who has registered; a forked child has not
_is_ending = False


def prepare() -> None:
    """Make sure that we are called before loky at the end; called before each start of a worker.

    loky 3.7 registers itself again with each executor, since it looks for a result that the registration does not have:
    then it would come before us, and its list would grow with every worker. So we register it, once, and say so.

    Raises:
        RuntimeError: the interpreter is ending.
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


def is_ending() -> bool:
    """Say whether the interpreter is ending."""
    with _lock:
        return _is_ending


def end_at_exit(keeper: Any) -> None:
    """Have ``keeper.end_with_interpreter()`` called when the interpreter ends."""
    with _lock:
        _keepers.add(keeper)
        is_late = _is_ending
    if is_late:
        keeper.end_with_interpreter()


def _end_all() -> None:
    global _is_ending
    if os.getpid() != _pid:  # a forked child: they are the parent's
        return
    with _lock:
        _is_ending = True
        keepers = list(_keepers)
    for keeper in keepers:
        keeper.end_with_interpreter()
