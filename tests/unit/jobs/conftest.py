"""Fixtures of the tests of durable jobs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.jobs import Jobs, MemoryStore


@pytest.fixture(params=["memory", "file"])
def jobs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Jobs]:
    """Give a Jobs in memory, then one in a file."""
    with Jobs(MemoryStore() if request.param == "memory" else tmp_path / "jobs.db", lease=5.0) as opened:
        yield opened
