"""The parent's reading of results: any cut of the stream gives the same frames, nonsense allocates nothing."""

import contextlib
import os
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine._lanes._process import reader as reader_module
from engine._lanes._process.pieces import Pieces
from engine._lanes._process.reader import Frame, Reader
from engine._wire.frames import ERROR, MAGIC, MAX_REPORT_BYTES, RESULT, SEGMENT, VALUE, FrameError
from engine._wire.memory import allocate
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
        RESULT.pack(MAGIC, VALUE, 0, 0, 1, 0, float("nan"), 0, 0),
        RESULT.pack(MAGIC, VALUE, 0, 0, 1, -1, 0, 0, 0),
        RESULT.pack(MAGIC, VALUE, 0, 0, 1, 0, float("inf"), 0, 0),
        RESULT.pack(MAGIC, ERROR, 0, 0, 1, 0, 0, MAX_REPORT_BYTES + 1, 0),
    ],
    ids=[
        "magic",
        "kind",
        "payload",
        "bulk",
        "segments",
        "table",
        "buffer kind",
        "no time",
        "negative time",
        "never",
        "long report",
    ],
)
def test_a_header_that_cannot_be_true_is_refused_before_anything_is_allocated(
    ends: tuple[socket.socket, socket.socket], header: bytes
) -> None:
    ours, theirs = ends
    theirs.sendall(header + b"\0" * 64)
    with pytest.raises(FrameError):
        Reader(ours).read()


def test_frames_before_the_nonsense_count_and_nothing_behind_it_does(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = ends
    whole = encode(1, b"abc", [])
    theirs.sendall(whole + b"\0" * 100 + whole)
    reader = Reader(ours)
    assert [frame.number for frame in reader.read()] == [1]
    assert reader.broken is not None
    theirs.sendall(whole)
    with pytest.raises(FrameError):
        reader.read()


def test_one_buffer_at_a_time_is_allocated_and_only_when_its_first_byte_is_due(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """4096 buffers of nearly 1 MiB are 4 GiB that a header of 37 KB could have us fill with zeros."""
    allocated: list[int] = []

    def note(size: int) -> memoryview:
        allocated.append(size)
        return allocate(size)

    monkeypatch.setattr(reader_module, "allocate", note)
    ours, theirs = ends
    size, count = (1 << 20) - 1, 4096
    table = SEGMENT.pack(MEMORY, size) * count
    theirs.sendall(RESULT.pack(MAGIC, VALUE, 0, count, 1, 0.0, 0.0, 5, size * count) + table + b"12345" + b"x")
    reader = Reader(ours)
    assert reader.read() == []
    assert allocated == [size]
    assert reader.is_in_a_frame


def test_no_memory_for_what_is_announced_is_the_end_of_that_worker_only(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(size: int) -> memoryview:
        raise MemoryError

    monkeypatch.setattr(reader_module, "allocate", refuse)
    ours, theirs = ends
    theirs.sendall(encode(1, b"abc", [(MEMORY, b"x" * 100)]))
    with pytest.raises(FrameError, match="expected memory for a buffer of 100 bytes"):
        Reader(ours).read()


HEADERS = st.builds(
    RESULT.pack,
    st.sampled_from([MAGIC, MAGIC, MAGIC, 0]), st.integers(0, 8), st.integers(0, 255),
    st.sampled_from([0, 0, 1, 2, 4096, 4097, 2**32 - 1]), st.integers(0, 2**64 - 1),
    st.sampled_from([0.0, 1.0, -1.0, float("nan"), float("inf")]), st.sampled_from([1.0, 2.0, float("nan")]),
    st.sampled_from([0, 1, 100, 1 << 20, 1 << 40, 2**64 - 1]), st.sampled_from([0, 10, 1 << 20, 1 << 40, 2**64 - 1]),
)  # fmt: skip
ENTRIES = st.builds(SEGMENT.pack, st.integers(0, 4), st.sampled_from([0, 5, 10, 1 << 20, 2**64 - 1]))
WHOLE = st.builds(encode, st.integers(0, 9), st.binary(max_size=50), st.just([(BYTES, b"abc"), (MEMORY, b"")]))
NOISE = st.lists(st.one_of(HEADERS, ENTRIES, WHOLE, st.binary(max_size=200)), min_size=1, max_size=8).map(b"".join)


@given(NOISE, st.integers(1, 300))
def test_whatever_a_worker_writes_gives_frames_or_one_error(stream: bytes, cut: int) -> None:
    """No other exception, an end in any case, and frames that hold no more than what was written."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        reader = Reader(ours)
        frames: list[Frame] = []
        for at in range(0, len(stream), cut):
            if reader.broken:  # it reads no more, and the socket would fill
                break
            theirs.sendall(stream[at : at + cut])
            with contextlib.suppress(BlockingIOError, FrameError):
                frames += reader.read()
        theirs.close()
        for _ in range(len(stream) + 10):
            if reader.is_at_end or reader.broken:
                break
            with contextlib.suppress(FrameError):
                frames += reader.read()
        assert reader.is_at_end or reader.broken
        assert reader.arrived <= len(stream)
        for frame in frames:
            held = [frame.payload, *(frame.buffers or [])]
            assert sum(part.size if isinstance(part, Pieces) else len(part) for part in held) <= len(stream)


def test_the_end_of_the_stream_is_not_an_error(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    theirs.sendall(encode(1, b"abc", [])[:-1])
    theirs.close()
    reader = Reader(ours)
    assert reader.read() == []
    assert not reader.is_at_end
    assert reader.read() == []
    assert reader.is_at_end
