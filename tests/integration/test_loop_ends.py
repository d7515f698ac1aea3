"""An engine that nobody stopped ends with its loop."""

import asyncio
import threading
import time

from engine import Engine


def test_an_engine_that_was_never_stopped_ends_with_its_loop() -> None:
    """Threads and workers are gone when ``asyncio.run`` returns; the leak fixture looks too."""

    async def forget_to_stop() -> None:
        engine = await Engine(processes=1, threads=1).start()
        assert await engine.run(abs, -1) == 1
        engine.submit(time.sleep, 60)
        assert await engine.options(lane="thread").run(len, "a") == 1

    before = set(threading.enumerate())
    asyncio.run(forget_to_stop())
    assert set(threading.enumerate()) == before


async def test_stopping_by_hand_and_by_block_is_the_same_stop() -> None:
    async with Engine(processes=1) as engine:
        report = await engine.stop()
    assert await engine.stop() is report
