"""For tests of code that uses the engine: an engine of one thread in virtual time, leaks, the contract of a lane.

The fixtures are in ``engine.testing.plugin``, which needs pytest; the rest does not. Names are found when they are
first used (PEP 562).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .._inline.clock import VirtualClock as VirtualClock
    from .._inline.engine import InlineEngine as InlineEngine
    from .._inline.loop import VirtualLoop as VirtualLoop
    from .lane_contract import CHECKS as CHECKS
    from .lane_contract import LaneKit as LaneKit
    from .lane_contract import check_lane as check_lane
    from .leaks import assert_no_leaks as assert_no_leaks
    from .waiting import eventually as eventually
    from .waiting import eventually_async as eventually_async

_HOMES = {
    "CHECKS": "engine.testing.lane_contract",
    "InlineEngine": "engine._inline.engine",
    "LaneKit": "engine.testing.lane_contract",
    "VirtualClock": "engine._inline.clock",
    "VirtualLoop": "engine._inline.loop",
    "assert_no_leaks": "engine.testing.leaks",
    "check_lane": "engine.testing.lane_contract",
    "eventually": "engine.testing.waiting",
    "eventually_async": "engine.testing.waiting",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'engine.testing' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
