"""Fixtures of the unit tests."""

from collections.abc import Iterator

import pytest

from tests.unit.gates import Gate


@pytest.fixture
def gate() -> Iterator[Gate]:
    """Give a gate that is open at the end, so that nothing is left behind it."""
    gate = Gate()
    yield gate
    gate.opened.set()


@pytest.fixture
def stubborn() -> Iterator[Gate]:
    """Give a gate whose coroutine swallows its cancellation."""
    gate = Gate(swallows=1)
    yield gate
    gate.opened.set()
