"""Starting an engine, by block and by hand, once."""

import asyncio
import dataclasses
import pickle

import pytest

from engine import (
    Engine,
    EngineClosed,
    PickleError,
)
from tests.unit.gates import small


async def test_an_engine_that_has_not_started_says_how_to_start_it() -> None:
    engine = small()
    for use in (lambda: engine.submit(abs, 1), engine.tasks, engine.snapshot, lambda: engine.cancel(id=1)):
        with pytest.raises(EngineClosed, match="got one that has not started; use 'async with Engine"):
            use()
    assert "not started" in repr(engine)


async def test_stopping_an_engine_that_never_started_hides_no_error() -> None:
    """``finally: await engine.stop()`` lets the error through that kept it from starting; it may start later."""
    engine = small()
    report = await engine.stop(timeout=1, cancel_pending=True)
    assert {getattr(report, field.name) for field in dataclasses.fields(report)} == {0}
    assert report.clean
    with pytest.raises(ValueError, match="expected timeout to be"):
        await engine.stop(timeout=-1)
    async with engine:
        assert await engine.run(abs, -1) == 1


async def test_an_engine_lives_once() -> None:
    async with small() as engine:
        with pytest.raises(RuntimeError, match="expected an engine that has not been started"):
            await engine.start()
    with pytest.raises(RuntimeError, match="expected an engine that has not been started"):
        await engine.start()
    with pytest.raises(RuntimeError, match="expected an engine that has not been started"):
        engine.__enter__()


async def test_an_engine_may_be_started_and_stopped_by_hand() -> None:
    engine = await small().start()
    assert await engine.run(abs, -1) == 1
    await engine.stop()


def test_an_engine_whose_loop_is_closed_takes_nothing() -> None:
    """Row A1."""

    async def main() -> Engine:
        async with small() as engine:
            await engine.run(abs, -1)
        return engine

    engine = asyncio.run(main())
    with pytest.raises(EngineClosed, match="cannot schedule new futures"):
        engine.submit(abs, 1)


def test_an_engine_does_not_pickle_and_says_what_to_do() -> None:
    with pytest.raises(PickleError, match="a process task cannot submit to its parent's engine"):
        pickle.dumps(small())
