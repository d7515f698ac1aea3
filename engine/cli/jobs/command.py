"""``engine jobs``: from what was typed to what is done."""

import argparse
from collections.abc import Callable, Iterator

from engine.jobs import Jobs, JobsError

from ..refusals import Failed
from . import changes
from .backup import backup
from .listing import list_lines
from .overview import stats_lines
from .pruning import prune
from .showing import show_lines
from .target import opened

__all__ = ["run_jobs"]

Action = Callable[[Jobs, argparse.Namespace], int]


def run_jobs(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit code.

    Raises:
        Refused: it cannot be done.
    """
    try:
        with opened(arguments.target) as jobs:
            return _ACTIONS[arguments.action](jobs, arguments)
    except JobsError as error:
        raise Failed(str(error)) from error


def _printing(lines: Callable[[Jobs, argparse.Namespace], Iterator[str]]) -> Action:
    def action(jobs: Jobs, arguments: argparse.Namespace) -> int:
        for line in lines(jobs, arguments):
            print(line)
        return 0

    return action


_ACTIONS: dict[str, Action] = {
    "list": _printing(list_lines),
    "show": _printing(show_lines),
    "stats": _printing(stats_lines),
    "cancel": changes.cancel,
    "requeue": changes.requeue,
    "pause": changes.pause,
    "resume": changes.resume,
    "prune": prune,
    "backup": backup,
}
