"""Pickling by value with cloudpickle, the library loky uses; imported only when something needs it (about 20 ms)."""

import io
from typing import Any

import cloudpickle

from .pickling import MEMORY, _Buffers

__all__ = ["ValuePickler"]


class ValuePickler(cloudpickle.Pickler, _Buffers):  # type: ignore[misc]  # cloudpickle has no types
    """A cloudpickle pickler that keeps big buffers outside, as ``Packer`` does."""

    def __init__(self) -> None:
        self.file = io.BytesIO()
        self.kind = MEMORY
        self.plain = False
        self.buffers = []
        super().__init__(self.file, 5, buffer_callback=self.take)

    def reducer_override(self, obj: Any) -> Any:
        """Reduce lifted buffers ourselves, everything else as cloudpickle does."""
        reduced = self.reduce_buffer(obj)
        return super().reducer_override(obj) if reduced is NotImplemented else reduced
