"""What every lane promises, as checks for whoever writes one: ours keep them in ``tests/contracts/test_lane.py``.

``check_lane(Lane.PROCESS, make)`` runs them all; ``CHECKS`` has each by its name, for a test of its own::

    @pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS.keys())
    def test_my_lane(check, tmp_path):
        asyncio.run(check(LaneKit(Lane.PROCESS, make), tmp_path))

The checks use real time, threads, processes and files, take some 5 s in all, and leave nothing.
"""

import asyncio
import inspect
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import ModuleType
from typing import Any

from .. import Engine, Lane
from ._lane import attempts, cancel_and_timeout, doors, ends, one_task
from ._lane.kit import LaneKit

__all__ = ["CHECKS", "Check", "LaneKit", "check_lane"]

Check = Callable[[LaneKit, Path], Coroutine[Any, Any, None]]

_LONGEST = 60.0  #: seconds for one check


def _checks_of(module: ModuleType) -> dict[str, Check]:
    """Return the public coroutine functions that ``module`` defines, as it does."""
    return {
        name: value
        for name, value in vars(module).items()
        if inspect.iscoroutinefunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    }


#: The promises, in the order in which they are checked: the name says what is promised. Each takes a ``LaneKit`` and an
#: empty folder.
CHECKS: dict[str, Check] = {
    name: check
    for module in (one_task, cancel_and_timeout, attempts, doors, ends)
    for name, check in _checks_of(module).items()
}


def check_lane(lane: Lane | str, make: Callable[..., Engine] = Engine) -> None:
    """Check every promise of ``lane`` in engines that ``make(**settings)`` gives, and say which it breaks.

    ``make`` takes the settings of ``Engine`` and returns an engine that has not started. No event loop may run here.

    Raises:
        ExceptionGroup: of one AssertionError for each promise that is broken.
        RuntimeError: Python runs without assertions (``-O``), so that nothing would be checked.
    """
    if not __debug__:
        raise RuntimeError(
            "expected Python to run with assertions, got -O, under which nothing is checked; leave it out"
        )
    kit = LaneKit(Lane(lane), make)
    broken = [error for name, check in CHECKS.items() if (error := _failure(name, check, kit)) is not None]
    if broken:
        raise ExceptionGroup(f"the {kit.lane.value} lane breaks {len(broken)} of its {len(CHECKS)} promises", broken)


def _failure(name: str, check: Check, kit: LaneKit) -> AssertionError | None:
    try:
        with tempfile.TemporaryDirectory(prefix="engine-lane-") as folder:
            asyncio.run(asyncio.wait_for(check(kit, Path(folder)), _LONGEST))
    except Exception as error:
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        failure = AssertionError(f"expected the {kit.lane.value} lane to keep {name.replace('_', ' ')!r}, got {what}")
        failure.__cause__ = error
        return failure
    return None
