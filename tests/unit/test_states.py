"""The table of moves says exactly what the design's table says."""

import itertools

import pytest

from engine import Priority, TaskState
from engine._states import MOVES, TERMINAL, check_move

PENDING, RUNNING = TaskState.PENDING, TaskState.RUNNING
COMPLETED, FAILED, CANCELLED = TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED

LEGAL = {
    (PENDING, RUNNING),
    (PENDING, CANCELLED),
    (PENDING, FAILED),
    (RUNNING, COMPLETED),
    (RUNNING, FAILED),
    (RUNNING, CANCELLED),
    (RUNNING, PENDING),
}


@pytest.mark.parametrize(("old", "new"), list(itertools.product(TaskState, repeat=2)))
def test_a_move_is_legal_exactly_where_the_design_says(old: TaskState, new: TaskState) -> None:
    if (old, new) in LEGAL:
        check_move(old, new)
    else:
        with pytest.raises(AssertionError, match=f"expected a legal move from {old.value}, got {new.value}"):
            check_move(old, new)


def test_every_state_has_a_row_and_no_terminal_state_has_a_way_out() -> None:
    assert set(MOVES) == set(TaskState)
    assert {state for state, after in MOVES.items() if not after} == TERMINAL == {COMPLETED, FAILED, CANCELLED}


def test_priorities_are_ordered() -> None:
    assert Priority.LOW < Priority.NORMAL < Priority.HIGH
    assert int(Priority.NORMAL) == 0
