"""Each test of CPython's executors is one here, under the same name; where no CPython 3.13 is found, none is run."""

from collections.abc import Callable, Iterator

import pytest

from tests.compat import children, expected, suite
from tests.support import LEAK_PATIENCE, Leftovers

FOUND = suite.find()
if FOUND.folder is None:
    pytest.skip(FOUND.why_not, allow_module_level=True)

FOLDER = FOUND.folder
NAMES = children.tests_of(FOLDER)
TESTS = [pytest.param(kind, name, id=name) for kind, names in NAMES.items() for name in names]


@pytest.fixture
def nothing_left() -> None:
    """Leave it to the children to see what a test left behind: the others are at work meanwhile."""


@pytest.fixture(scope="module")
def running(
    request: pytest.FixtureRequest, record_testsuite_property: Callable[[str, object], None]
) -> Iterator[children.Children]:
    """Give the children that run the chosen tests, begun when the first of them is; nothing is left of them."""
    record_testsuite_property("cpython", suite.version(FOLDER))
    leftovers = Leftovers()
    chosen = {item.nodeid.partition("[")[2].removesuffix("]") for item in request.session.items}
    started = children.Children(FOLDER, [name for names in NAMES.values() for name in names if name in chosen])
    yield started
    started.stop()
    if left := leftovers.names(LEAK_PATIENCE):
        pytest.fail("the children left behind:\n  " + "\n  ".join(left), pytrace=False)


@pytest.mark.parametrize(("kind", "name"), TESTS)
def test_cpython(running: children.Children, kind: str, name: str) -> None:
    result, reason = running.result(name), expected.read()[kind].get(name)
    if wrong := expected.complaint(result, reason):
        pytest.fail(wrong, pytrace=False)
    if reason is not None:
        pytest.xfail(reason)


def test_what_does_not_apply_is_of_the_suite() -> None:
    unknown = {kind: sorted(reasons.keys() - set(NAMES[kind])) for kind, reasons in expected.read().items()}
    assert unknown == {kind: [] for kind in NAMES}
