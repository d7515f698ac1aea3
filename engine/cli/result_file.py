"""The file that ``--json`` names: checked before the work, written in one step after it."""

import contextlib
import json
import os
import shutil
import stat
from typing import Any

__all__ = ["SCHEMA", "ResultFile"]

#: What is in the file; ``engine demo --help`` shows it.
SCHEMA = """\
the JSON file (times in seconds, sizes in bytes, paths relative to root):
  format            1; a change that breaks readers raises it
  engine, python    versions
  root              the directory below which the files were found
  interrupted       true after Ctrl-C: then it holds what was done by then
  elapsed_seconds   by the clock on the wall, finding the files included
  found             number of .py files
  totals            files, failures, size_bytes, lines, functions, branches
  files             a list, one for each measured file, of {path, size_bytes,
                    lines, functions, branches, compression, longest}; longest
                    is {name, line, lines} or null, compression is the size
                    divided by the size compressed with zlib
  failures          a list of {path, kind, reason}; kind is "unreadable",
                    "too large", "not UTF-8", "unparsable", "timed out" or
                    "crashed"
  lanes             for each of "thread", "process" and "loop": {slots, tasks,
                    failed, run_seconds, wait_seconds, busy}; busy is
                    run_seconds / (slots * elapsed_seconds)
  comparison        {files, size_bytes, sequential_seconds, engine_seconds,
                    processes, load, processors, speed_up}, or null where
                    none was made; load is the machine's before the start
  jobs              {file, left, rescued, repeated} with --jobs, else null
"""


class ResultFile:
    """A JSON file at ``path``. A regular file is replaced at once or not at all; a device or pipe is written to.

    What lies below /dev or /proc is never replaced: /dev/stdout may well be a regular file that holds the tables.
    """

    def __init__(self, path: str) -> None:
        self._is_special = _is_special(path)
        self._path = path if self._is_special else os.path.realpath(path)  # a link stays, what it points to is replaced
        self._partial = f"{self._path}.{os.getpid()}.tmp"

    def check(self) -> None:
        """Find out whether it can be written.

        Raises:
            OSError: it cannot.
        """
        if os.path.isdir(self._path):
            raise IsADirectoryError(21, "Is a directory", self._path)
        if self._is_special:
            return
        open(self._partial, "x").close()
        os.unlink(self._partial)

    def write(self, content: dict[str, Any]) -> None:
        """Write ``content``.

        Raises:
            OSError: it could not be written; what was there before is still there.
        """
        text = json.dumps(content, indent=1, allow_nan=False) + "\n"  # ASCII: broken bytes in names become escapes
        if self._is_special:
            with open(self._path, "a", encoding="ascii") as file:
                file.write(text)
            return
        try:
            with open(self._partial, "x", encoding="ascii") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            if os.path.exists(self._path):
                shutil.copymode(self._path, self._partial)
            os.replace(self._partial, self._path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(self._partial)
            raise


def _is_special(path: str) -> bool:
    """Say whether there is something that must not be replaced."""
    try:
        regular = stat.S_ISREG(os.stat(path).st_mode)
    except OSError:  # nothing is there; or nothing can be, and creating it will say so
        return False
    return not regular or os.path.abspath(path).startswith(("/dev/", "/proc/"))
