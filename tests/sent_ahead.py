"""Workers that hold several tasks at once, whatever these cost: in place of the measured work that lies there else."""

import math

import pytest

from engine._lanes._process import ahead, pool

__all__ = ["send_ahead"]


def send_ahead(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Have each worker sent ``count`` tasks, and keep them: none is taken back from behind one that takes long."""
    monkeypatch.setattr(pool, "SEND_AHEAD", count)
    monkeypatch.setattr(ahead, "EXPECTED_SECONDS", math.inf)
