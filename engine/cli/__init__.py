"""The command line: ``engine demo``, ``doctor``, ``worker`` and ``jobs``, also as ``python -m engine``.

This module stays small: worker processes import it on their way to ``engine.cli.metrics``.
"""

import contextlib
import errno
import os
import sys
from collections.abc import Sequence
from typing import TextIO

__all__ = ["INTERRUPTED", "PIPE_CLOSED", "main", "silence"]

INTERRUPTED = 130  #: 128 + SIGINT, as shells count
PIPE_CLOSED = 141  #: 128 + SIGPIPE
#: What writing to an open stream may meet; our own files are named in their errors, and caught where they are written.
_CANNOT_WRITE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 wrong usage, 130 Ctrl-C, 141 reader gone."""
    if sys.stdout is None or sys.stderr is None:  # started with them closed: nobody reads, and nothing may break
        nowhere = open(os.devnull, "w")  # noqa: SIM115 - open until the process ends, in the place of stdout
        sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere
    try:
        from .parser import run_command

        code = run_command(argv)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `| head` has seen enough
        silence(sys.stdout)
        return PIPE_CLOSED
    except OSError as error:
        if error.errno not in _CANNOT_WRITE or error.filename is not None:
            raise
        silence(sys.stdout)
        try:
            print(f"engine: cannot write the output: {error.strerror}", file=sys.stderr)
        except OSError:  # it goes to the same full disk
            silence(sys.stderr)
        return 1


def silence(stream: TextIO) -> None:
    """Send what ``stream`` still holds to nowhere: the flush at exit would raise once more."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
