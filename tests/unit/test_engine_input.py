"""What comes in: settings, options, names and functions, checked where they enter."""

import math
from typing import Any

import pytest

from engine import (
    Engine,
    Lane,
)
from tests.unit.gates import small

COUNTS = (0, -1, 1.0, math.nan, math.inf, 1e18, 10**19, True, "4", [4])
SECONDS = (-1, math.nan, math.inf, 1e18, 10**400, True, "4", None)
BAD: list[tuple[str, object]] = [
    *((name, value) for name in ("processes", "threads", "max_pending", "max_tasks_per_worker") for value in COUNTS),
    *(("coroutines", value) for value in (*COUNTS, None)),
    *(("history", value) for value in (-1, 1.0, math.nan, 1e18, 10**19, True, "4", None)),
    *((name, value) for name in ("worker_idle_timeout", "worker_start_timeout") for value in (0, *SECONDS)),
    *(("grace", value) for value in SECONDS),
    *(("process_backend", value) for value in ("fork", "spawn", "", None, 5, True, "Native")),
    *(("default_lane", value) for value in ("loop", "gpu", "", None, 5, Lane.LOOP)),
    *(("initializer", value) for value in (5, "print", ())),
    *(("initargs", value) for value in ([1], None, "x", 5)),
    *(("inner_threads", value) for value in (0, -1, "all", 1.5, True)),
    *(("context", value) for value in ("m:v", 5, None, ("nocolon",), (5,), ("tests.unit.test_engine:LANES",),
                                       ("no.such.module:v",), ("tests.unit.test_engine:missing",), (":v",))),
    *(("worker_memory_limit", value) for value in (*COUNTS, 512, "2GiB")),
    *(("name", value) for value in ("", "x" * 101, 5, None, b"engine")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), BAD, ids=lambda value: ascii(value)[:24])
def test_a_bad_setting_is_refused_at_once(name: str, value: Any) -> None:
    """Row T5."""
    with pytest.raises(ValueError, match=f"^expected {name} to be .+, got .+"):
        Engine(**{name: value})


def test_the_message_is_the_one_that_the_design_shows() -> None:
    with pytest.raises(ValueError, match=r"^expected processes to be a positive integer, got -1$"):
        Engine(processes=-1)


def test_a_setting_that_does_not_exist_is_refused() -> None:
    wrong: Any = Engine
    with pytest.raises(TypeError, match="thread_count"):
        wrong(thread_count=4)


async def test_bad_options_are_refused_where_they_enter() -> None:
    """Row T5; every value is tried in test_options."""
    async with small() as engine:
        for name, value in [("timeout", 0), ("total_timeout", -1), ("priority", "high"), ("grace", math.nan),
                            ("retry", 3), ("lane", "gpu"), ("name", "")]:  # fmt: skip
            options: dict[str, Any] = {name: value}
            with pytest.raises(ValueError, match=f"^expected {name} to be .+, got .+"):
                engine.options(**options)
        assert engine.tasks() == []


@pytest.mark.parametrize("value", ["done", 5, True, "PENDING"])
async def test_a_bad_state_to_filter_by_is_refused(value: Any) -> None:
    async with small() as engine:
        with pytest.raises(ValueError, match=r"^expected state to be one of 'pending', .*, got"):
            engine.tasks(state=value)


@pytest.mark.parametrize("value", [5, b"f", True])
async def test_a_bad_name_to_look_for_is_refused(value: Any) -> None:
    async with small() as engine:
        for look in (engine.tasks, engine.cancel):
            with pytest.raises(ValueError, match=r"^expected name to be .+, got"):
                look(name=value)


@pytest.mark.parametrize("value", ["1", 1.0, True, None, 0, -1])
async def test_a_bad_id_to_look_for_is_refused(value: Any) -> None:
    async with small() as engine:
        with pytest.raises(ValueError, match=r"^expected task_id to be .+, got"):
            engine.get(value)
        with pytest.raises(ValueError, match=r"^expected id( or name)? to be .+, got"):
            engine.cancel(id=value)


@pytest.mark.parametrize("fn", [5, None, "f"])
async def test_what_cannot_be_called_is_refused_by_submit_run_and_map(fn: Any) -> None:
    async with small() as engine:
        with pytest.raises(TypeError, match=r"^expected fn to be a callable, got"):
            engine.submit(fn)
        with pytest.raises(TypeError, match=r"^expected fn to be a callable, got"):
            await engine.run(fn)
        with pytest.raises(TypeError, match=r"^expected fn to be a callable, got"):
            engine.map(fn, [1])
        assert engine.tasks() == []


async def test_options_never_take_the_functions_own_arguments() -> None:
    def takes(timeout: int, lane: str, fn: str, name: str = "") -> tuple[object, ...]:
        return timeout, lane, fn, name

    async with small() as engine:
        assert await engine.options(timeout=30).run(takes, 1, lane="mine", fn="yours", name="x") == (
            1,
            "mine",
            "yours",
            "x",
        )


async def test_views_share_the_engine_and_lie_over_one_another() -> None:
    async with small() as engine:
        view = engine.options(name="first", lane="thread").options(name="second", priority=3)
        assert await view.run(abs, -1) == 1
        (info,) = engine.tasks()
        assert (info.name, info.lane) == ("second", Lane.THREAD)
        assert engine.get(info.id) == info
