"""What the README lists of a value is all that the value has."""

import dataclasses

import pytest

from engine import LaneSnapshot, ShutdownReport, Snapshot, WorkerInfo
from tests.support import REPOSITORY


@pytest.mark.parametrize("kind", [Snapshot, LaneSnapshot, WorkerInfo, ShutdownReport])
def test_the_readme_names_every_field(kind: type) -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert [field.name for field in dataclasses.fields(kind) if f"`{field.name}`" not in readme] == []
