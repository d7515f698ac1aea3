"""What ``engine jobs`` understands."""

import argparse
from collections.abc import Callable

from ..arguments import Parser, duration, positive
from .schema import SCHEMA

__all__ = ["add_jobs"]

_TARGET = "a file of jobs, or MODULE:JOBS for the Jobs in a module"
_STATES = ("pending", "running", "completed", "failed", "cancelled")
_ENDED = ("completed", "failed", "cancelled")

_ABOUT = """\
Look at durable jobs and steer them. A FILE is enough: nothing of the program
that enqueues or runs its jobs is needed, and nothing of it is imported. Workers
may run meanwhile. Nothing here makes a file that is not there.

  engine jobs stats jobs.db
  engine jobs list jobs.db --state failed --limit 5
  engine jobs show jobs.db 17
  engine jobs requeue jobs.db --state failed --name app.send
  engine jobs prune jobs.db --older-than 7d --state completed
  engine jobs backup jobs.db copy.db
"""

_EXIT_CODES = "exit codes: 0 done; 1 failed, also in part; 2 wrong usage; 130 Ctrl-C"


def add_jobs(commands: "argparse._SubParsersAction[Parser]", run: Callable[[argparse.Namespace], int]) -> None:
    """Add the command to the parser of ``engine``; ``run`` is called with what it was given."""
    jobs = commands.add_parser(
        "jobs",
        help="look at durable jobs and steer them",
        description=_ABOUT,
        epilog=f"{SCHEMA}\n{_EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    jobs.set_defaults(parser=jobs)
    jobs.add_argument("--json", action="store_true", help="print JSON, a line each; also behind COMMAND")
    actions = jobs.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)
    _add_list(_action(actions, run, "list", "list jobs, the newest first"))
    show = _action(actions, run, "show", "print all that is known of one job")
    show.add_argument("id", metavar="ID", type=positive)
    _add_chosen(_action(actions, run, "cancel", "cancel jobs that wait, and ask for those that run"), _STATES[:2],
                "pending and running")  # fmt: skip
    _add_chosen(_action(actions, run, "requeue", "have jobs that ended run anew"), _ENDED, "failed")
    _action(actions, run, "stats", "count the jobs in each queue, and who holds some")
    for name, text in (("pause", "have workers claim nothing from a queue"), ("resume", "have them claim again")):
        _action(actions, run, name, text).add_argument("queues", metavar="QUEUE", nargs="+")
    prune = _action(actions, run, "prune", "delete jobs that ended long ago")
    prune.add_argument("--older-than", metavar="TIME", type=duration, required=True,
                       help="those that ended longer ago than this: 90s, 15m, 6h, 7d")  # fmt: skip
    _add_states(prune, _ENDED, "all that have ended")
    backup = _action(actions, run, "backup", "copy the file while others use it; the copy has no unused room")
    backup.add_argument("copy", metavar="COPY", help="a path where nothing is")


def _action(
    actions: "argparse._SubParsersAction[Parser]", run: Callable[[argparse.Namespace], int], name: str, text: str
) -> Parser:
    parser = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=_EXIT_CODES)
    parser.set_defaults(run=run, parser=parser, action=name)
    parser.add_argument("target", metavar="FILE", help=_TARGET)
    parser.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS,  # so that it does not take back one before COMMAND
        help="print JSON, a line each; see: engine jobs --help",
    )  # fmt: skip
    return parser


def _add_list(parser: Parser) -> None:
    _add_states(parser, _STATES, "all")
    _add_filter(parser)
    parser.add_argument("--limit", metavar="N", type=positive, default=20, help="at most so many (%(default)s)")
    parser.add_argument("--before", metavar="ID", type=positive, help="only jobs older than this one: the next page")


def _add_chosen(parser: Parser, states: tuple[str, ...], default: str) -> None:
    parser.add_argument("ids", metavar="ID", nargs="*", type=positive)
    parser.late = "ids"
    _add_states(parser, states, default)
    _add_filter(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask whether so many are meant")


def _add_states(parser: Parser, states: tuple[str, ...], default: str) -> None:
    parser.add_argument("--state", action="append", choices=states, default=[],
                        help=f"jobs in this state; may be given again (default: {default})")  # fmt: skip


def _add_filter(parser: Parser) -> None:
    parser.add_argument("--queue", metavar="QUEUE", action="append", default=[], help="of this queue; or again")
    parser.add_argument(
        "--name", metavar="NAME", action="append", default=[], help="of the task of this name; or again"
    )
