"""Functions as workers know them: pickled once, then named by a number.

Guarantees
    Shared: ``_entries``, ``_closures``.  Guarded by: ``_lock``, held for a few dict operations, never across pickling,
    which runs user code. Callers: any thread. Of two snapshots taken at once the first stored wins,
    unless a name of it has changed since.
    The table holds the function itself, so a number can never come to mean another one that got its ``id``. A snapshot
    whose global names stand for something else at a later submit is replaced, under a new number; tasks of the same
    function that have not been sent are sent with the new one.
"""

import math
import pickle
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from ..._routing import is_fleeting
from ..._sigint import came_by_signal
from ..._wire.pickling import Cached, dumps_by_value
from .names import Names, culprit_in, is_as_it_was, names_in

__all__ = ["Function", "Functions", "is_importable"]

MAX_FUNCTIONS = 500  #: the least recently used is forgotten beyond this
MAX_CLOSURES = 16  #: the same for closures and lambdas: the table keeps alive, here and there, what they hold


class Function:
    """One function, ready to be sent."""

    __slots__ = ("culprit", "definition", "error", "fn", "name", "names", "number", "seconds")

    def __init__(self, number: int, fn: Callable[..., Any]) -> None:
        self.number = number
        self.fn = fn  # held, so that the key stays taken
        self.name = ""  #: what its tasks are called unless they say otherwise
        self.definition = b""
        self.names: Names = ()  #: the global names that the definition was made with, if it travels by value
        self.error: BaseException | None = None  #: why it cannot be pickled
        self.culprit = ""  #: the global name that it is because of, where that is known
        self.seconds = math.inf  #: what one run takes: the recent peak, infinite until measured

    def measure(self, seconds: float) -> None:
        """Note the duration of one run: a longer one counts at once, shorter ones by and by."""
        if seconds > self.seconds or self.seconds == math.inf:
            self.seconds = seconds
        else:
            self.seconds += 0.1 * (seconds - self.seconds)

    def measure_row(self, durations: list[float]) -> None:
        """Note the durations of several runs: as ``measure`` for the longest, then for the others at their mean."""
        self.measure(longest := max(durations))
        others = len(durations) - 1
        if others:
            mean = (sum(durations) - longest) / others
            self.seconds += (1 - 0.9**others) * (mean - self.seconds)


def is_importable(fn: Any) -> bool:
    """Say whether another process finds this very object by its name."""
    module, path = getattr(fn, "__module__", None), getattr(fn, "__qualname__", "")
    if not isinstance(module, str) or module == "__main__" or "<" in path:
        return False
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    return found is fn


def is_keyed(fn: Any) -> bool:
    """Say whether ``fn`` is hashed by identity and so can be a key; the rest travels with its arguments."""
    return type(fn) in (FunctionType, Cached) or (
        type(fn) is BuiltinFunctionType and isinstance(fn.__self__, ModuleType)
    )


class Functions:
    """The functions that tasks use, the most recently used last."""

    def __init__(self, limit: int = MAX_FUNCTIONS) -> None:
        self._lock = threading.RLock()  # the collector may call us from inside (design/0002)
        self._entries: OrderedDict[Any, Function] = OrderedDict()
        self._closures: OrderedDict[Any, Function] = OrderedDict()
        self._limit = limit
        self._last = 0
        self.forgotten: list[int] = []  #: numbers that fell out and that workers need not remember; see take_forgotten
        self._recent: tuple[Any, Function | None] = (None, None)  #: the one used last, which so falls out last

    def get(self, fn: Callable[..., Any], name: str, *, in_submit: bool = False) -> Function | None:
        """Return the entry of ``fn``, taking its snapshot if this is the first time; None if it has no number.

        Raises:
            KeyboardInterrupt: Ctrl-C came while ``fn`` was pickled. It is the user's, and nothing is remembered; in
                ``submit`` nothing was accepted.
        """
        recent, entry = self._recent
        if recent is not fn or entry is None:
            if not is_keyed(fn):
                return None
            with self._lock:
                entries = self._table_of(fn)
                entry = entries.get(fn)
                if entry is not None:
                    entries.move_to_end(fn)
                    self._recent = fn, entry
        if entry is not None and not (in_submit and entry.names and not is_as_it_was(entry.names)):
            return entry
        stale, entry = entry, Function(0, fn)
        entry.name = name
        try:
            if is_importable(fn):
                pickled = pickle.dumps(fn, 5)
            else:
                entry.names = names_in(fn, is_importable)  # before they are pickled: what changes meanwhile is seen
                pickled = dumps_by_value(fn)
            entry.definition = pickle.dumps((name, pickled), 5)
        except BaseException as error:  # user code; it is raised on the task that uses the function
            is_main = threading.current_thread() is threading.main_thread()
            if came_by_signal(error) or (in_submit and is_main and isinstance(error, KeyboardInterrupt)):
                raise
            entry.error = error
            entry.culprit = culprit_in(entry.names, dumps_by_value)
        return self._store(entry, stale)

    def _store(self, entry: Function, stale: Function | None) -> Function:
        with self._lock:
            entries = self._table_of(entry.fn)
            known = entries.get(entry.fn)
            if known is not None and (known is stale or not is_as_it_was(known.names)):  # or came of older names
                self.forgotten.append(entries.pop(entry.fn).number)
            first = entries.setdefault(entry.fn, entry)
            self._recent = entry.fn, first
            if first is entry:
                self._last += 1
                entry.number = self._last
                if len(entries) > (self._limit if entries is self._entries else MAX_CLOSURES):
                    self.forgotten.append(entries.popitem(last=False)[1].number)
            return first

    def _table_of(self, fn: Any) -> OrderedDict[Any, Function]:
        return self._closures if is_fleeting(fn) else self._entries

    def take_forgotten(self) -> list[int]:
        """Return the numbers that fell out since the last call: workers need not remember them."""
        with self._lock:
            forgotten, self.forgotten = self.forgotten, []
            return forgotten
