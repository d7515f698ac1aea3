"""asyncio alone: its own tasks, and two processes that play ping-pong over a socket, the floor of a round trip."""

import asyncio
import multiprocessing
import socket
from collections.abc import Sequence
from typing import Any

from stress._peers.contract import Cannot, Fn, Peer

__all__ = ["BALL", "AsyncioPeer", "SocketPeer"]

BALL = b"x" * 128  #: about what the packet of a no-op is


class AsyncioPeer(Peer):
    """Tasks of the event loop."""

    async def start(self, workers: int, *, plain: bool = False) -> None:
        pass

    async def close(self) -> None:
        pass

    async def call(self, fn: Fn, *args: Any) -> Any:
        return await fn(*args)

    async def flood(self, fn: Fn, items: Sequence[Any]) -> Sequence[Any]:
        return await asyncio.gather(*[asyncio.ensure_future(fn(item)) for item in items])


class _Pong(asyncio.Protocol):
    """Give back what comes."""

    def __init__(self) -> None:
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set_result(None)


class _Ping(asyncio.Protocol):
    """Send one ball, and tell when it is back."""

    _waiter: asyncio.Future[None]
    _missing = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._missing -= len(data)
        if not self._missing:
            self._waiter.set_result(None)

    def send(self) -> asyncio.Future[None]:
        """Send the ball; await what this returns to have it back."""
        self._waiter = asyncio.get_running_loop().create_future()
        self._missing = len(BALL)
        self.transport.write(BALL)
        return self._waiter


def _play(end: socket.socket) -> None:
    async def play() -> None:
        _, pong = await asyncio.get_running_loop().create_connection(_Pong, sock=end)
        await pong.ended

    asyncio.run(play())


class SocketPeer(Peer):
    """A call is one round trip of bytes; no function is run, and nothing is pickled."""

    async def start(self, workers: int, *, plain: bool = False) -> None:
        ours, theirs = socket.socketpair()
        self._process = multiprocessing.get_context("spawn").Process(target=_play, args=(theirs,))
        self._process.start()
        theirs.close()
        _, self._ping = await asyncio.get_running_loop().create_connection(_Ping, sock=ours)

    async def close(self) -> None:
        self._ping.transport.close()
        await asyncio.to_thread(self._process.join)

    async def call(self, fn: Fn, *args: Any) -> Any:
        await self._ping.send()

    async def flood(self, fn: Fn, items: Sequence[Any]) -> Sequence[Any]:
        raise Cannot("runs no function")
