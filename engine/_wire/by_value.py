"""Pickling by value with cloudpickle, the library loky uses; imported only when something needs it (about 20 ms)."""

import functools
import io
from collections.abc import Callable
from typing import Any

import cloudpickle

from .pickling import MEMORY, BoundedWriter, Cached, _Buffers, is_by_value

__all__ = ["ValuePickler"]


class _Cell:
    """Holds the function inside a rebuilt cache. It exists before its contents: a cached function may name itself."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.fn(*args, **kwargs)


class WholePickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """A cloudpickle pickler that also takes functions under ``functools.cache`` or ``lru_cache``, with empty caches."""

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
            return _cached, (cell, parameters["maxsize"], parameters["typed"])
        return super().reducer_override(obj)


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


def _cached(cell: _Cell, maxsize: int | None, typed: bool) -> Any:
    return functools.lru_cache(maxsize, typed)(cell)
