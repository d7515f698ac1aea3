"""What the demo is to measure."""

from dataclasses import dataclass

from .metrics import Failure
from .refusals import Refused
from .sources import find_sources

__all__ = ["Work", "find_work"]


@dataclass(frozen=True, slots=True)
class Work:
    """What to measure, and how."""

    root: str
    only: str | None = None  #: the one file in ``root`` that was named; None for all below it
    skipped: frozenset[str] = frozenset()  #: names of directories to leave out
    limit: int | None = None  #: measure the first so many files
    processes: int | None = None
    sample: int = 0  #: files to measure the speed-up on, at most; 0 for none


def find_work(work: Work) -> tuple[list[str], list[Failure]]:
    """Return the paths of the files to measure, and the directories that could not be listed.

    Raises:
        Refused: there is no .py file.
    """
    if work.only is not None:
        return [work.only], []
    paths, failures = find_sources(work.root, work.skipped)
    if not paths:
        why = f" ({failures[0]['reason']})" if failures else ""
        raise Refused(f"expected PATH to hold .py files, got none below {work.root}{why}")
    return paths[: work.limit], failures
