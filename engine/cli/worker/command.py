"""``engine worker``: from what was typed to a worker that runs."""

import argparse
import asyncio
import contextlib
import logging
import os
import sys

from engine import EngineError
from engine.jobs import Jobs

from .. import silence
from ..jobs.target import is_module, load_jobs, say_module
from ..refusals import Failed, Refused
from ..units import count
from .check import check, in_memory, print_findings
from .logs import log_each_job, log_to_stderr
from .service import Service, Settings

__all__ = ["run_worker"]

_LAST_SECONDS = 1.0  #: that what is left on the loop has to end


def run_worker(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit code.

    Raises:
        Refused: it cannot be done.
    """
    target = arguments.target
    if not is_module(target):
        raise Refused(f"expected MODULE:JOBS such as app:jobs, got {target!r}{say_module(target)}")
    jobs = load_jobs(target)
    log_to_stderr(verbose=arguments.verbose)
    if arguments.verbose:
        log_each_job(jobs)
    try:
        return check(jobs, arguments.queues) if arguments.check else _run(jobs, arguments)
    except EngineError as error:
        raise Failed(f"{type(error).__name__}: {error}") from error
    finally:
        jobs.close()


def _run(jobs: Jobs, arguments: argparse.Namespace) -> int:
    if errors := [finding for finding in jobs.check() if finding.level == "error"]:  # of warnings the worker tells
        print_findings(errors)
        raise Failed(f"expected {arguments.target} to be in order, got the errors above; nothing was run")
    print_findings(in_memory(jobs))
    code = asyncio.run(_serve(jobs, arguments))
    _flush()
    return code


async def _serve(jobs: Jobs, arguments: argparse.Namespace) -> int:
    settings = Settings(
        queues=arguments.queues, concurrency=arguments.concurrency, processes=arguments.processes,
        threads=arguments.threads, drain=arguments.drain, name=arguments.name,
    )  # fmt: skip
    code = await Service(jobs, settings, _tell, _leave).run()
    if left := await _tasks_left():
        with contextlib.suppress(OSError):
            _tell(f"{count(left, 'coroutine')} will not end, and {'is' if left == 1 else 'are'} left behind")
        jobs.close()
        _leave(code)
    return code


async def _tasks_left() -> int:
    """Cancel what still runs on this loop, and return how much of it does not end: asyncio would wait for ever."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    return len((await asyncio.wait(others, timeout=_LAST_SECONDS))[1]) if others else 0


def _leave(code: int) -> None:
    """End this process, whatever runs: what it holds is rescued by others."""
    logging.shutdown()
    _flush()
    os._exit(code)


def _flush() -> None:
    """Write out what was told; what nobody reads any more, or no disk takes, is dropped, and changes no exit code."""
    try:
        sys.stdout.flush()
    except OSError:
        silence(sys.stdout)


def _tell(line: str) -> None:
    print(line, flush=True)
