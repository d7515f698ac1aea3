"""What all campaigns have in common: their arguments, what they print first and last, and their exit code."""

import argparse
import contextlib
import inspect
import io
import json
import logging
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from engine import Engine
from stress._belongings import OURS, Belongings, no_core_dumps
from stress._machine import machine

__all__ = ["PATIENCE", "add_common", "arguments", "backend", "campaign", "carry_out", "conclude", "percentile"]

PATIENCE = 30.0  #: seconds without progress after which what has no terminal state counts as hung


def arguments(name: str, text: str | None) -> argparse.ArgumentParser:
    """Return a parser that knows ``--seed``; ``text`` is the script's docstring."""
    parser = argparse.ArgumentParser(prog=f"python -m stress {name}", description=(text or "").split("\n")[0])
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="what to draw from")
    return parser


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add ``--patience``, and ``--backend``: what starts and feeds worker processes."""
    parser.add_argument(
        "--patience", type=float, default=PATIENCE, help=f"seconds without progress that count as hung ({PATIENCE:g})"
    )
    parser.add_argument("--backend", choices=("native", "loky"), default="native", help="of the process lane")


def backend(name: str) -> dict[str, Any]:
    """Return the option of ``Engine`` for ``--backend``.

    Raises:
        SystemExit: this engine knows no such thing.
    """
    if "process_backend" in inspect.signature(Engine).parameters:
        return {"process_backend": name}
    if name != "native":
        raise SystemExit(f"expected an Engine with process_backend for --backend {name}, got one without")
    return {}


class _Sink(io.StringIO):
    """A stderr for what dying workers say: hundreds of traces; the last are kept."""

    def write(self, text: str, /) -> int:
        if self.tell() > 1 << 20:
            self.seek(0)
            self.truncate()
        return super().write(text)


@contextlib.contextmanager
def campaign(seed: int) -> Iterator[str]:
    """Print the machine and the seed, be quiet, and give a folder of one's own, which is removed at the end.

    Temporary files of anybody else in this process go to another one, so that what is left there can be seen.
    """
    print(f"machine {json.dumps(machine())}\nseed {seed}", flush=True)
    log = logging.getLogger("engine")
    level, folder = log.level, tempfile.tempdir
    log.setLevel(logging.CRITICAL)  # crashes and failures are what this is about
    with tempfile.TemporaryDirectory(prefix="stress-") as own, tempfile.TemporaryDirectory(prefix=OURS) as others:
        said = _Sink()
        try:
            tempfile.tempdir = others
            with no_core_dumps(), contextlib.redirect_stderr(said):
                yield own
        except BaseException:
            print(said.getvalue()[-4000:], file=sys.stderr)
            raise
        finally:
            tempfile.tempdir = folder
            log.setLevel(level)


def carry_out(name: str, seed: int, run: Callable[[str], dict[str, Any]], *, counts: str, noun: str) -> int:
    """Run a campaign in a folder of its own, look for what it left, conclude; ``counts`` is the key of its trials."""
    with campaign(seed) as folder:
        before = Belongings()
        result = run(folder)
        result["left"] = before.left()
    result["ok"] = result["ok"] and not result["left"]
    return conclude(name, {"seed": seed, **result}, result[counts], noun)


def conclude(name: str, result: dict[str, Any], trials: int, noun: str = "tasks") -> int:
    """Print the verdict, then the result as the last line; return the exit code."""
    if result["ok"]:
        print(f"ok: 0 faults in {trials} {noun}; so less than {3 / max(trials, 1):.1e} of them, with 95 % confidence")
    else:
        wrong = {key: result[key] for key in ("faults", "left", "stuck", "errors") if result.get(key)}
        print(f"FAULTS: {wrong}", file=sys.stderr, flush=True)
    print(json.dumps({"script": name, **result}), flush=True)
    return 0 if result["ok"] else 1


def percentile(values: list[float], share: float) -> float | None:
    """Return the value below which ``share`` of ``values`` lie; None of none."""
    if not values:
        return None
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]
