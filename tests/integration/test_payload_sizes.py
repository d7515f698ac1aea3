"""SCENARIOS S9 and S10: sizes, from nothing to gigabytes, and the bounds of each part of the way.

The gigabytes run when asked for: ``ENGINE_BIG=2.2`` (GiB) or ``ENGINE_BIG=4.1``; the second needs 24 GiB of memory.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from engine import Engine
from engine._lanes._process import decoder, reader
from engine._wire import memory, pickling
from engine._wire.frames import CONTROL_BYTES, INLINE_BYTES, MAX_SEGMENTS, RESULT, TASK
from engine._worker import outlet
from engine.errors import PayloadTooLarge, PickleError
from tests.contracts import functions
from tests.integration import payloads

np = pytest.importorskip("numpy")

STUCK = 50.0  #: seconds; a bound for what never happens, not a measurement
BIG = float(os.environ.get("ENGINE_BIG") or 0)


async def within(awaitable: Awaitable[Any], seconds: float = STUCK) -> Any:
    return await asyncio.wait_for(awaitable, seconds)


def socket_buffer() -> int:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        return ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)


def bounds() -> Iterator[int]:
    """Give the sizes at which something of ours, or of the kernel's, changes its way."""
    yield from (1 << 14, 1 << 16, 1 << 17)  # the scenario's own; a pipe; the worker's packet buffer
    yield from (INLINE_BYTES, pickling.RAW_BYTES, reader.BUFFER_BYTES, decoder.LOOP_BYTES, outlet.COPIED_BYTES)
    yield from (reader.SLICE_BYTES, reader.TURN_BYTES, memory.MAPPED_BYTES, pickling.KEEP_BYTES)
    yield from (socket_buffer(), socket_buffer() // 2, reader.BUFFER_BYTES - RESULT.size, INLINE_BYTES - TASK.size)


SIZES = sorted({0, 1, *(bound + step for bound in bounds() for step in (-1, 0, 1))})


def value_of(kind: str, size: int) -> Any:
    data = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    kinds: dict[str, Callable[[], Any]] = {
        "bytes": lambda: data,
        "bytearray": lambda: bytearray(data),
        "memoryview": lambda: memoryview(data),
        "text": lambda: data.decode(),
        "array": lambda: np.frombuffer(data, dtype=np.uint8),
        "inside": lambda: {"deep": [data]},
    }
    return kinds[kind]()


async def echo_all(engine: Engine, values: list[Any]) -> list[Any]:
    return await asyncio.gather(*[engine.submit(payloads.echo, value) for value in values])


@pytest.mark.parametrize("kind", ["bytes", "bytearray", "memoryview", "text", "array", "inside"])
async def test_every_size_at_which_something_changes_arrives_whole(kind: str) -> None:
    """S10: each bound less one, exactly, and one more, as argument and as result, in flight together."""
    async with Engine(processes=2) as engine:
        values = [value_of(kind, size) for size in SIZES]
        for start in range(0, len(values), 8):
            batch = values[start : start + 8]
            for sent, back in zip(batch, await within(echo_all(engine, batch)), strict=True):
                assert type(back) is type(sent)
                assert bytes(back) == bytes(sent) if kind in ("array", "memoryview") else back == sent


@pytest.mark.parametrize("bound", [INLINE_BYTES, reader.BUFFER_BYTES - RESULT.size, decoder.LOOP_BYTES])
async def test_pickles_of_every_length_around_a_bound_arrive_whole(bound: int) -> None:
    """S10: the bound is on the pickle, which is some bytes longer than its text: so every length around it."""
    async with Engine(processes=1) as engine:
        for size in range(bound - 64, bound + 3):
            text = "t" * size
            assert await within(engine.submit(payloads.echo, text)) == text


async def test_a_million_small_items_travel_as_one_list() -> None:
    """S10: 1,000,000 times 16 bytes, there and back."""
    items = [n.to_bytes(16, "big") for n in range(1_000_000)]
    async with Engine(processes=1) as engine:
        assert await within(engine.submit(payloads.echo, items)) == items


async def test_many_small_results_in_flight_together() -> None:
    """S10: 16 bytes each, of 20,000 tasks submitted at once (``stress`` has a million)."""
    async with Engine(processes=2) as engine:
        tasks = [engine.submit(functions.give, n.to_bytes(16, "big")) for n in range(20_000)]
        results = await within(asyncio.gather(*tasks))
        assert results == [n.to_bytes(16, "big") for n in range(20_000)]


@pytest.mark.parametrize("count", [MAX_SEGMENTS - 1, MAX_SEGMENTS, MAX_SEGMENTS + 1])
async def test_more_buffers_than_a_frame_names_arrive_too(count: int) -> None:
    """S10: what does not fit the table stays in the pickle, in both directions."""
    async with Engine(processes=1) as engine:
        views = payloads.many_views(count)
        assert await within(engine.submit(functions.length, views)) == count
        back = await within(engine.submit(payloads.many_views, count))
        assert len(back) == count
        assert {view.nbytes for view in back} == {64 << 10}


async def test_prints_of_every_size_around_a_control_message_arrive(capsys: pytest.CaptureFixture[str]) -> None:
    """S10 for what is printed: nothing is lost or doubled where it is cut into messages."""
    sizes = [1, CONTROL_BYTES - 2, CONTROL_BYTES - 1, CONTROL_BYTES, CONTROL_BYTES + 1, 3 * CONTROL_BYTES]
    async with Engine(processes=1) as engine:
        await within(engine.submit(payloads.say, sizes))
    out = capsys.readouterr().out
    assert out.count("x") == sum(sizes) - len(sizes)
    assert out.count("y") == sum(sizes)


# -- too large ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bytes", "array", "inside", "text"])
async def test_too_large_arguments_are_refused_before_anything_is_sent(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """S9: PayloadTooLarge on that task, with the sizes and a remedy; the worker is not even asked."""
    async with Engine(processes=1) as engine:
        pid = await within(engine.submit(os.getpid))
        monkeypatch.setattr(pickling, "MAX_PAYLOAD_BYTES", 1 << 20)
        task = engine.submit(functions.length, value_of(kind, 1 << 21))
        fine = engine.submit(functions.length, value_of(kind, 1 << 19))
        with pytest.raises(PayloadTooLarge) as caught:
            await within(task)
        error = caught.value
        assert (error.what, error.where, error.task_id, error.limit_bytes) == ("arguments", "parent", task.id, 1 << 20)
        assert error.size_bytes is not None
        assert error.size_bytes > 1 << 20
        assert "send a path" in str(error)
        assert isinstance(error, PickleError)
        assert task.started_at is None
        assert await within(fine) > 0
        assert await within(engine.submit(os.getpid)) == pid


@pytest.mark.parametrize("kind", ["bytes", "array", "nested"])
async def test_too_large_results_are_refused_in_the_worker(kind: str) -> None:
    """S9: nothing of it is sent; the worker goes on."""
    async with Engine(processes=1, initializer=payloads.limit_payloads, initargs=(1 << 20,)) as engine:
        pid = await within(engine.submit(os.getpid))
        task = engine.submit(payloads.make, kind, 4 << 20)
        with pytest.raises(PayloadTooLarge) as caught:
            await within(task)
        error = caught.value
        assert (error.what, error.where, error.task_id, error.limit_bytes) == ("result", "worker", task.id, 1 << 20)
        assert payloads.size_of(await within(engine.submit(payloads.make, "bytes", 1 << 19))) == 1 << 19
        assert await within(engine.submit(os.getpid)) == pid


def test_in_band_bytes_are_refused_while_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """S9: a pickle without buffers is cut off when so much of it was written, not when it is complete."""
    monkeypatch.setattr(pickling, "MAX_PAYLOAD_BYTES", 1 << 20)
    written: list[int] = []

    class Late:
        def __reduce__(self) -> Any:
            written.append(1)
            return int, ()

    with pytest.raises(PayloadTooLarge):
        pickling.Packer().pack([["text" * 1000 + str(n) for n in range(1000)], Late()])
    assert not written


# -- gigabytes ------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def one_worker() -> AsyncIterator[Engine]:
    async with Engine(processes=1) as engine:
        await within(engine.submit(payloads.peak))
        yield engine


@pytest.fixture
def ten_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test take so long. A fixture, since the bound is read before the test begins."""
    monkeypatch.setattr("tests.support.ASYNC_TEST_TIMEOUT", 600.0)


@pytest.mark.usefixtures("ten_minutes")
@pytest.mark.skipif(
    not BIG, reason="takes gigabytes and minutes; run it with ENGINE_BIG=2.2 or 4.1, and -o faulthandler_timeout=900"
)
@pytest.mark.parametrize("kind", ["bytes", "array", "nested"])
async def test_gigabytes_travel_and_cost_two_and_a_half_times_their_size_at_most(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """S9: as argument and as result; the peak of memory on either side, what is sent included."""
    size = int(BIG * 1024) << 20
    figures = {}
    async with one_worker() as engine:
        before, worker_before = payloads.forget_peak(), await within(engine.submit(payloads.peak))
        value = payloads.make(kind, size)
        arrived, worker_peak = await within(engine.submit(payloads.measure, value), 300)
        assert arrived == payloads.size_of(value)
        figures["argument, parent"] = (payloads.peak() - before) / size
        figures["argument, worker"] = (worker_peak - worker_before) / size
        del value
    async with one_worker() as engine:
        before, worker_before = payloads.forget_peak(), await within(engine.submit(payloads.peak))
        result = await within(engine.submit(payloads.make, kind, size), 300)
        assert payloads.size_of(result) == arrived
        figures["result, parent"] = (payloads.peak() - before) / size
        figures["result, worker"] = (await within(engine.submit(payloads.peak)) - worker_before) / size
        del result
    with capsys.disabled():
        print(f"\n{kind} of {BIG} GiB, peak of memory / size:", {name: round(x, 2) for name, x in figures.items()})
    assert max(figures.values()) <= 2.5
