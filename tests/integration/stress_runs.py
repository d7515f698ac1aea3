"""Runs stress scripts as a user does, with the engine that the tests see."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import engine
from tests.support import REPOSITORY

__all__ = ["a_seed", "result_of", "run_module", "run_stress"]


def run_module(module: str, *arguments: str, prefix: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """Run ``python -m module``, after the words of ``prefix``, with the engine that this test sees."""
    assert engine.__file__ is not None
    where = [str(Path(engine.__file__).parents[1]), str(REPOSITORY)]
    path = os.pathsep.join([*where, *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [*prefix, sys.executable, "-m", module, *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def run_stress(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m stress``."""
    return run_module("stress", *arguments)


def result_of(run: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return what a script says in its last line."""
    lines = run.stdout.splitlines()
    assert lines, run.stderr
    result: dict[str, Any] = json.loads(lines[-1])
    return result


def a_seed() -> str:
    """Draw a seed and print it; ``ENGINE_SEED`` gives it again."""
    seed = os.environ.get("ENGINE_SEED") or str(random.randrange(2**32))
    print(f"ENGINE_SEED={seed}")
    return seed
