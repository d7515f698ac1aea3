"""Functions that travel by value, whose names come to stand for something else; classes that come home."""

import enum
import functools
import gc
import pickle
import threading
import types
import uuid
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from cloudpickle import cloudpickle as inside

from engine import Engine, PickleError
from engine._lanes._process.functions import Functions, is_importable
from engine._lanes._process.names import is_as_it_was, names_in
from engine._wire import by_value

CELLS = """
OFFSET = 1

def helper(n):
    return n + OFFSET

@functools.lru_cache
def cached(n):
    return helper(n)

class Base:
    def value(self):
        return helper(1)

class Point(Base):
    @staticmethod
    def static():
        return helper(1)

    @classmethod
    def of_class(cls):
        return helper(1)

    @property
    def of_object(self):
        return helper(1)

def closed_over():
    inner = helper
    def outer():
        return inner(1)
    return outer

direct = lambda: OFFSET
through = lambda: helper(1)
nested = lambda: [(lambda: helper(1))() for _ in range(1)][0]
of_cached = lambda: cached(1)
of_static = lambda: Point.static()
of_class = lambda: Point.of_class()
of_object = lambda: Point().of_object
of_base = lambda: Point().value()
of_cell = closed_over()
"""


def cells(**more: Any) -> dict[str, Any]:
    """Give the names of a notebook in which the cells above were run."""
    namespace: dict[str, Any] = {"__name__": "__main__", "functools": functools} | more
    exec(CELLS, namespace)
    return namespace


FUNCTIONS = ["direct", "through", "nested", "of_cached", "of_static", "of_class", "of_object", "of_base", "of_cell"]


@pytest.mark.parametrize("backend", ["native", "loky"])
def test_a_later_submit_sees_what_its_names_stand_for_by_then(backend: Any) -> None:
    """E85: in a notebook a setting, a helper or an import is mended in a cell of its own."""
    with Engine(processes=1, process_backend=backend) as engine:
        for name in FUNCTIONS:
            namespace = cells()
            function = namespace[name]
            before, namespace["OFFSET"] = engine.run(function), 10
            after = engine.run(function)
            assert (name, before, after) == ((name, 1, 10) if name == "direct" else (name, 2, 11))


def test_a_name_that_was_missing_is_found_at_the_next_submit() -> None:
    """E85: NameError, then the import that was forgotten; PickleError, then something that can be pickled."""
    namespace = cells()
    exec("def late():\n    return math.pi + OFFSET", namespace)
    with Engine(processes=1) as engine:
        with pytest.raises(NameError, match="math"):
            engine.run(namespace["late"])
        exec("import math", namespace)
        assert engine.run(namespace["late"]) == pytest.approx(4.14159, rel=1e-4)
        namespace["OFFSET"] = threading.Lock()
        with pytest.raises(PickleError):
            engine.run(namespace["late"])
        del namespace["OFFSET"]
        with pytest.raises(NameError, match="OFFSET"):
            engine.run(namespace["late"])


def test_a_snapshot_is_replaced_only_at_a_submit_and_only_if_a_name_of_it_changed() -> None:
    """E85: what the worker keeps for a function stays, as long as nothing of it changes here."""
    namespace, functions = cells(), Functions()
    first = functions.get(namespace["through"], "through", in_submit=True)
    namespace["Point"] = None  # no name of it
    assert functions.get(namespace["through"], "through", in_submit=True) is first
    namespace["OFFSET"] = 2
    assert functions.get(namespace["through"], "through") is first
    second = functions.get(namespace["through"], "through", in_submit=True)
    assert first is not None
    assert second is not None
    assert second.number != first.number
    assert functions.take_forgotten() == [first.number]
    assert functions.get(namespace["through"], "through", in_submit=True) is second


def test_names_of_what_travels_by_name_are_none_of_it() -> None:
    names = names_in(lambda: functools.partial(cells), is_importable)
    assert sorted(name for _, name, _ in names) == ["cells", "functools"]
    assert is_as_it_was(names)
    assert names_in(len, is_importable) == ()


HOME = """
OFFSET = 1
Kind = enum.Enum("Kind", ["A"], module=__name__)

class Point:
    made = 0
    def value(self):
        return OFFSET

def make():
    return Point(), Kind.A
"""


@pytest.mark.parametrize("backend", ["native", "loky"])
def test_a_class_that_comes_back_with_a_result_changes_nothing_where_it_was_defined(backend: Any) -> None:
    """E88: its methods were replaced by copies with globals of their own, and its attributes set back."""
    namespace: dict[str, Any] = {"__name__": "__main__", "enum": enum}
    exec(HOME, namespace)
    Point, Kind = namespace["Point"], namespace["Kind"]
    value = Point.value
    with Engine(processes=1, process_backend=backend) as engine:
        point, kind = engine.run(namespace["make"])
        assert type(point) is Point
        assert kind is Kind.A
        assert Point.value is value
        namespace["OFFSET"], Point.made = 2, 7
        assert point.value() == 2
        back = engine.run(Point.value, engine.run(namespace["make"])[0])
        assert (back, Point.made, Point.value is value) == (2, 7, True)
        # One that is defined in the worker is filled here, and stays what it is.
        exec("def define():\n    class Other:\n        held = 5\n    return Other", namespace)
        other = engine.run(namespace["define"])
        other.held = 6
        assert engine.run(lambda each: each.held, other) == 5


