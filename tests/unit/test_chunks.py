"""What a chunk is told of its items, how large the next one is, and how a worker's answers go out (design/0011)."""

import pickle
import random
import socket
import threading
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from engine._chunk_size import GROWTH, MOST_ITEMS, TARGET_BYTES, TARGET_SECONDS, ChunkSize
from engine._lanes.base import Attempt, Outcome, new_attempt
from engine._lanes.chunk import Chunk
from engine._records import Call
from engine._states import Lane
from engine._wire.frames import PART, PICKLES, RESULT, VALUE, VALUES
from engine._worker.parts import HELD_BYTES, Parts


class FakeOwner:
    """Keeps what it is offered."""

    def __init__(self) -> None:
        self.offers: list[tuple[Sequence[Any], bool]] = []
        self.progress = 0

    def progressed(self) -> None:
        self.progress += 1

    def take_back(self, chunk: Chunk, items: Sequence[Any], *, one_by_one: bool) -> None:
        self.offers.append((items, one_by_one))


def chunk_of(count: int) -> tuple[Chunk, FakeOwner, Attempt]:
    owner = FakeOwner()
    chunk = Chunk(owner, threading.RLock(), list(range(count)), is_rows=False)
    chunk.begun = count
    return chunk, owner, new_attempt(Call(abs, "call", Lane.PROCESS), 1, 1, (), {})


# -- a chunk


def test_values_and_items_are_settled_in_order_and_what_is_decoded_holds_its_place() -> None:
    chunk, owner, attempt = chunk_of(5)
    assert chunk.put([10, 11], 6)
    item = chunk.next_item(attempt, 100)
    assert item is not None
    assert chunk.put([13], 3)
    assert (chunk.answered, chunk.ready, chunk.received_bytes) == (4, 2, 109)
    item.settle(Outcome(value=12))
    assert (chunk.ready, chunk.results) == (4, [10, 11, 12, 13, None])
    last = chunk.next_item(attempt, 1)
    assert last is not None
    last.settle(Outcome(error=KeyError(14)))
    assert (chunk.ready, list(chunk.failures)) == (5, [4])
    assert owner.progress == 4


def test_more_answers_than_items_are_refused() -> None:
    chunk, _, attempt = chunk_of(2)
    assert not chunk.put([1, 2, 3], 9)
    assert chunk.put([1, 2], 6)
    assert chunk.next_item(attempt, 1) is None
    assert not chunk.put([3], 3)


def test_answers_of_items_that_have_not_begun_are_refused() -> None:
    chunk, _, attempt = chunk_of(5)
    chunk.begun = 2
    assert not chunk.awaits(3)
    assert not chunk.put([1, 2, 3], 9)
    assert chunk.awaits(2)
    assert chunk.put([1, 2], 6)
    assert chunk.next_item(attempt, 1) is None


def test_the_end_waits_for_what_is_being_decoded() -> None:
    chunk, _, attempt = chunk_of(2)
    first, second = chunk.next_item(attempt, 1), chunk.next_item(attempt, 1)
    ended: list[str] = []
    assert chunk.hold(lambda: ended.append("end"))
    assert first is not None
    assert second is not None
    second.settle(Outcome(value=2))
    assert (ended, chunk.ready) == ([], 0)
    first.settle(Outcome(value=1))
    assert (ended, chunk.ready) == (["end"], 2)
    assert not chunk.hold(lambda: ended.append("again"))


def test_what_has_not_begun_is_offered_once() -> None:
    chunk, owner, _ = chunk_of(6)
    chunk.put([0], 1)
    chunk.cut(3)
    assert (owner.offers, chunk.size) == ([([3, 4, 5], False)], 3)
    chunk.cut(3)
    chunk.put([1], 1)
    chunk.offer_rest()  # it had stored its begin of the third one, and saw then that it may not
    assert (owner.offers[1:], chunk.size) == ([([2], False)], 2)
    chunk.ending(Outcome())
    assert len(owner.offers) == 2


def test_after_a_crash_what_may_have_run_stays_and_the_rest_is_offered() -> None:
    chunk, owner, _ = chunk_of(6)
    chunk.put([0], 1)
    chunk.begun = 4
    chunk.ending(Outcome(error=RuntimeError()))
    assert (owner.offers, chunk.size) == ([([4, 5], False)], 4)


def test_what_nobody_can_blame_on_one_item_is_offered_one_by_one() -> None:
    chunk, owner, _ = chunk_of(3)
    chunk.begun = 0
    chunk.ending(Outcome(error=RuntimeError()))
    assert owner.offers == [([0, 1, 2], True)]
    single, owner, _ = chunk_of(1)
    single.begun = 0
    single.ending(Outcome(error=RuntimeError()))
    assert owner.offers == []


def test_a_chunk_that_is_over_offers_nothing() -> None:
    chunk, owner, _ = chunk_of(3)
    chunk.is_over = True
    chunk.cut(1)
    chunk.offer_rest()
    chunk.ending(Outcome(error=RuntimeError()))
    assert owner.offers == []


# -- sizes


def learnt(size: ChunkSize, seconds: float, *, sent: int = 0, received: int = 0) -> int:
    chunk, _, _ = chunk_of(size.items)
    chunk.put([None] * size.items, received)
    chunk.seconds, chunk.sent_bytes = seconds, sent
    size.learn(chunk)
    return size.items


