"""What ``engine worker`` understands."""

import argparse
from collections.abc import Callable
from typing import Any

from ..arguments import Parser, positive, seconds

__all__ = ["add_worker"]

_ABOUT = """\
Run durable jobs. MODULE is imported (the current directory comes first), JOBS
is the Jobs in it, and what is wrong with its tasks, queues and schedules is
said before anything runs. Any number of workers may run on one file.

SIGTERM and Ctrl-C drain: nothing more is claimed, what runs has --drain
seconds to end, and the rest is stopped and given back, which uses no attempt. A
second signal stops and gives back at once; what has not ended two seconds later
is left behind, and other workers rescue it. No worker process outlives this
one.

  engine worker app:jobs
  engine worker app:jobs --queues mail,reports=2 --processes 4
"""

_EXIT_CODES = """\
exit codes: 0 drained, or no error was found with --check; 1 failed: no such
module, an error in it or in its jobs, or a file that cannot be used; 2 wrong
usage; 130 ended by a second signal
"""


def add_worker(commands: "argparse._SubParsersAction[Parser]", run: Callable[[argparse.Namespace], int]) -> None:
    """Add the command to the parser of ``engine``; ``run`` is called with what it was given."""
    worker = commands.add_parser(
        "worker",
        help="run durable jobs",
        description=_ABOUT,
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    worker.set_defaults(run=run, parser=worker)
    worker.add_argument("target", metavar="MODULE:JOBS", help="such as app:jobs")
    worker.add_argument("--queues", metavar="A,B=N", type=_queues, action=_Once,
                        help="only these, of B at most N jobs at once; default: all of JOBS")  # fmt: skip
    worker.add_argument("--concurrency", metavar="N", type=positive, help="jobs at once; default: as many as can run")
    worker.add_argument("--processes", metavar="N", type=positive, help="worker processes; default: what we may use")
    worker.add_argument("--threads", metavar="N", type=positive, help="threads for blocking jobs")
    worker.add_argument("--drain", metavar="SECONDS", type=seconds, default=30.0,
                        help="that what runs has to end (%(default)g)")  # fmt: skip
    worker.add_argument("--name", metavar="NAME", help="how others see it: host:pid:NAME")
    worker.add_argument("--check", action="store_true", help="only say what is wrong with JOBS, and run nothing")
    worker.add_argument("--verbose", action="store_true", help="log each job as it begins and completes, too")


class _Once(argparse.Action):
    """Takes a value once: of two lists of queues the second would be served alone."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        if getattr(namespace, self.dest) is not None:
            parser.error(f"argument {option}: expected it once, with all that is meant, as {option} a,b=4")
        setattr(namespace, self.dest, values)


def _queues(text: str) -> dict[str, int | None]:
    """Read ``a,b=4`` as names, each with how many of its jobs may run at once."""
    queues: dict[str, int | None] = {}
    for part in map(str.strip, text.split(",")):
        name, sign, most = map(str.strip, part.rpartition("=")) if "=" in part else (part, "", "")
        if not name or name in queues or (sign and not _is_positive(most)):
            raise argparse.ArgumentTypeError(f"expected names of queues such as a,b=4, each once, got {text[:80]!r}")
        queues[name] = int(most) if sign else None
    return queues


def _is_positive(text: str) -> bool:
    return text.isascii() and text.isdecimal() and 0 < len(text) < 10 and int(text) > 0
