"""A batch of joblib's as it travels: a pickle, the buffers beside it, and the big arrays that tasks read in common.

As with joblib's own process backend, functions and classes that have no importable name travel by value, an array in a
mapped file travels as the place of it, and a big array is read-only where it arrives, one for all that are given it.
"""

import io
import pickle
import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cloudpickle
from joblib import _memmapping_reducer as of_joblib  # private, but what it says of mapped files is what joblib does

from engine import Shared, ShareError

__all__ = ["Arrays", "Parcel", "pack"]

_LEAST_BYTES = 64 << 10  #: what ``share`` keeps apart


@dataclass(slots=True)
class Parcel:
    """One batch, ready to be sent."""

    payload: bytes = b""
    buffers: list[pickle.PickleBuffer] = field(default_factory=list)
    shared: list[Shared[Any]] = field(default_factory=list)  #: to be held until the batch is done


class Arrays:
    """The big arrays of one call of ``Parallel``; one that a second batch is given is shared from then on.

    An array that one task alone has is not worth a descriptor and another copy. Arrays are known by identity, as
    joblib knows them: one that is changed between two tasks is shared as it was at first.
    """

    def __init__(self, share: Callable[[Any], Shared[Any]], max_nbytes: int | None) -> None:
        self._share = share
        self._least = None if max_nbytes is None else max(max_nbytes, _LEAST_BYTES)
        self._seen: dict[int, tuple[weakref.ref[Any], Shared[Any] | None]] = {}

    def clear(self) -> None:
        """Forget them all."""
        self._seen.clear()

    def is_big(self, array: Any) -> bool:
        """Say whether ``array`` is to be shared once several batches have it."""
        return self._least is not None and array.nbytes >= self._least and _can_be_shared(array)

    def shared(self, array: Any) -> Shared[Any] | None:
        """Return what stands for a big array in this batch; None if it is to travel by itself."""
        key = id(array)
        seen = self._seen.get(key)
        if seen is None:
            self._seen[key] = weakref.ref(array, lambda _: self._seen.pop(key, None)), None
            return None
        reference, shared = seen
        if shared is None:
            try:
                shared = self._share(array)
            except ShareError:  # no room or no descriptor for it
                return None
            self._seen[key] = reference, shared
        return shared


def _can_be_shared(array: Any) -> bool:
    """Say whether ``share`` keeps the contents of ``array`` apart."""
    return array.flags.forc and array.dtype.kind not in "OMm" and not array.dtype.hasobject


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    def __init__(self, file: io.BytesIO, parcel: Parcel, arrays: Arrays) -> None:
        super().__init__(file, 5, buffer_callback=parcel.buffers.append)
        self._parcel = parcel
        self._arrays = arrays
        self._numpy: Any = sys.modules.get("numpy")  # else nothing here is an array

    def reducer_override(self, obj: Any) -> Any:
        """Reduce arrays ourselves, everything else as cloudpickle does."""
        if self._numpy is not None and isinstance(obj, self._numpy.ndarray):
            mapped = of_joblib._get_backing_memmap(obj)
            if isinstance(mapped, self._numpy.memmap) and mapped.filename is not None:
                return of_joblib._reduce_memmap_backed(obj, mapped)
            if type(obj) is self._numpy.ndarray and self._arrays.is_big(obj):
                shared = self._arrays.shared(obj)
                if shared is not None:
                    self._parcel.shared.append(shared)
                    return shared.__reduce__()
                sealed = obj.view()
                sealed.flags.writeable = False
                return sealed.__reduce_ex__(5)
        return super().reducer_override(obj)


def pack(batch: Callable[[], Any], arrays: Arrays) -> Parcel:
    """Pack ``batch``; raises what the pickling of it raises."""
    parcel = Parcel()
    file = io.BytesIO()
    _Pickler(file, parcel, arrays).dump(batch)
    parcel.payload = file.getvalue()
    return parcel