def test_chunks_grow_fourfold_until_they_take_as_long_as_they_should() -> None:
    size = ChunkSize()
    grown = [learnt(size, 1e-6 * size.items) for _ in range(7)]
    assert grown == [4, 16, 64, 256, 1024, 2000, 2000]
    assert [learnt(size, 1e-7 * size.items) for _ in range(2)] == [8000, MOST_ITEMS]


def test_a_slow_function_keeps_single_items() -> None:
    size = ChunkSize()
    assert [learnt(size, 1.0 * size.items) for _ in range(3)] == [1, 1, 1]
    assert learnt(size, TARGET_SECONDS * size.items * 0.9) == 1


def test_long_items_or_results_make_short_chunks() -> None:
    for way in ("sent", "received"):
        size = ChunkSize()
        for _ in range(8):
            learnt(size, 1e-6 * size.items, **{way: 10_000 * size.items})
        assert size.items == TARGET_BYTES // 10_000


@given(st.lists(st.floats(1e-8, 10.0), max_size=40), st.integers(1, 10_000))
def test_the_next_chunk_is_neither_empty_nor_too_large(durations: list[float], most: int) -> None:
    size = ChunkSize(most)
    for seconds in durations:
        before = size.items
        after = learnt(size, seconds)
        assert 1 <= after <= min(most, MOST_ITEMS)
        assert before // GROWTH <= after <= before * GROWTH


# -- what a worker answers


class Silent:
    has_spoken = False


def frames(sock: socket.socket) -> list[tuple[int, int, bytes]]:
    """Read all frames up to the end of the stream: kind, flags, payload."""
    data = b""
    while more := sock.recv(1 << 20):
        data += more
    found, at = [], 0
    while at < len(data):
        _, kind, flags, _, _, _, _, size, _ = RESULT.unpack_from(data, at)
        at += RESULT.size + size
        found.append((kind, flags, data[at - size : at]))
    return found


def test_answers_go_out_in_order_while_another_thread_flushes() -> None:
    """The control thread sends what is finished, again and again, while the main thread goes on."""
    ours, theirs = socket.socketpair()
    parts = Parts(ours, Silent())  # type: ignore[arg-type]  # all that it is asked
    found: list[tuple[int, int, bytes]] = []
    reader = threading.Thread(target=lambda: found.extend(frames(theirs)))
    is_over = threading.Event()

    def flush() -> None:
        while not is_over.is_set():
            parts.flush(7)

    flusher = threading.Thread(target=flush)
    reader.start()
    flusher.start()
    rng = random.Random(1)
    parts.open(7, 1.0)
    for number in range(50_000):
        kind = rng.random()
        if kind < 0.9:
            parts.values.append(number)
        elif kind < 0.95:
            parts.add_pickled(pickle.dumps(number))
        else:
            payload = pickle.dumps(number)
            parts.add(RESULT.pack(0, VALUE, PART, 0, 7, 1.0, 1.0, len(payload), 0) + payload, [])
    is_over.set()
    flusher.join()
    ours.sendall(parts.close())
    ours.close()
    reader.join()
    theirs.close()
    values: list[Any] = []
    for kind, flags, payload in found:
        assert flags & PART
        several = pickle.loads(payload) if kind == VALUES else [payload]
        assert kind != VALUES or flags & PICKLES or bytes not in map(type, several)
        values += [pickle.loads(each) if type(each) is bytes else each for each in several]
    assert values == list(range(50_000))


def test_a_list_says_whether_pickles_are_in_it_and_the_next_chunk_begins_anew() -> None:
    """Who reads it looks at each value only then."""
    ours, theirs = socket.socketpair()
    parts = Parts(ours, Silent())  # type: ignore[arg-type]  # as above
    said = []
    for number, pickles in ((1, []), (2, [b"N."]), (3, [])):
        parts.open(number, 1.0)
        parts.values.append(7)
        for each in pickles:
            parts.add_pickled(each)
        said.append(RESULT.unpack_from(parts.close())[2] & PICKLES)
    ours.close()
    theirs.close()
    assert said == [0, PICKLES, 0]


def test_a_flush_for_a_chunk_that_is_over_sends_nothing() -> None:
    ours, theirs = socket.socketpair()
    parts = Parts(ours, Silent())  # type: ignore[arg-type]  # as above
    parts.open(7, 1.0)
    parts.values.append(1)
    parts.flush(6)
    left = parts.close()
    parts.flush(7)
    ours.close()
    assert frames(theirs) == []
    theirs.close()
    assert len(left) > RESULT.size


def test_long_lists_of_values_are_cut() -> None:
    ours, theirs = socket.socketpair()
    parts = Parts(ours, Silent())  # type: ignore[arg-type]  # as above
    parts.open(7, 1.0)
    parts.values.extend(["x" * 60 + str(number) for number in range(20_000)])
    left = parts.close()
    ours.close()
    theirs.close()
    count = at = 0
    while at < len(left):
        size = RESULT.unpack_from(left, at)[7]
        assert size <= 3 * HELD_BYTES
        at += RESULT.size + size
        count += len(pickle.loads(left[at - size : at]))
    assert count == 20_000
