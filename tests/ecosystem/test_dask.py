"""Dask computes on an engine's executors: as ``scheduler=``, and as its ``pool``, in threads and in processes."""

import os
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Literal

import dask
import dask.array
import dask.bag
import dask.dataframe
import numpy as np
import pandas as pd
import pytest

from engine import BlockingEngine, Engine, Lane, Retry
from engine.futures import ProcessExecutor, ThreadExecutor
from tests.ecosystem import dask_functions as functions

LANES: tuple[Literal["process", "thread"], ...] = ("process", "thread")


@pytest.fixture
def engine() -> Iterator[BlockingEngine]:
    with Engine(processes=2, threads=3) as engine:
        yield engine


@pytest.mark.parametrize("lane", LANES)
def test_an_executor_is_a_scheduler(engine: BlockingEngine, lane: Literal["process", "thread"]) -> None:
    """Arrays, bags and data frames come to what Dask's own synchronous scheduler says."""
    numbers = dask.array.arange(40_000, chunks=5_000).reshape(200, 200)
    bag = dask.bag.from_sequence(range(100), npartitions=5)
    frame = dask.dataframe.from_pandas(
        pd.DataFrame({"key": np.arange(90) % 3, "value": np.arange(90.0)}), npartitions=3
    )
    wanted = [
        (numbers @ numbers.T).sum(),
        bag.map(functions.double).filter(functions.is_even).sum(),
        frame.groupby("key").value.mean().sum(),
    ]
    with engine.executor(lane=lane) as executor, dask.config.set(scheduler=executor):
        results = [float(each.compute()) for each in wanted]
    assert results == [float(each.compute(scheduler="synchronous")) for each in wanted]
    assert engine.snapshot().lanes[Lane(lane)].completed > 5


@pytest.mark.parametrize("executor", [ProcessExecutor, ThreadExecutor])
def test_so_is_one_that_stands_alone(executor: Any) -> None:
    with executor(2) as pool:
        assert dask.compute(*[dask.delayed(functions.double)(i) for i in range(20)], scheduler=pool) == tuple(
            range(0, 40, 2)
        )


@pytest.mark.parametrize(("lane", "scheduler"), [("process", "processes"), ("thread", "threads")])
def test_an_executor_is_a_pool(engine: BlockingEngine, lane: Literal["process", "thread"], scheduler: str) -> None:
    with engine.executor(lane=lane) as executor, dask.config.set(pool=executor, scheduler=scheduler):
        pids = dask.compute(*[dask.delayed(functions.pid)(i) for i in range(30)])
    assert len(pids) == 30
    assert (os.getpid() in pids) == (lane == "thread")
    assert engine.snapshot().lanes[Lane(lane)].completed > 1


@pytest.mark.parametrize("lane", LANES)
def test_an_error_is_raised_as_it_is(engine: BlockingEngine, lane: Literal["process", "thread"]) -> None:
    with engine.executor(lane=lane) as executor:
        with pytest.raises(LookupError, match="no 3"):
            dask.compute(dask.delayed(functions.fail)(3), scheduler=executor)
        assert dask.compute(dask.delayed(functions.double)(3), scheduler=executor) == (6,)


def test_a_worker_that_dies_costs_its_computation_and_not_the_pool(engine: BlockingEngine) -> None:
    with engine.executor(lane="process") as executor:
        with pytest.raises(BrokenProcessPool):
            dask.compute(dask.delayed(functions.die)(3), scheduler=executor)
        assert dask.compute(dask.delayed(functions.double)(3), scheduler=executor) == (6,)


def test_with_a_retry_it_costs_another_try(engine: BlockingEngine, tmp_path: Path) -> None:
    task = dask.delayed(functions.crash_once)(tmp_path / "crashed")
    with engine.options(retry=Retry(base_delay=0)).executor(lane="process") as executor:
        assert dask.compute(task, scheduler=executor) == ("survived",)
    assert engine.snapshot().crashes == engine.snapshot().retries == 1
