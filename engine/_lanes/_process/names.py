"""The global names in a function that travels by value, and whether they still stand for what they stood for.

In a notebook a cell is mended and run again: an import that was forgotten, a helper, a setting. The functions that use
them stay as they are, so their names are looked up again at each submit, which takes some 40 ns each. What is changed
in place (an item of a dict, an attribute) is not seen: that would take a pickle of it each time.
"""

import dis
import functools
import itertools
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any

from ..._sigint import came_by_signal
from ..._wire.pickling import Cached

__all__ = ["Names", "culprit_in", "is_as_it_was", "names_in", "shared_by"]

Names = tuple[tuple[dict[str, Any], str, Any], ...]  #: namespace, name, and what it stood for

_MOST = 500  #: names that are looked at
_NOTHING: Any = object()  #: what a name stands for that is not there
_LOADS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})


def is_as_it_was(names: Names) -> bool:
    """Say whether each name still stands for the same object."""
    get = dict.get  # a namespace may be of a class of its own
    for namespace, name, value in names:  # noqa: SIM110  # a generator takes twice the time
        if get(namespace, name, _NOTHING) is not value:
            return False
    return True


def culprit_in(names: Names, dumps: Callable[[Any], object]) -> str:
    """Return the first of ``names`` whose value cannot be pickled by itself; empty if there is none.

    Raises:
        KeyboardInterrupt: Ctrl-C came meanwhile.
    """
    for _, name, value in names:
        try:
            if value is not _NOTHING:
                dumps(value)
        except BaseException as error:  # user code
            if came_by_signal(error):
                raise
            return name
    return ""


def names_in(fn: Callable[..., Any], is_by_name: Callable[[Any], bool]) -> Names:
    """Return the names that ``fn`` loads, and what it uses so in turn; nothing of what travels by name."""
    found: dict[tuple[int, str], tuple[dict[str, Any], str, Any]] = {}
    todo, seen = [fn], set()
    while todo and len(found) < _MOST:
        each = todo.pop()
        if id(each) in seen or is_by_name(each):
            continue
        seen.add(id(each))
        for function in _functions_of(each):
            namespace = function.__globals__
            for name in _loaded_by(function.__code__):
                value = dict.get(namespace, name, _NOTHING)
                found[id(namespace), name] = namespace, name, value
                if type(value) in (FunctionType, Cached) or issubclass(type(value), type):
                    todo.append(value)
            todo += [inner for inner in _held_by(function) if type(inner) in (FunctionType, Cached)]
    return tuple(itertools.islice(found.values(), _MOST))


def _functions_of(obj: Any) -> Iterator[FunctionType]:
    """Give the function in ``obj``, or the methods of a class."""
    members = [obj.__wrapped__ if type(obj) is Cached else obj]
    if issubclass(type(obj), type):
        members = list(type.__dict__["__dict__"].__get__(obj).values())
    for member in members:
        if type(member) in (staticmethod, classmethod):
            member = member.__func__
        for each in (member.fget, member.fset, member.fdel) if type(member) is property else (member,):
            if type(each) is FunctionType:
                yield each


def _held_by(function: FunctionType) -> Iterator[Any]:
    """Give what the cells of a closure hold."""
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # it is empty yet
            pass


@functools.lru_cache(maxsize=512)
def _loaded_by(code: CodeType) -> tuple[str, ...]:
    """Return the global names that ``code`` and the code inside it load."""
    names = {str(each.argval): None for each in dis.get_instructions(code) if each.opname in _LOADS}
    for inner in code.co_consts:
        if type(inner) is CodeType:
            names |= dict.fromkeys(_loaded_by(inner))
    return tuple(names)


def shared_by(fn: Callable[..., Any]) -> list[str]:
    """Return the global names through which ``fn`` seems to hand something on to other functions: it binds them, or
    uses the list, dict or set that they are.
    """
    shared: dict[str, None] = {}
    for function in _functions_of(fn):
        for each in dis.get_instructions(function.__code__):
            value = dict.get(function.__globals__, str(each.argval), _NOTHING)
            if each.opname == "STORE_GLOBAL" or (each.opname in _LOADS and type(value) in (dict, list, set)):
                shared[str(each.argval)] = None
    return list(shared)
