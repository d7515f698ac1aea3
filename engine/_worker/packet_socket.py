"""Where tasks come from: a socket on which the worker waits for the next packet, awake for a moment or parked."""

import _socket
import os
from time import monotonic

__all__ = ["PacketSocket"]

AWAKE_SECONDS = 0.00015  #: for which a worker asks again and again before it parks
AWAKE_ASKS = 500  #: and no more of them, whatever the program has done to the clock
QUICK_SECONDS = 0.00025  #: the next wait begins awake if the last one was shorter than this


class PacketSocket:
    """The worker's end of the socket for tasks.

    To park and to be woken takes longer than a small task, and costs whoever sends a third of its round trip. So a
    worker that was sent its last task soon after it had asked stays awake for a moment; one that waited in vain, or
    longer, parks at once the next time. Where there is one processor, it would only keep the sender from it.
    """

    def __init__(self, sock: _socket.socket) -> None:
        self._sock = sock
        self._has_room = _processors() > 1
        self._is_awake = False

    def receive(self, buffer: bytearray) -> int:
        """Wait for a packet and read it into ``buffer``; return its size, 0 once the parent has closed its end."""
        clock, receive = monotonic, self._sock.recv_into
        give_way = os.sched_yield
        begun = clock()
        if self._is_awake:
            until = begun + AWAKE_SECONDS
            for _ in range(AWAKE_ASKS):
                try:
                    return receive(buffer, 0, _socket.MSG_DONTWAIT)
                except BlockingIOError:
                    if clock() > until:
                        break
                    give_way()
        size = receive(buffer)
        self._is_awake = self._has_room and clock() - begun < QUICK_SECONDS
        return size


def _processors() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        return os.cpu_count() or 1
