"""What each job of the demo does: read and measure one file, in a worker process.

Arguments and results are JSON. A path may hold bytes that are no text; it travels as ``text_of_path`` says.
"""

import os
from typing import Any

from ..metrics import Failure, Metrics, measure
from ..sources import read_source
from ..units import plain

__all__ = ["TASK", "measure_file", "outcome_of", "path_of", "text_of_path"]

TASK = "engine.demo.measure"  #: the name in the rows

_BYTES = "bytes:"  #: before a path that is no text; no path below a root begins with it and is one


def measure_file(root: str, path: str) -> dict[str, Any]:
    """Return the measures of one file, or why there are none, without its path: that is in the arguments."""
    source = read_source(root, path_of(path))
    outcome = measure(source) if isinstance(source, tuple) else source
    rest: dict[str, Any] = {name: value for name, value in outcome.items() if name != "path"}
    if "reason" in rest:
        rest["reason"] = plain(rest["reason"])  # a parser may quote what JSON cannot carry
    return rest


def outcome_of(path: str, result: dict[str, Any]) -> Metrics | Failure:
    """Return the outcome for the file at ``path`` (as in the arguments) that ``measure_file`` gave."""
    return {"path": path_of(path), **result}  # type: ignore[return-value]  # it is one of the two


def text_of_path(path: str) -> str:
    """Return ``path`` as JSON can carry it."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return _BYTES + os.fsencode(path).hex()
    return path if not path.startswith(_BYTES) else _BYTES + os.fsencode(path).hex()


def path_of(text: str) -> str:
    """Return the path that ``text_of_path`` made ``text`` of."""
    return os.fsdecode(bytes.fromhex(text.removeprefix(_BYTES))) if text.startswith(_BYTES) else text