def test_a_class_that_the_collector_takes_while_it_comes_again_is_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    """E85: 1. A worker knows a class that nobody has. 2. It comes again. 3. The collector takes the old one."""
    identity = uuid.uuid4().hex

    def comes() -> type:
        bare = by_value._class_of(inside._make_skeleton_class, (type, "Guest", (), {}, identity, None))
        return by_value._set_class(bare, ({"value": 1}, {}))

    first: Any = comes()
    first.itself = first  # garbage in a cycle, once it is dropped
    gone = weakref.ref(first)
    true = types.new_class

    def collect_and_make(*args: Any) -> type:
        gc.collect()
        return true(*args)

    monkeypatch.setattr(inside.types, "new_class", collect_and_make)
    del first
    again: Any = comes()
    assert again.value == 1
    del again
    gc.collect()
    assert gone() is None


CACHED = """
import functools, pickle
@functools.lru_cache
def model(n):
    return n + 1

class Doc:
    @functools.cache
    def size(self):
        return model(1)

class Failed(Exception):
    def tokens(self):
        return model(1)

def parse(n):
    return Doc()

def fail(n):
    raise Failed("no")
"""


@pytest.mark.parametrize("backend", ["native", "loky"])
def test_what_reaches_a_cached_function_comes_home(backend: Any) -> None:
    """E88: an object of a class whose methods use one, or are one; and an exception, as its class."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(CACHED, namespace)
    with Engine(processes=1, process_backend=backend) as engine:
        assert engine.run(namespace["parse"], 1).size() == 2
        with pytest.raises(namespace["Failed"], match="no"):
            engine.run(namespace["fail"], 1)


def test_a_global_that_cannot_travel_is_named() -> None:
    namespace = cells(lock=threading.Lock())
    exec("def uses_lock():\n    with lock: return OFFSET", namespace)
    with Engine(processes=1) as engine, pytest.raises(PickleError, match="which its global 'lock' is or holds; create"):
        engine.run(namespace["uses_lock"])


def test_a_function_that_uses_its_engine_is_told_what_to_do_once() -> None:
    namespace = cells()
    exec("def uses_engine():\n    return ENGINE.run(abs, -1)", namespace)
    with Engine(processes=1) as engine:
        namespace["ENGINE"] = engine
        with pytest.raises(PickleError) as caught:
            engine.run(namespace["uses_engine"])
    assert "got its global 'ENGINE': PickleError: expected picklable arguments, got a" in str(caught.value)
    assert str(caught.value).endswith("return what is to be done next, or use lane='thread'")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("def prepare():\n    global MODEL\n    MODEL = 1", "'MODEL'"),
        ("def prepare():\n    settings.update(factor=10)", "'settings'"),
        ("def prepare():\n    return OFFSET", None),
    ],
)
def test_an_initializer_that_no_task_would_see_is_told_so(
    text: str, names: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """E85: a function of the main program has globals of its own, and so has its initializer."""
    namespace = cells(settings={})
    exec(text, namespace)
    with Engine(processes=1, initializer=namespace["prepare"]) as engine:
        assert engine.run(abs, -1) == 1
    said = [record.getMessage() for record in caplog.records]
    assert (names is None and not said) or (names is not None and f"whose global {names} no task will see" in said[0])


def test_a_submit_gets_no_snapshot_that_another_thread_has_begun_before_a_name_changed() -> None:
    """E94: two threads submit, and a name changes between them; the first one's snapshot is ready first."""
    namespace, functions = cells(), Functions()
    begun, changed = threading.Event(), threading.Event()

    class Value:
        def __init__(self, number: int, act: Callable[[], object]) -> None:
            self.number, self.act = number, act

        def __reduce__(self) -> tuple[type[int], tuple[int]]:
            self.act()
            return int, (self.number,)

    def get() -> int:
        entry = functions.get(namespace["direct"], "direct", in_submit=True)
        assert entry is not None
        assert entry.error is None
        value = pickle.loads(pickle.loads(entry.definition)[1])()
        assert type(value) is int
        return value

    def wait_for_the_change() -> None:
        begun.set()
        assert changed.wait(30)

    got: list[int] = []
    first = threading.Thread(target=lambda: got.append(get()))

    def let_the_first_end() -> None:
        changed.set()
        first.join(30)

    get()
    namespace["OFFSET"] = Value(2, wait_for_the_change)
    first.start()
    assert begun.wait(30)
    namespace["OFFSET"] = Value(3, let_the_first_end)
    assert get() == 3
    assert got == [2]
    namespace["OFFSET"] = 4
    assert get() == 4
