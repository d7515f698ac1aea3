"""The child that runs CPython's tests: it reads a name from each line of its input and answers with a line of JSON.

One test runs at a time. It fails too if it leaves something behind, or if an error is raised where nobody sees it.
"""

import faulthandler
import gc
import json
import os
import sys
import threading
import time
import traceback
import unittest
from types import TracebackType
from typing import Any, TypeAlias

from tests.compat import adapter
from tests.support import LEAK_PATIENCE, Leftovers

__all__ = ["LIMIT", "main"]

LIMIT = 60.0  #: seconds for one test; then every thread's stack is written to stderr, and the child ends
PACKAGE = "test.test_concurrent_futures"

ExceptionInfo: TypeAlias = (
    tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]  # what unittest hands over
)


class Outcome(unittest.TestResult):
    """What one test did: passed, failed or skipped, and the details."""

    def __init__(self) -> None:
        super().__init__()
        self.details: list[str] = []

    def addError(self, test: unittest.TestCase, err: ExceptionInfo) -> None:
        self._note(err)

    def addFailure(self, test: unittest.TestCase, err: ExceptionInfo) -> None:
        self._note(err)

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: ExceptionInfo | None) -> None:
        if err is not None:
            self._note(err)

    def _note(self, err: ExceptionInfo) -> None:
        self.details.append("".join(traceback.format_exception(*err)))


def run(name: str) -> dict[str, Any]:
    """Run one test and return its outcome."""
    outcome, begun = Outcome(), time.monotonic()
    sys.unraisablehook = lambda unraisable: outcome._note(
        (unraisable.exc_type, unraisable.exc_value, unraisable.exc_traceback)  # type: ignore[arg-type]  # never None
    )
    threading.excepthook = lambda raised: outcome._note(
        (raised.exc_type, raised.exc_value, raised.exc_traceback)  # type: ignore[arg-type]  # as above
    )
    leftovers = Leftovers()
    faulthandler.dump_traceback_later(LIMIT, exit=True)
    unittest.defaultTestLoader.loadTestsFromName(f"{PACKAGE}.{name}").run(outcome)
    gc.collect()
    outcome.details += [f"the test left behind: {left}" for left in leftovers.names(LEAK_PATIENCE)]
    faulthandler.cancel_dump_traceback_later()
    sys.stdout.flush()  # what it said is read when it has failed
    skipped = "; ".join(reason for _, reason in outcome.skipped)
    return {
        "name": name,
        "outcome": "failed" if outcome.details else "skipped" if skipped else "passed",
        "details": "\n".join(outcome.details) or skipped,
        "seconds": round(time.monotonic() - begun, 3),
    }


def main() -> None:
    """Run what is asked for until the input ends, or list the tests of each suite."""
    adapter.install()
    if sys.argv[1:] == ["--list"]:
        print(json.dumps({suite: adapter.names(suite) for suite in adapter.SUITES}))
        return
    with os.fdopen(int(sys.argv[1]), "w", buffering=1) as answers:
        for line in sys.stdin:
            print(json.dumps(run(line.strip())), file=answers)
