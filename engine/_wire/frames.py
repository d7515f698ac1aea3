"""Headers of what travels between the parent and a worker; readable without unpickling anything.

Tasks are packets (SOCK_SEQPACKET), so they need no magic number. Results and bulk are frames on a stream, so a result
begins with one, and every length in it is checked before anything is allocated.
"""

import math
import struct
from typing import Any

__all__ = [
    "ARGS_ONLY",
    "BEGAN",
    "BULK",
    "CANCEL",
    "CANCELLED",
    "CHUNK",
    "CONTROL",
    "CONTROL_BYTES",
    "DEFINE",
    "ERROR",
    "FLUSH",
    "FORGET",
    "HEAVY",
    "HELLO",
    "INLINE_BYTES",
    "INSTANT",
    "IN_BULK",
    "LOG",
    "MAGIC",
    "MAX_FRAME_BYTES",
    "MAX_PAYLOAD_BYTES",
    "MAX_REPORT_BYTES",
    "MAX_SEGMENTS",
    "NOT_DECODED",
    "NOT_ENCODED",
    "PART",
    "PICKLES",
    "PLAIN",
    "PRINT",
    "PROGRESS",
    "REFUSED",
    "RESULT",
    "RETIRE",
    "SEGMENT",
    "SETUP",
    "SKIPPED",
    "SPOKE",
    "STACKS",
    "STREAM",
    "TASK",
    "VALUE",
    "VALUES",
    "FrameError",
    "check_result",
    "check_segments",
    "inline_size",
]  # fmt: skip

MAX_FRAME_BYTES = 8 << 30  #: a header that announces more is broken
MAX_PAYLOAD_BYTES = MAX_FRAME_BYTES - (1 << 20)  #: arguments or a result beyond this are refused where they are pickled
MAX_REPORT_BYTES = 32 << 20  #: the same for what a worker says about an exception; it keeps to half of that
INLINE_BYTES = 60 << 10  #: more than this of arguments goes over the stream: a packet must fit the socket's buffer
CONTROL_BYTES = 48 << 10  #: the longest control message, for the same reason
MAX_SEGMENTS = 4096  #: buffers that travel raw with one object; the table of them fits any buffer
MAGIC = 0xE7A5

#: A task, of which a packet holds one or several: flags, segments, attempt, sequence number, task id, function number
#: (0: the function is in the payload), payload bytes, timeout (below 0: none), bytes on the stream. The segment table
#: and the payload follow.
TASK = struct.Struct("<BIIQQIQdQ")
ARGS_ONLY = 1  #: the payload is the tuple of positional arguments and nothing else
IN_BULK = 2  #: table and payload are on the stream, before the buffers
CHUNK = 4  #: the payload is many items, each a call of the function; design/0011


#: A frame from the parent on the stream: kind, number (of a task or a function), bytes that follow.
STREAM = struct.Struct("<BQQ")
SETUP, BULK, DEFINE, FORGET = 1, 2, 3, 4

#: A result: magic, kind, flags, segments, sequence number, start, end, payload bytes, buffer bytes. The table, the
#: payload and the buffers follow.
RESULT = struct.Struct("<HBBIQddQQ")
VALUE, ERROR, CANCELLED, SKIPPED, NOT_DECODED, NOT_ENCODED = 1, 2, 3, 4, 5, 6
VALUES = 7  #: of a chunk: a list of values, of as many items in a row; without PART, and empty, its end
PLAIN = 1  #: the payload holds harmless types only (``_wire.harmless``), so decoding it runs nobody's code
RETIRE = 2  #: the task was interrupted at an arbitrary point: the worker may hold locks for ever
PART = 8  #: it answers one item of a chunk, or several (VALUES), and more comes under that number
PICKLES = 16  #: some of VALUES are bytes: each is the pickle of a value
SPOKE = 4  #: the task printed, logged or reported: read the control socket before settling it

SEGMENT = struct.Struct("<BQ")  #: one entry of the table: kind of buffer (``_wire.pickling``), bytes

#: A control message: kind, number. To the worker: CANCEL (sequence number, then the grace as a double), STACKS
#: (request), FLUSH (sequence number: send what is finished of that chunk). From it: HELLO, REFUSED, STACKS, HEAVY (it
#: is over its memory limit and takes no further task), and with a task's id PRINT, LOG, PROGRESS.
CONTROL = struct.Struct("<BQ")
CANCEL, STACKS, HELLO, REFUSED, PRINT, LOG, PROGRESS, HEAVY, FLUSH = 1, 2, 3, 4, 5, 6, 7, 8, 9
BEGAN = 64  #: over loky, where no page is shared: task ``number`` begins, then the INSTANT of it
INSTANT = struct.Struct("<d")


def inline_size(header: tuple[Any, ...]) -> int:
    """Return how many bytes of its packet follow ``header``, an unpacked TASK: table and payload, or nothing."""
    flags, count, _, _, _, _, size, _, _ = header
    return 0 if flags & IN_BULK else count * SEGMENT.size + size


class FrameError(Exception):
    """What came from the worker is not a frame."""


def check_result(header: tuple[Any, ...], limit: int) -> None:
    """Raise FrameError unless ``header``, an unpacked RESULT, can be true."""
    magic, kind, _, segments, _, started, ended, payload, bulk = header
    if magic != MAGIC or not VALUE <= kind <= VALUES:
        raise FrameError(f"expected a result header, got magic {magic:#06x} and kind {kind}")
    if segments > MAX_SEGMENTS:
        raise FrameError(f"expected at most {MAX_SEGMENTS} buffers, got a header announcing {segments}")
    if not 0.0 <= started <= ended < math.inf:  # False for NaN too
        raise FrameError(f"expected a start and an end after it, got {started} and {ended}")
    most = limit if kind in (VALUE, VALUES) else MAX_REPORT_BYTES
    if payload + bulk + segments * SEGMENT.size > most:
        raise FrameError(f"expected a result of at most {most} bytes, got a header announcing {payload + bulk}")


def check_segments(segments: list[tuple[int, int]], bulk: int) -> None:
    """Raise FrameError unless the table of a result can be true: known kinds, and sizes that add up."""
    if any(kind > 2 for kind, _ in segments) or sum([size for _, size in segments]) != bulk:
        raise FrameError("expected a table of known buffers that add up to the announced size")
