"""The competitors of ``python -m stress versus``: one module for each library, imported only when its turn comes."""

import importlib
from importlib.util import find_spec

from stress._peers.contract import Cannot, Peer

__all__ = ["PEERS", "Cannot", "Peer", "distributions", "is_installed", "make"]

#: Name of each competitor: where its class is, the module that it needs, and the distribution whose version counts.
PEERS: dict[str, tuple[str, str, str | None]] = {
    "engine": ("ours:EnginePeer", "engine", "hybrid-engine"),
    "engine-thread": ("ours:EngineThreads", "engine", "hybrid-engine"),
    "engine-loop": ("ours:EngineLoop", "engine", "hybrid-engine"),
    "cf-fork": ("futures:ForkPool", "concurrent.futures", None),
    "cf-spawn": ("futures:SpawnPool", "concurrent.futures", None),
    "cf-thread": ("futures:ThreadPool", "concurrent.futures", None),
    "asyncio": ("plain_asyncio:AsyncioPeer", "asyncio", None),
    "socket": ("plain_asyncio:SocketPeer", "asyncio", None),
    "bare-loops": ("bare_loops:BareLoops", "concurrent.futures", None),
    "loky": ("loky_pool:LokyPeer", "loky", "loky"),
    "joblib": ("joblib_parallel:JoblibPeer", "joblib", "joblib"),
    "pebble": ("pebble_pool:PebblePeer", "pebble", "Pebble"),
    "mpire": ("mpire_pool:MpirePeer", "mpire", "mpire"),
    "anyio": ("anyio_calls:AnyioProcesses", "anyio", "anyio"),
    "anyio-thread": ("anyio_calls:AnyioThreads", "anyio", "anyio"),
    "engine-jobs": ("engine_jobs:EngineJobs", "apsw", "apsw"),
    "huey": ("huey_queue:HueyQueue", "huey", "huey"),
    "dask": ("dask_cluster:DaskPeer", "distributed", "distributed"),
}


def is_installed(name: str) -> bool:
    """Say whether what the competitor ``name`` needs is there."""
    return find_spec(PEERS[name][1]) is not None


def make(name: str) -> Peer:
    """Make the competitor ``name``."""
    module, _, kind = PEERS[name][0].partition(":")
    peer: Peer = getattr(importlib.import_module(f"stress._peers.{module}"), kind)()
    peer.name = name
    return peer


def distributions() -> list[str]:
    """Return the distributions that the competitors come from."""
    return sorted({place[2] for place in PEERS.values() if place[2] is not None}, key=str.lower)
