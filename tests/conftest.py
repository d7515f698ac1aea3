"""What holds for every test: async tests run, nothing hangs for ever, nothing is left over."""

import asyncio
import importlib.util
import inspect
import signal
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import hypothesis
import pytest

pytest.register_assert_rewrite("engine.testing._lane")

from tests import support  # noqa: E402  # what it imports is rewritten

# A shell that starts the tests in the background has them ignore Ctrl-C, which they are about.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A deadline per example measures the machine; a failure is printed so that it can be replayed.
hypothesis.settings.register_profile("engine", deadline=None, print_blob=True)
hypothesis.settings.load_profile("engine")

# -- async tests ------------------------------------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an ``async def`` test in a loop of its own, with a time limit and no task left pending."""
    function = pyfuncitem.obj
    if hasattr(function, "hypothesis"):  # @given calls the inner test once per example; each has its own loop
        inner = function.hypothesis.inner_test
        if inspect.iscoroutinefunction(inner):
            function.hypothesis.inner_test = _synchronous(inner)
        return None
    if not inspect.iscoroutinefunction(function):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    _synchronous(function)(**arguments)
    return True


def _synchronous(test: Callable[..., Coroutine[Any, Any, object]]) -> Callable[..., None]:
    def call(*args: Any, **kwargs: Any) -> None:
        asyncio.run(support.run_async_test(lambda: test(*args, **kwargs)))

    return call


# -- benchmarks -------------------------------------------------------------------------------------------------------


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip the benchmarks unless they are what the run is for."""
    if config.getoption("benchmark_only", default=False):
        return
    skip = pytest.mark.skip(reason="a benchmark; run it with tox -e bench, or with --benchmark-only")
    for item in items:
        if "benchmarks" in item.path.parts:
            item.add_marker(skip)


# -- nothing is left --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session", autouse=True)
def _descriptors_that_stay() -> None:
    """Open beforehand what a library opens once and keeps, so that no test is blamed for it."""
    if importlib.util.find_spec("uvloop"):
        import uvloop  # libuv keeps one pipe for signals from its first loop on

        uvloop.new_event_loop().close()


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Fail a test that leaves a thread, a child process, a zombie or a file descriptor (asyncio tasks: see above)."""
    leftovers = support.Leftovers()
    yield
    if left := leftovers.names(support.LEAK_PATIENCE):
        pytest.fail("the test left behind:\n  " + "\n  ".join(left), pytrace=False)


# -- tools ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """Give ``support.eventually``."""
    return support.eventually


@pytest.fixture
def eventually_async() -> Callable[..., Coroutine[Any, Any, Any]]:
    """Give ``support.eventually_async``."""
    return support.eventually_async
