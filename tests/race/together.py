"""Threads that start at the same instant."""

import threading
from collections.abc import Callable

__all__ = ["STUCK", "together"]

STUCK = 30.0  #: seconds; a bound for what never happens, not a measurement


def together(*functions: Callable[[], object]) -> None:
    """Run each function on a thread of its own, all at once; wait for them, and raise what they raised."""
    barrier = threading.Barrier(len(functions))
    errors: list[BaseException] = []

    def run(function: Callable[[], object]) -> None:
        barrier.wait(STUCK)
        try:
            function()
        except BaseException as error:  # raised below, on the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=(function,), daemon=True) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(STUCK)
    stuck = [thread.name for thread in threads if thread.is_alive()]
    if errors:
        raise BaseExceptionGroup("threads failed", errors)
    assert not stuck, f"still running after {STUCK} s: {stuck}"
