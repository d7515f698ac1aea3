"""Finding and reading source files: the blocking steps of ``engine demo``, run in threads.

Paths are relative to the root, and so they appear in the tables and in ``--json``.
"""

import os
import stat
from collections.abc import Iterator

from engine import checkpoint

from .metrics import Failure, failure

__all__ = ["LARGEST_BYTES", "find_sources", "read_source"]

LARGEST_BYTES = 8_000_000  #: a file's syntax tree takes some hundred times its size


def find_sources(root: str, skipped: frozenset[str] = frozenset()) -> tuple[list[str], list[Failure]]:
    """Return the paths of all .py files below ``root`` in order, and the directories that could not be listed.

    A link to a file counts as a file. A link to a directory is not followed, so that no loop is ever entered.
    Directories named in ``skipped`` are left out. A cancelled task ends between two directories.
    """
    paths: list[str] = []
    failures: list[Failure] = []
    directories = [""]
    while directories:
        checkpoint()
        directory = directories.pop()
        try:
            entries = sorted(os.scandir(os.path.join(root, directory)), key=lambda entry: entry.name)
        except OSError as error:
            failures.append(failure(directory or ".", "unreadable", f"directory: {error.strerror}"))
            continue
        paths += (os.path.join(directory, entry.name) for entry in entries if _is_source(entry))
        directories += reversed(list(_below(directory, entries, skipped)))
    return sorted(paths), failures


def _is_source(entry: os.DirEntry[str]) -> bool:
    """Say whether ``entry`` is called like a source file and is no directory; what it is else, reading will tell."""
    return entry.name.endswith(".py") and not _is_directory(entry, follow=True)


def _below(directory: str, entries: list[os.DirEntry[str]], skipped: frozenset[str]) -> Iterator[str]:
    for entry in entries:
        if entry.name not in skipped and _is_directory(entry, follow=False):
            yield os.path.join(directory, entry.name)


def _is_directory(entry: os.DirEntry[str], *, follow: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow)
    except OSError:  # a loop of links, or a file system that does not answer: reading it will say so
        return False


def read_source(root: str, path: str) -> tuple[str, bytes] | Failure:
    """Return the path and content of one file. Whatever is wrong with it is a Failure; nothing else comes out."""
    full = os.path.join(root, path)
    try:
        if not stat.S_ISREG(os.stat(full).st_mode):
            return failure(path, "unreadable", "not a regular file")  # a pipe, say: opening it would wait for ever
        with open(full, "rb", opener=_open_at_once) as file:
            data = file.read(LARGEST_BYTES + 1)
            total = os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        return failure(path, "unreadable", "dangling link" if os.path.islink(full) else "gone since it was listed")
    except OSError as error:
        return failure(path, "unreadable", error.strerror or str(error))
    if len(data) > LARGEST_BYTES:
        return failure(path, "too large", f"{total:,} bytes, expected at most {LARGEST_BYTES:,}")
    return path, data


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # it may have become a pipe since we looked
