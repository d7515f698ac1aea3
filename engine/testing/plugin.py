"""Fixtures for pytest. Say ``pytest_plugins = ["engine.testing.plugin"]`` in the top ``conftest.py``.

``engine`` is a small real engine, ``inline_engine`` one of one thread in virtual time; with ``assert_no_leaks`` a
test leaves nothing. ``@pytest.mark.engine(...)`` gives both engines settings, and so does a fixture
``engine_settings`` of your own, for a module or a project.

Nothing of the engine is imported before a test asks for a fixture.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .. import BlockingEngine
    from . import InlineEngine, VirtualClock

__all__ = ["assert_no_leaks", "engine", "engine_settings", "inline_engine", "virtual_clock"]

#: What the inline engine takes and the real one does not.
_INLINE_ONLY = ("autorun", "check_pickle", "clock", "rng")

if "engine.testing._lane" not in sys.modules:  # or pytest would warn that it comes too late
    pytest.register_assert_rewrite("engine.testing._lane")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", "engine(**settings): settings for the fixtures engine and inline_engine")


@pytest.fixture
def engine_settings() -> dict[str, Any]:
    """Give settings for ``engine`` and ``inline_engine``; override it to say more. A marker wins over it."""
    return {}


def _settings(request: pytest.FixtureRequest, settings: dict[str, Any]) -> dict[str, Any]:
    """Return what the fixture and the markers say, the closest marker last."""
    said = dict(settings)
    for mark in reversed(list(request.node.iter_markers("engine"))):
        if mark.args:
            raise TypeError(f"expected settings by name, got {mark.args!r}; say @pytest.mark.engine(processes=1)")
        said |= mark.kwargs
    return said


@pytest.fixture
def engine(request: pytest.FixtureRequest, engine_settings: dict[str, Any]) -> Iterator[BlockingEngine]:
    """Give a real BlockingEngine with 2 worker processes and 4 threads, which is stopped after the test.

    What the test left running is cancelled then, not waited for.
    """
    from .. import BlockingEngine

    settings = {"processes": 2, "threads": 4, **_settings(request, engine_settings)}
    engine = BlockingEngine(**{name: value for name, value in settings.items() if name not in _INLINE_ONLY}).start()
    try:
        yield engine
    finally:
        engine.stop(timeout=0)


@pytest.fixture
def virtual_clock() -> VirtualClock:
    """Give the clock of ``inline_engine``."""
    from . import VirtualClock

    return VirtualClock()


@pytest.fixture
def inline_engine(
    request: pytest.FixtureRequest, engine_settings: dict[str, Any], virtual_clock: VirtualClock
) -> Iterator[InlineEngine]:
    """Give an InlineEngine on ``virtual_clock``, which is stopped after the test; what still waits is cancelled."""
    from . import InlineEngine

    engine = InlineEngine(**{"clock": virtual_clock, **_settings(request, engine_settings)}).start()
    try:
        yield engine
    finally:
        engine.stop(timeout=0)


@pytest.fixture
def assert_no_leaks() -> Iterator[None]:
    """Fail the test if it leaves a thread, process, zombie, descriptor or shared memory; name it before the others."""
    from .leaks import PATIENCE, Leftovers

    leftovers = Leftovers()
    yield
    if left := leftovers.names(PATIENCE):
        pytest.fail("the test left behind:\n  " + "\n  ".join(left), pytrace=False)
