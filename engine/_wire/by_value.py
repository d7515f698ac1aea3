"""Pickling by value with cloudpickle, the library loky uses; imported only when something needs it (about 20 ms)."""

import functools
import io
import weakref
from collections.abc import Callable
from typing import Any

import cloudpickle
from cloudpickle import cloudpickle as inside

from .pickling import MEMORY, BoundedWriter, Cached, _Buffers, is_by_value

__all__ = ["ValuePickler"]


class _Cell:
    """Holds the function inside a rebuilt cache. It exists before its contents: a cached function may name itself."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.fn(*args, **kwargs)


class WholePickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """A cloudpickle pickler that also takes functions under ``functools.cache`` or ``lru_cache``, with empty caches.

    A class that comes back to the process that has defined it changes nothing there: cloudpickle knows it again, but
    sets every attribute anew, to methods whose globals are copies.
    """

    def __init__(
        self, file: io.BytesIO, most: int | None = None, between: Callable[[], object] | None = None, **options: Any
    ) -> None:
        self._cells: dict[int, tuple[Any, _Cell]] = {}
        super().__init__(BoundedWriter(file, most, between), 5, **options)

    def reducer_override(self, obj: Any) -> Any:
        """Reduce a cached function of ours, everything else as cloudpickle does."""
        if type(obj) is Cached and is_by_value(obj):
            cell = self._cells.setdefault(id(obj), (obj, _Cell(obj.__wrapped__)))[1]
            parameters = obj.cache_parameters()
            return _cached, (cell, parameters["maxsize"], parameters["typed"], _names_of(obj))
        reduced = super().reducer_override(obj)
        if type(reduced) is tuple and reduced[0] in _MAKERS:
            make, arguments, state, *_ = reduced
            return _class_of, (make, arguments), state, None, None, _set_class
        return reduced


class ValuePickler(WholePickler, _Buffers):
    """The same, keeping big buffers outside, as ``Packer`` does."""

    def __init__(self, most: int | None, between: Callable[[], object] | None) -> None:
        self.file = io.BytesIO()
        self.kind = MEMORY
        self.plain = False
        self.buffers = []
        self.raw_bytes = 0
        super().__init__(self.file, most, between, buffer_callback=self.take)

    def reducer_override(self, obj: Any) -> Any:
        """Reduce lifted buffers ourselves."""
        reduced = self.reduce_buffer(obj)
        return super().reducer_override(obj) if reduced is NotImplemented else reduced


def _names_of(fn: Any) -> dict[str, Any]:
    """Return by what names people and pickle know ``fn``."""
    return {name: getattr(fn, name) for name in ("__module__", "__name__", "__qualname__") if hasattr(fn, name)}


def _cached(cell: _Cell, maxsize: int | None, typed: bool, names: dict[str, Any]) -> Any:
    made = functools.lru_cache(maxsize, typed)(cell)
    made.__dict__.update(names)
    return made


_MAKERS = (inside._make_skeleton_class, inside._make_skeleton_enum)
_guests: weakref.WeakSet[type] = weakref.WeakSet()  #: classes that another process has defined


def _class_of(make: Callable[..., type], arguments: tuple[Any, ...]) -> type:
    """Return the class that is known by its id here, or a new one, to be filled."""
    known = inside._DYNAMIC_CLASS_TRACKER_BY_ID.get(arguments[-2])  # held, or the collector may take it meanwhile
    made = make(*arguments)
    if made is not known:
        _guests.add(made)
    return made


def _set_class(made: type, state: Any) -> type:
    """Fill ``made``, or bring it up to date; not where it was defined."""
    if made in _guests:
        inside._class_setstate(made, state)
    return made
