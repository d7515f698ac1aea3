"""Whatever moves are asked for, the table lets only legal ones through, and the counts stay right."""

import itertools
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from engine import Lane, TaskState
from engine._limits import Slots
from engine._records import Call
from engine._registry import Registry
from engine._states import MOVES, TERMINAL, check_move
from engine._task import Task

walks = st.lists(st.sampled_from(TaskState), max_size=30)


def nothing() -> None:
    pass


@given(walks)
def test_a_walk_through_the_table_ends_with_its_first_terminal_state(asked: list[TaskState]) -> None:
    state, path = TaskState.PENDING, [TaskState.PENDING]
    for wanted in asked:
        try:
            check_move(state, wanted)
        except AssertionError:
            continue
        state = wanted
        path.append(state)
    assert all(each not in TERMINAL for each in path[:-1])
    assert all(after in MOVES[before] for before, after in itertools.pairwise(path))
    if path[-1] is TaskState.COMPLETED:
        assert path[-2] is TaskState.RUNNING  # nothing completes that did not run


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(TaskState)), max_size=60))
def test_the_registrys_counts_agree_with_the_tasks_after_every_move(moves: list[tuple[int, TaskState]]) -> None:
    registry = Registry(max_pending=None, history=10, slots={lane: Slots(1) for lane in Lane})
    nobody: Any = SimpleNamespace(report_unretrieved=lambda *_: None)
    lanes = [Lane.LOOP, Lane.THREAD, Lane.THREAD, Lane.PROCESS]
    tasks: list[Task[Any]] = [Task(nobody, 0, Call(nothing, "f", lane), (), None, 1.0, 1.0) for lane in lanes]
    with registry.lock:
        for task in tasks:
            registry.admit_locked(task)
        for number, state in moves:
            task = tasks[number]
            before = task.state
            try:
                registry.move_locked(task, state)
            except AssertionError:
                assert state not in MOVES[before]
                assert task.state is before
            for lane in Lane:
                for each in TaskState:
                    there = sum(task.state is each for task in tasks if task.lane is lane)
                    assert registry.counts[lane][each] == there
