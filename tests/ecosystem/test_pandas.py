"""pandas on an engine: what is applied to rows goes to worker processes in parts of the frame."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest

from engine import BlockingEngine, Engine
from tests.ecosystem import dask_functions as functions


@pytest.fixture
def engine() -> Iterator[BlockingEngine]:
    with Engine(processes=2) as engine:
        yield engine


def frame(rows: int) -> pd.DataFrame:
    """Give numbers, texts, dates, categories, and holes, under an index that is not 0, 1, 2."""
    numbers = np.arange(rows)
    return pd.DataFrame(
        {
            "a": numbers,
            "name": [f"n{i % 11}" for i in numbers],
            "day": pd.Timestamp("2026-01-01") + pd.to_timedelta(numbers, unit="D"),
            "kind": pd.Categorical([["x", "y"][i % 2] for i in numbers]),
            "hole": np.where(numbers % 3 == 0, np.nan, numbers / 7),
        },
        index=pd.Index(numbers * 2 + 5, name="row"),
    )


def parts(whole: pd.DataFrame, rows: int) -> Iterator[pd.DataFrame]:
    return (whole.iloc[start : start + rows] for start in range(0, len(whole), rows))


def test_parts_of_a_frame_come_back_as_the_frame(engine: BlockingEngine) -> None:
    whole = frame(500)
    result = pd.concat(engine.map(functions.scores, parts(whole, 60)))
    pd.testing.assert_frame_equal(result, functions.scores(whole))


def test_groups_of_a_frame_are_mapped(engine: BlockingEngine) -> None:
    whole = frame(100)
    names, groups = zip(*whole.groupby("name"), strict=True)
    results = engine.map(functions.scores, groups)
    sums = {name: int(group["score"].sum()) for name, group in zip(names, results, strict=True)}
    assert sums == functions.scores(whole).groupby("name")["score"].sum().to_dict()


def test_a_frame_is_shared_by_many_tasks(engine: BlockingEngine) -> None:
    whole = pd.DataFrame(np.arange(400_000.0).reshape(-1, 4), columns=list("abcd"))
    with engine.share(whole) as shared:
        assert shared.size_bytes >= 3_200_000
        tasks = [engine.submit(mean, shared, column) for column in "abcd"]
        assert [task.result() for task in tasks] == [float(whole[column].mean()) for column in "abcd"]


def mean(table: pd.DataFrame, column: str) -> float:
    return float(table[column].mean())


def test_a_task_that_fails_says_which_part_it_was(engine: BlockingEngine) -> None:
    whole = frame(90)
    given = list(parts(whole, 30))
    given[1] = given[1].drop(columns="name")
    results = list(engine.map(functions.scores, given, return_exceptions=True))
    assert [isinstance(result, KeyError) for result in results] == [False, True, False]
