"""What the contracts share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.job_books import KITS, Desk, Kit


@pytest.fixture(params=list(KITS.values()), ids=list(KITS))
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    """Give a desk with each book in turn."""
    kit: Kit = request.param
    with kit(tmp_path) as transaction:
        yield Desk(transaction)
