"""The power fails: files as they may be found after it, made of what was written and synchronised until then."""

import random
from pathlib import Path

import pytest

from stress import job_power

IMAGES = 20  #: ``python -m stress job_power`` has more
SEED = 11


@pytest.mark.parametrize("synchronous", ["full", "normal"])
def test_what_was_acknowledged_survives_a_power_failure(tmp_path: Path, synchronous: str) -> None:
    """Q3: seeded instants; with FULL all that was acknowledged is there, with NORMAL a whole beginning of it."""
    with job_power.recording() as log:
        steps = job_power.work(tmp_path / "jobs.db", synchronous, log)
    assert any(step.what == "write" and step.name == "jobs.db-wal" for step in steps)
    rng = random.Random(SEED)
    first = next(index for index, step in enumerate(steps) if step.what == "acknowledged")
    assert any(step.what == "write" and step.name == "jobs.db" for step in steps[first:])  # a checkpoint
    missing = 0
    for number in range(IMAGES):
        folder = tmp_path / str(number)
        folder.mkdir()
        faults, went = job_power.check_image(folder, steps[: rng.randrange(first, len(steps))], rng)
        assert faults == [], number
        missing += went
    assert missing == 0 if synchronous == "full" else missing > 0, missing
