"""What the command line understands, and which function runs each command."""

import argparse
import sys
from collections.abc import Sequence

from engine import __version__

from .arguments import Parser, not_negative, positive
from .jobs.parser import add_jobs
from .refusals import obeyed
from .worker.parser import add_worker

__all__ = ["build_parser", "run_command"]

_DEMO = """\
Measure every .py file below PATH: read in threads, parse with ast in worker
processes, merge on the event loop, and hold no more than a bounded number of
files in memory. Shows the progress, the top files, how busy each lane was, and
the measured speed-up over doing the same one file after another.

Files that cannot be read, are not UTF-8 or cannot be parsed are counted and
listed. Links to directories are not followed. Ctrl-C shows what was done by
then.

With --jobs FILE each file is a durable job in that file of SQLite, and there is
no --sample. Kill it, with kill -9 too, and run it again with the same FILE: it
goes on with what is left. Look at the jobs with: engine jobs stats FILE
"""

_EXIT_CODES = """\
exit codes: 0 done; 1 failed; 2 wrong usage; 130 Ctrl-C
"""


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the ``engine`` command."""
    parser = Parser(
        prog="engine",
        description="One awaitable API in front of event loop, threads and worker processes.",
        epilog="try: engine demo",
    )
    parser.add_argument("--version", action="version", version=f"engine {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)
    _add_demo(commands)
    _add_doctor(commands)
    add_worker(commands, _run_worker)
    add_jobs(commands, _run_jobs)
    return parser


def _add_demo(commands: "argparse._SubParsersAction[Parser]") -> None:
    from .result_file import SCHEMA
    from .totals import ORDERS

    demo = commands.add_parser(
        "demo",
        help="measure a tree of Python files in all three lanes",
        description=_DEMO,
        epilog=f"{SCHEMA}\n{_EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    demo.set_defaults(run=_run_demo, parser=demo)
    demo.add_argument("path", metavar="PATH", nargs="?", help="directory or .py file; default: Python's own library")
    demo.add_argument("--by", choices=sorted(ORDERS), default="branches", help="order of the top files (%(default)s)")
    demo.add_argument("--top", metavar="N", type=positive, default=10, help="how many files to show (%(default)s)")
    demo.add_argument("--limit", metavar="N", type=positive, help="measure the first N files only")
    demo.add_argument("--processes", metavar="N", type=positive, help="worker processes; default: what we may use")
    demo.add_argument(
        "--sample", metavar="N", type=not_negative,
        help="measure the speed-up on at most N files, 0 for not at all (300); not with --jobs",
    )  # fmt: skip
    demo.add_argument("--json", metavar="FILE", help="write the result to FILE; see below")
    demo.add_argument("--jobs", metavar="FILE", help="do it as durable jobs in FILE; see above")


def _add_doctor(commands: "argparse._SubParsersAction[Parser]") -> None:
    doctor = commands.add_parser(
        "doctor",
        help="print what this machine offers the engine and what it lacks",
        description="Print what this machine offers the engine and what it lacks, with a remedy for each lack.",
        epilog="exit codes: 0 all that is needed is there; 1 something needed is missing; 2 wrong usage",
    )
    doctor.set_defaults(run=_run_doctor, parser=doctor)
    doctor.add_argument("--json", action="store_true", help="print JSON: {ok, engine, findings: [...]}")


def run_command(argv: Sequence[str] | None) -> int:
    """Run the command that ``argv`` names; return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a file name may hold what the terminal cannot show
    parser = build_parser()
    try:
        arguments, unknown = parser.parse_known_args(argv)
        if unknown:
            getattr(arguments, "parser", parser).error(f"unrecognized arguments: {' '.join(unknown)}")
    except SystemExit as leaving:  # --help, --version and wrong usage end here
        return int(leaving.code or 0)
    if not hasattr(arguments, "run"):
        getattr(arguments, "parser", parser).print_help(sys.stderr)
        return 2
    code: int = arguments.run(arguments)
    return code


def _run_demo(arguments: argparse.Namespace) -> int:
    from .demo import run_demo  # with the engine, which --help does not need

    return obeyed("engine demo", lambda: run_demo(arguments))


def _run_doctor(arguments: argparse.Namespace) -> int:
    from .doctor import run_doctor

    return run_doctor(as_json=arguments.json)


def _run_jobs(arguments: argparse.Namespace) -> int:
    from .jobs.command import run_jobs

    return obeyed(f"engine jobs {arguments.action}", lambda: run_jobs(arguments))


def _run_worker(arguments: argparse.Namespace) -> int:
    from .worker.command import run_worker

    return obeyed("engine worker", lambda: run_worker(arguments))
