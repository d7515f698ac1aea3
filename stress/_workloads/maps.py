"""Maps of a function that does nothing over very many small numbers, as they are and with chunks chosen by hand."""

import time

from stress._peers.contract import Peer
from stress._workloads.figure import PROCESSES, Figure, Goal, Size
from stress._workloads.floods import nothing

__all__ = ["FIGURES"]

_CHUNKS = (1_000, 10_000, 50_000)  #: tried by hand; the best counts


async def map_default(peer: Peer, size: Size) -> float:
    """Items per second with the settings that everybody starts with; competitors get fewer items."""
    items = range(size.many if peer.name == "engine" else size.tasks)
    await peer.start(size.workers)
    await peer.map_default(nothing, range(100))
    begun = time.perf_counter()
    count = await peer.map_default(nothing, items)
    took = time.perf_counter() - begun
    assert count == len(items)
    await peer.close()
    return count / took


async def map_tuned(peer: Peer, size: Size) -> float:
    """Items per second with the best of a few chunk sizes; the engine has its default settings, and as many turns."""
    items = range(size.many)
    await peer.start(size.workers)
    await peer.map_tuned(nothing, range(100), 10)
    best = 0.0
    for chunk in _CHUNKS:
        begun = time.perf_counter()
        count = await peer.map_tuned(nothing, items, chunk)
        best = max(best, count / (time.perf_counter() - begun))
        assert count == len(items)
    await peer.close()
    return best


_PEERS = tuple(name for name in PROCESSES if name != "anyio")

FIGURES = (
    Figure(
        "map-tuned",
        "`map` over {many:,} small ints; the peers with the best chunk size, the engine as it is",
        "/s",
        map_tuned,
        _PEERS,
        (Goal(1, _PEERS),),
        is_rate=True,
    ),
    Figure(
        "map-default",
        "`map` over {many:,} small ints, all with default settings; the peers over {tasks:,} of them",
        "/s",
        map_default,
        _PEERS,
        tuple(Goal(10, (name,)) for name in _PEERS),
        is_rate=True,
    ),
)
