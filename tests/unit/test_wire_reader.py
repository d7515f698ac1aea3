"""The parent's reading of results: any cut of the stream gives the same frames, nonsense allocates nothing."""

import os
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine._lanes._process.pieces import Pieces
from engine._lanes._process.reader import Frame, Reader
from engine._wire.frames import MAGIC, RESULT, SEGMENT, VALUE, FrameError
from engine._wire.pickling import BYTEARRAY, BYTES, MEMORY


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def encode(number: int, payload: bytes, buffers: list[tuple[int, bytes]]) -> bytes:
    bulk = sum(len(data) for _, data in buffers)
    head = RESULT.pack(MAGIC, VALUE, 0, len(buffers), number, 1.0, 2.0, len(payload), bulk)
    table = b"".join(SEGMENT.pack(kind, len(data)) for kind, data in buffers)
    return head + table + payload + b"".join(data for _, data in buffers)


def contents(frame: Frame) -> tuple[int, bytes, list[bytes]]:
    def whole(part: object) -> bytes:
        return part.join() if isinstance(part, Pieces) else bytes(part)  # type: ignore[call-overload]  # a buffer

    return frame.number, whole(frame.payload), [whole(buffer) for buffer in frame.buffers or []]


SIZES = st.sampled_from([0, 1, 100, 65_000, 65_536 - RESULT.size, 65_537 - RESULT.size, 70_000, 150_000])
FRAMES = st.lists(
    st.tuples(SIZES, st.lists(st.tuples(st.sampled_from([MEMORY, BYTES, BYTEARRAY]), SIZES), max_size=3)), max_size=6
)


@given(FRAMES, st.lists(st.integers(1_000, 100_000), min_size=1, max_size=20))
def test_frames_arrive_whole_however_the_stream_is_cut(
    shapes: list[tuple[int, list[tuple[int, int]]]], cuts: list[int]
) -> None:
    expected = [
        (number, os.urandom(size), [os.urandom(length) for _, length in buffers])
        for number, (size, buffers) in enumerate(shapes)
    ]
    stream = b"".join(
        encode(number, payload, [(kind, data) for (kind, _), data in zip(shapes[number][1], raw, strict=True)])
        for number, payload, raw in expected
    )
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    got: list[tuple[int, bytes, list[bytes]]] = []
    with ours, theirs:
        reader, at, turn = Reader(ours), 0, 0
        while at < len(stream) or (len(got) < len(expected) and not reader.is_at_end):
            if at < len(stream):
                try:
                    at += theirs.send(stream[at : at + cuts[turn % len(cuts)]])
                except BlockingIOError:
                    pass
                turn += 1
            try:
                got += [contents(frame) for frame in reader.read()]
            except BlockingIOError:
                pass
    assert got == expected


@pytest.mark.parametrize(
    "header",
    [
        RESULT.pack(0, VALUE, 0, 0, 1, 0, 0, 0, 0),
        RESULT.pack(MAGIC, 99, 0, 0, 1, 0, 0, 0, 0),
        RESULT.pack(MAGIC, VALUE, 0, 0, 1, 0, 0, 1 << 60, 0),
        RESULT.pack(MAGIC, VALUE, 0, 1, 1, 0, 0, 0, 1 << 60),
        RESULT.pack(MAGIC, VALUE, 0, 1 << 30, 1, 0, 0, 0, 0),
        RESULT.pack(MAGIC, VALUE, 0, 1, 1, 0, 0, 0, 10) + SEGMENT.pack(MEMORY, 1 << 60),
        RESULT.pack(MAGIC, VALUE, 0, 1, 1, 0, 0, 0, 10) + SEGMENT.pack(9, 10),
    ],
    ids=["magic", "kind", "payload", "bulk", "segments", "table", "buffer kind"],
)
def test_a_header_that_cannot_be_true_is_refused_before_anything_is_allocated(
    ends: tuple[socket.socket, socket.socket], header: bytes
) -> None:
    ours, theirs = ends
    theirs.sendall(header + b"\0" * 64)
    with pytest.raises(FrameError):
        Reader(ours).read()


def test_the_end_of_the_stream_is_not_an_error(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    theirs.sendall(encode(1, b"abc", [])[:-1])
    theirs.close()
    reader = Reader(ours)
    assert reader.read() == []
    assert not reader.is_at_end
    assert reader.read() == []
    assert reader.is_at_end
