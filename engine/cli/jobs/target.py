"""What a command works on: a file of jobs by its path, or the Jobs of a module."""

import contextlib
import importlib
import os
import re
import shlex
import sys
from collections.abc import Iterator
from types import TracebackType

from engine.jobs import Jobs

from ..refusals import Failed

__all__ = ["is_module", "jobs_at", "load_jobs", "opened", "say_module"]

_NAMES_AN_OBJECT = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


@contextlib.contextmanager
def opened(target: str) -> Iterator[Jobs]:
    """Give the jobs that ``target`` names; close them at the end.

    A path works on the file alone: nothing of whoever enqueues or runs its jobs is imported.

    Raises:
        Failed: there is no such file, or no such Jobs.
    """
    jobs = load_jobs(target) if is_module(target) else _jobs_at(target)
    try:
        yield jobs
    finally:
        jobs.close()


def is_module(target: str) -> bool:
    """Say whether ``target`` has the form MODULE:JOBS, and is not the name of a file that is there."""
    return _NAMES_AN_OBJECT.fullmatch(target) is not None and not os.path.lexists(target)


def _jobs_at(path: str) -> Jobs:
    try:
        is_empty = os.stat(path).st_size == 0 and os.path.isfile(path)
    except (OSError, ValueError) as error:  # ValueError: a null character
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise Failed(f"expected a file of jobs, or MODULE:JOBS, got {path!r}: {why}") from None
    if is_empty:  # a store would make one of it
        raise Failed(f"expected a file of jobs, got {path!r}, which is empty")
    return jobs_at(path)


def jobs_at(path: str) -> Jobs:
    """Return the Jobs of a file, which its first use makes if it is not there.

    Raises:
        Failed: what that needs is not installed, or there is no such directory.
    """
    try:
        jobs = Jobs(path)
    except ImportError as error:
        raise Failed(str(error)) from error
    directory = os.path.dirname(os.path.abspath(path))
    if not os.path.exists(directory):
        raise Failed(
            f"expected the directory {directory} to exist, got none; make it: mkdir -p {shlex.quote(directory)}"
        )
    return jobs


def load_jobs(target: str) -> Jobs:
    """Import the module in ``target`` and return the Jobs in it.

    The current directory comes first on ``sys.path``, as with ``python -m``.

    Raises:
        Failed: there is no such module, it raises, has nothing of that name, or something that is no Jobs.
    """
    module_name, _, attribute = target.partition(":")
    if os.path.isfile(module_name):  # a name as app.py has the form of a module's
        raise Failed(f"expected MODULE:JOBS, got {target!r}, the path of a file{say_module(target)}")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    found: object = _import(module_name)
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise Failed(
                f"expected {module_name} to have {attribute}, got nothing of that name{_others(found)}"
            ) from None
    if not isinstance(found, Jobs):
        module = sys.modules.get(module_name)
        raise Failed(f"expected {target} to be a Jobs, got {type(found).__name__}{_others(module)}")
    return found


def say_module(target: str) -> str:
    """Return, for the path of a module's file, what to type in its place, with a semicolon before it; else nothing."""
    path, _, name = target.partition(":")
    meant = f"{os.path.normpath(path).removesuffix('.py').replace(os.sep, '.')}:{name or 'jobs'}"
    is_path = path.endswith(".py") or os.sep in path
    return f"; say {meant}" if is_path and _NAMES_AN_OBJECT.fullmatch(meant) else ""


def _import(name: str) -> object:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise _broken(name, error) from None  # the module is there, and what it imports is not
        raise Failed(
            f"expected a module called {name}, got none called {error.name} in {os.getcwd()} or on the path of "
            f"{sys.executable}"
        ) from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # it may well exit, too
        raise _broken(name, error) from None


def _broken(name: str, error: BaseException) -> Failed:
    """Return what is said where the module itself raised ``error``: its traceback begins in that module."""
    begins = error.__traceback__
    while begins is not None and (begins.tb_frame.f_code.co_filename in _OURS or _is_importlib(begins)):
        begins = begins.tb_next
    return Failed(
        f"expected {name} to import, got the {type(error).__name__} above", because=error.with_traceback(begins)
    )


_OURS = frozenset({__file__, importlib.__file__})


def _is_importlib(traceback: TracebackType) -> bool:
    return traceback.tb_frame.f_code.co_filename.startswith("<frozen importlib")


def _others(module: object) -> str:
    names = sorted(name for name, value in getattr(module, "__dict__", {}).items() if isinstance(value, Jobs))
    return f"; its Jobs are called {', '.join(names)}" if names else ""
