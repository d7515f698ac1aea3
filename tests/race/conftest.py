"""What race tests share: a printed seed, and threads that switch often."""

import os
import random
import sys
from collections.abc import Iterator

import pytest


@pytest.fixture
def rng() -> random.Random:
    """Give the randomness of a test, its seed printed; ``ENGINE_SEED`` replays it as far as threads can be replayed."""
    seed = int(os.environ.get("ENGINE_SEED") or random.randrange(2**32))
    print(f"ENGINE_SEED={seed}")
    return random.Random(seed)


@pytest.fixture
def switching() -> Iterator[None]:
    """Have threads switch every few bytecodes, so that an interleaving of one in a million comes soon."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)
