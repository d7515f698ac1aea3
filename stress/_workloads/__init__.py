"""What ``python -m stress versus`` measures: one module for each kind of work, each with its figures."""

import importlib
from functools import cache

from stress._workloads.figure import Figure, Goal, Size

__all__ = ["FULL_SIZE", "Figure", "Goal", "Size", "figures"]

FULL_SIZE = Size()  #: what the promises speak of

_MODULES = ("floods", "trips", "maps", "arrays", "pending", "computing", "real", "jobs", "own")


@cache
def figures() -> dict[str, Figure]:
    """Return every figure by its name, in the order of the page."""
    found: dict[str, Figure] = {}
    for module in _MODULES:
        for figure in importlib.import_module(f"stress._workloads.{module}").FIGURES:
            found[figure.name] = figure
    return found
