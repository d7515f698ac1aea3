"""The contract of ``engine.testing.lane_contract`` for our three lanes, the process lane on both backends.

SCENARIOS W4, N1, A2, A5, A6, A8, A9, A12, R3.
"""

import functools
from pathlib import Path

import pytest

from engine import Engine, Lane
from engine.testing.lane_contract import CHECKS, LaneKit

KITS = {
    "loop": LaneKit(Lane.LOOP),
    "thread": LaneKit(Lane.THREAD),
    "process": LaneKit(Lane.PROCESS, functools.partial(Engine, process_backend="native")),
    "loky": LaneKit(Lane.PROCESS, functools.partial(Engine, process_backend="loky")),
}


@pytest.mark.parametrize("kit", KITS.values(), ids=KITS.keys())
@pytest.mark.parametrize("promise", CHECKS)
async def test_the_lane_keeps(promise: str, kit: LaneKit, tmp_path: Path) -> None:
    """W4, W22, N1, A2, A5, A6, A8, A9, A12, R3: what a task of any lane may rely on."""
    await CHECKS[promise](kit, tmp_path)
