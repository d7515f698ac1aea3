"""``expected.toml``: which of CPython's tests do not apply, and why."""

import tomllib
from pathlib import Path

from tests.compat.children import Result

__all__ = ["PATH", "complaint", "read"]

PATH = Path(__file__).with_name("expected.toml")


def read(path: Path = PATH) -> dict[str, dict[str, str]]:
    """Return test and reason of each suite; a reason is one line."""
    found = tomllib.loads(path.read_text(encoding="utf-8"))
    return {
        suite: {name: " ".join(reason.split()) for name, reason in reasons.items()} for suite, reasons in found.items()
    }


def complaint(result: Result, reason: str | None) -> str:
    """Say what is wrong with the result of a test with that reason not to apply; empty if nothing is."""
    if reason is None:
        if result.outcome == "passed":
            return ""
        if result.outcome == "skipped":
            return f"expected the test to pass, or its reason to be in {PATH.name}; it was skipped: {result.details}"
        return result.details
    if result.outcome == "passed":
        return f"expected the test not to apply, got a pass; take it out of {PATH.name}, where it says: {reason}"
    return ""
