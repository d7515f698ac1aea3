"""The fixtures of ``engine.testing.plugin``, in runs of pytest of their own."""

import os
from pathlib import Path

import pytest

import engine
from tests.unit.test_public_names import in_new_interpreter

pytest_plugins = ["pytester"]

CONFTEST = 'pytest_plugins = ["engine.testing.plugin"]'


@pytest.fixture(autouse=True)
def _finds_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have other interpreters find the engine that these tests see, installed or not."""
    where = str(Path(engine.__path__[0]).parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [where, os.environ.get("PYTHONPATH")])))


def run(pytester: pytest.Pytester, *args: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", "--strict-markers", "-W", "error", *args, timeout=60)


def test_the_fixtures_give_engines_and_leave_nothing(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(
        """
        import asyncio, os, threading, time
        import pytest
        from engine import BlockingEngine, Retry, TaskTimeout
        from engine.testing import InlineEngine, VirtualClock

        pytestmark = pytest.mark.usefixtures("assert_no_leaks")
        kept = []

        def test_a_real_engine(engine):
            assert type(engine) is BlockingEngine
            lanes = engine.snapshot().lanes
            assert (lanes["process"].slots, lanes["thread"].slots) == (2, 4)
            assert engine.run(os.getpid) != os.getpid()

        def test_what_runs_at_the_end_is_not_waited_for(engine):
            kept.append(engine.submit(time.sleep, 600))

        def test_it_was_cancelled():
            assert kept[0].cancelled()

        @pytest.mark.engine(processes=1, max_pending=7, check_pickle=True)
        def test_a_marker_says_more(engine, inline_engine):
            assert engine.snapshot().lanes["process"].slots == 1
            assert inline_engine.snapshot().lanes["process"].slots == 1

        def test_an_inline_engine(inline_engine, virtual_clock):
            assert type(inline_engine) is InlineEngine
            assert inline_engine.clock is virtual_clock
            assert inline_engine.run(os.getpid) == os.getpid()
            task = inline_engine.options(timeout=30).submit(asyncio.sleep, 60)
            virtual_clock.advance(60)
            assert isinstance(task.exception(), TaskTimeout)

        @pytest.mark.engine(autorun=False)
        class TestOneByOne:
            def test_the_class_says_so(self, inline_engine):
                task = inline_engine.submit(abs, -1)
                assert not task.done()
                assert inline_engine.run_next() is task

            @pytest.mark.engine(autorun=True)
            def test_the_closer_marker_wins(self, inline_engine):
                assert inline_engine.submit(abs, -1).done()
        """
    )
    result = run(pytester)
    result.assert_outcomes(passed=7)


def test_a_fixture_of_ones_own_says_more_and_one_of_that_name_wins(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        CONFTEST
        + """
import pytest

@pytest.fixture
def engine_settings():
    return {"processes": 1, "history": 3}

@pytest.fixture
def engine():
    return "a database's"
"""
    )
    pytester.makepyfile(
        """
        import pytest

        def test_settings(inline_engine):
            inline_engine.run(abs, -1)
            assert inline_engine.snapshot().lanes["process"].slots == 1

        @pytest.mark.engine(processes=3)
        def test_a_marker_wins(inline_engine):
            assert inline_engine.snapshot().lanes["process"].slots == 3

        def test_the_users_own(engine):
            assert engine == "a database's"
        """
    )
    run(pytester).assert_outcomes(passed=3)


def test_what_is_wrong_is_said(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(
        """
        import threading
        import pytest
        import engine.testing.leaks

        @pytest.fixture
        def hurry(monkeypatch):
            monkeypatch.setattr("engine.testing.leaks.PATIENCE", 0.05)
        kept = threading.Event()

        @pytest.mark.engine(3)
        def test_marker(inline_engine):
            pass

        @pytest.mark.engine(process=3)
        def test_setting(inline_engine):
            pass

        def test_leak(hurry, assert_no_leaks):
            threading.Thread(target=kept.wait, name="forgotten").start()

        def test_after():
            kept.set()
        """
    )
    result = run(pytester)
    result.assert_outcomes(passed=2, errors=3)
    result.stdout.fnmatch_lines_random(
        [
            "*expected settings by name, got (3,); say @pytest.mark.engine(processes=1)",
            "*options of Engine *, got 'process'*",
            "*the test left behind:*",
            "*thread <Thread(forgotten, started*",
        ]
    )


def test_the_fixtures_are_listed_with_what_they_do(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    result = run(pytester, "--fixtures", "-q")
    for name in ("assert_no_leaks", "engine", "engine_settings", "inline_engine", "virtual_clock"):
        result.stdout.fnmatch_lines(f"{name} -- *")


def test_the_plugin_costs_nothing_until_a_fixture_is_asked_for() -> None:
    code = """
import pytest, engine.testing.plugin
heavy = ["engine._engine", "engine._inline.engine", "engine.testing.leaks", "loky", "numpy", "asyncio.runners"]
print([name for name in heavy if name in sys.modules])
"""
    before = in_new_interpreter(code.replace(", engine.testing.plugin", ""))
    assert in_new_interpreter(code) == before


def test_the_rest_does_without_pytest() -> None:
    code = """
import engine.testing
for name in engine.testing.__all__:
    getattr(engine.testing, name)
print(engine.testing.__all__ == sorted(engine.testing.__all__), "pytest" in sys.modules, "numpy" in sys.modules)
"""
    assert in_new_interpreter(code).split() == ["True", "False", "False"]


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"module 'engine\.testing' has no attribute 'Inline'"):
        engine.testing.Inline  # noqa: B018  # the access is what is tested
    assert set(engine.testing.__all__) <= set(dir(engine.testing))
