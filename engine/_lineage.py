"""Which process this is, told without a system call: how many forks lie between it and the start of its program.

Guarantees
    ``forks`` is written in a forked child alone, before any other code runs there.  Callers: any thread.
    A child that is forked behind Python's back, by C code that never calls its hooks, is not noticed.
"""

import os

__all__ = ["forks"]

forks = 0


def _count() -> None:
    global forks
    forks += 1


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_count)
