"""The process lane over loky: the same lane, with one ``loky.ProcessPoolExecutor(max_workers=1)`` per worker.

Who gets which task, when workers start, rest and leave, what becomes of a dead one's task, interrupts and kills: all
that is ``ProcessLane``'s. Only the worker and the one who listens to it are others. design/0006-portable-backend.md.
"""

from ._portable.exits import end_first
from ._portable.keeper import Keeper
from ._portable.starter import LokyStarter
from .processes import ProcessLane

__all__ = ["PortableLane", "end_first"]


class PortableLane(ProcessLane):
    """Runs attempts in loky's processes; see ``_lanes.base.Lane`` for the contract."""

    takes_chunks = False
    starter = LokyStarter
    listener = Keeper
