"""What tests run as tasks in the thread and process lanes: what the contract of the lanes runs, and more."""

import os

from engine.testing._lane.functions import (
    Blob,
    about_me,
    dawdle,
    fail,
    give,
    hold,
    length,
    make_blob,
    mark,
    report,
    resist,
    stay,
    stumble,
    throw,
    touch,
)

__all__ = [
    "Blob",
    "about_me",
    "dawdle",
    "fail",
    "give",
    "hold",
    "length",
    "make_blob",
    "mark",
    "report",
    "resist",
    "stay",
    "stumble",
    "throw",
    "throw_away_pidfd_open",
    "touch",
]


def throw_away_pidfd_open() -> None:
    """Make this process one that cannot open a pidfd."""

    def refuse(pid: int) -> int:
        raise OSError(24, f"no descriptor for {pid}")

    os.pidfd_open = refuse  # type: ignore[assignment]  # as on an old kernel
