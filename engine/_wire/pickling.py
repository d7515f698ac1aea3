"""Pickling that is quick for small things and leaves big buffers alone.

A ``Packer`` turns an object into a short pickle and a list of raw buffers; ``unpack`` turns both back. Buffers of at
least ``RAW_BYTES`` stay outside: those that pickle protocol 5 offers (NumPy arrays ...), and ``bytes`` and
``bytearray`` that are themselves an argument or the result (``lift``), which pickle would copy twice.

What exceeds ``MAX_PAYLOAD_BYTES`` is refused: buffers before they are touched, the rest when so much of it has been
written.

Guarantees
    A Packer belongs to one thread at a time; being entered again (by a ``__reduce__`` that packs) is fine.
"""

import functools
import io
import pickle
from collections.abc import Callable, Sequence
from types import FunctionType, NoneType
from typing import Any, NamedTuple

from ..errors import PayloadTooLarge
from .frames import MAX_PAYLOAD_BYTES, MAX_SEGMENTS
from .harmless import is_harmless, known_harmless

__all__ = [
    "BYTEARRAY",
    "BYTES",
    "MEMORY",
    "PACKED_EMPTY",
    "PACKED_NONE",
    "RAW_BYTES",
    "Cached",
    "Packed",
    "Packer",
    "TooLong",
    "dumps_by_value",
    "is_by_value",
    "lift",
    "lift_call",
    "pack_scalars",
    "readable",
]  # fmt: skip

#: The type of functions under ``functools.cache`` or ``lru_cache``, which pickle only knows by name.
Cached: Any = type(functools.cache(len))

RAW_BYTES = 64 << 10
KEEP_BYTES = 1 << 20  #: a pickler whose buffer grew beyond this is not kept

MEMORY, BYTES, BYTEARRAY = 0, 1, 2  #: what a buffer arrives as: writable private memory, or exactly that type


class Packed(NamedTuple):
    """An object ready to travel."""

    payload: bytes
    buffers: "list[tuple[int, memoryview]]"  #: kind and contents of each raw buffer, in the order of the pickle
    plain: bool  #: only harmless types inside: loading it runs nobody's code

    @property
    def size_bytes(self) -> int:
        """Return how long it is, buffers too."""
        return len(self.payload) + sum([buffer.nbytes for _, buffer in self.buffers])


_packed: Callable[[tuple[Any, ...]], Packed] = functools.partial(tuple.__new__, Packed)  # a third of the call's time
_NO_BUFFERS: list[tuple[int, memoryview]] = []  #: nobody adds to what was packed


#: What most calls give or take, packed once: None, and no arguments.
PACKED_NONE = Packed(pickle.dumps(None, 5), [], True)
PACKED_EMPTY = Packed(pickle.dumps((), 5), [], True)


class Raw:
    """A bytes or bytearray that is to travel outside the pickle."""

    __slots__ = ("data",)

    def __init__(self, data: bytes | bytearray) -> None:
        self.data = data


def lift(value: Any) -> Any:
    """Wrap ``value`` if it is a big bytes or bytearray."""
    kind = type(value)
    return Raw(value) if (kind is bytes or kind is bytearray) and len(value) >= RAW_BYTES else value


def lift_call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Do ``lift`` for every argument; the same objects come back when there is nothing to do."""
    for value in args:
        if type(value) in (bytes, bytearray) and len(value) >= RAW_BYTES:
            args = tuple([lift(value) for value in args])
            break
    if kwargs:
        kwargs = {key: lift(value) for key, value in kwargs.items()}
    return args, kwargs


def whole(data: Any) -> Any:
    """Return ``data``: what a lifted buffer is rebuilt by."""
    return data


def view(data: Any, form: str, shape: Sequence[int], is_readonly: bool) -> memoryview:
    """Rebuild a memoryview over ``data``."""
    result = memoryview(data).cast("B")
    if form != "B" or len(shape) != 1:
        result = result.cast(form, shape)  # type: ignore[call-overload]  # the form came from a memoryview
    return result.toreadonly() if is_readonly else result


def is_by_value(obj: Any) -> bool:
    """Say whether a function or class cannot be found by its name in another process."""
    module = getattr(obj, "__module__", None)
    name = getattr(obj, "__qualname__", "")
    return module == "__main__" or "<" in name


def readable(size_bytes: int | None) -> str:
    """Return a size exactly and as people read it: "9,663,676,416 bytes (9.00 GiB)"."""
    size_bytes = size_bytes or 0
    return f"{size_bytes:,} bytes ({size_bytes / (1 << 30):.2f} GiB)"


def check_size(size: int) -> None:
    """Raise PayloadTooLarge if ``size`` bytes may not travel."""
    if size > MAX_PAYLOAD_BYTES:
        raise PayloadTooLarge(
            f"expected what travels to be at most {readable(MAX_PAYLOAD_BYTES)}, got {readable(size)} or more;"
            " send a path, or send it in parts",
            size_bytes=size, limit_bytes=MAX_PAYLOAD_BYTES,
        )  # fmt: skip


class TooLong(Exception):
    """So much has been written that it had better be pickled elsewhere."""


class BoundedWriter:
    """What a pickler writes into ``file`` through; costs 0.1 µs per pickle.

    ``most`` is how many bytes may be written before ``TooLong``; ``between`` is called after every piece of a long one.
    """

    __slots__ = ("write",)

    def __init__(self, file: io.BytesIO, most: int | None = None, between: Callable[[], object] | None = None) -> None:
        file_write, tell = file.write, file.tell

        def write(data: Any) -> int:
            size = len(data) if type(data) is bytes else memoryview(data).nbytes
            if size > RAW_BYTES:  # a long pickle comes in pieces of at least so much
                total = tell() + size
                check_size(total)
                if most is not None and total > most:
                    raise TooLong
                if between is not None:
                    between()
            return file_write(data)

        self.write: Callable[[Any], int] = write


class _NeedsCloudpickle(Exception):
    """A function or class was met that has to travel by value."""


class _Buffers:
    """The out-of-band half of a pickler: which buffers stay outside, and what they arrive as."""

    plain: bool
    kind: int
    buffers: list[tuple[int, memoryview]]
    raw_bytes: int  #: in ``buffers``

    def take(self, buffer: pickle.PickleBuffer) -> bool:
        """Keep ``buffer`` outside the pickle (False) or leave it inside (True); pickle's ``buffer_callback``."""
        kind, self.kind = self.kind, MEMORY
        try:
            raw = buffer.raw()
        except BufferError:  # not contiguous: pickle copies it
            return True
        if raw.nbytes < RAW_BYTES or len(self.buffers) >= MAX_SEGMENTS:
            return True
        self.raw_bytes += raw.nbytes
        self.buffers.append((kind, raw))
        return False

    def reduce_buffer(self, obj: Any) -> Any:
        """Reduce a Raw or a memoryview; NotImplemented for the rest."""
        if type(obj) is Raw:
            self.kind = BYTES if type(obj.data) is bytes else BYTEARRAY
            return whole, (pickle.PickleBuffer(obj.data),)
        if type(obj) is memoryview:
            data = pickle.PickleBuffer(obj) if obj.c_contiguous else obj.tobytes()
            return view, (data, obj.format, tuple(obj.shape or ()), obj.readonly)
        return NotImplemented


class _QuickPickler(pickle.Pickler, _Buffers):
    def __init__(self, most: int | None, between: Callable[[], object] | None) -> None:
        self.file = io.BytesIO()
        self.kind = MEMORY
        super().__init__(BoundedWriter(self.file, most, between), 5, buffer_callback=self.take)

    def reducer_override(self, obj: Any) -> Any:  # called for whatever is no exact built-in
        kind = type(obj)
        if kind is Raw or kind is memoryview:
            return self.reduce_buffer(obj)
        if self.plain and id(kind) not in known_harmless and not is_harmless(obj):
            self.plain = False
        if (kind is FunctionType or kind is Cached or isinstance(obj, type)) and is_by_value(obj):
            raise _NeedsCloudpickle
        return NotImplemented


_EMPTY: tuple[()] = ()
_FEW = 8
_SCALARS = frozenset([int, float, bool, NoneType])  #: no ``copyreg`` function of a program's is asked about them
_SHORT = 256


def are_scalars(row: tuple[Any, ...]) -> bool:
    """Say whether ``row`` is a few numbers and short strings: no pickler needs to be asked about them."""
    if len(row) > _FEW:
        return False
    for each in row:
        kind = type(each)
        if kind not in _SCALARS and not (kind is str and len(each) <= _SHORT):
            return False
    return True


def pack_scalars(obj: Any, row: tuple[Any, ...]) -> Packed | None:
    """Pack ``obj``, which is or holds ``row``, if that is a few numbers and short strings; else return None."""
    if not are_scalars(row):
        return None
    payload = pickle.dumps(obj, 5)
    return _packed((payload, _NO_BUFFERS, True)) if len(payload) <= RAW_BYTES else None  # an integer may be longer


class Packer:
    """Packs objects with picklers that are made once and used again; ``most`` and ``between`` are BoundedWriter's."""

    __slots__ = ("_between", "_idle", "_is_bounded", "_most")

    def __init__(
        self, most: int | None = None, between: Callable[[], object] | None = None, *, is_bounded: bool = True
    ) -> None:
        self._most = most
        self._between = between
        self._idle: list[_QuickPickler] = []
        self._is_bounded = is_bounded  #: else only what is inside the pickle is: buffers go nowhere

    def pack(self, obj: Any) -> Packed:
        """Pack ``obj``. 0.4 µs for a few numbers, 0.9 for other small things; raises what the pickling of it raises."""
        if obj is None:
            return PACKED_NONE
        if obj is _EMPTY:
            return PACKED_EMPTY
        packed = pack_scalars(obj, obj if type(obj) is tuple else (obj,))
        if packed is not None:
            return packed
        pickler = self._idle.pop() if self._idle else _QuickPickler(self._most, self._between)
        pickler.plain = True
        pickler.buffers = []
        pickler.raw_bytes = 0
        try:
            pickler.dump(obj)
        except _NeedsCloudpickle:
            return pack_by_value(obj, self._most, self._between, is_bounded=self._is_bounded)
        except (PayloadTooLarge, TooLong):
            raise
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            return self._retry(obj, error)
        file = pickler.file
        packed = Packed(file.getvalue(), pickler.buffers, pickler.plain)
        if pickler.raw_bytes and self._is_bounded:
            check_size(pickler.raw_bytes + len(packed.payload))
        if len(packed.payload) < KEEP_BYTES:
            file.seek(0)
            file.truncate()
            pickler.clear_memo()
            pickler.buffers = []
            self._idle.append(pickler)
        return packed

    def _retry(self, obj: Any, error: Exception) -> Packed:
        """Pack ``obj`` by value where plain pickle failed; if that fails too, the first error tells more."""
        try:
            return pack_by_value(obj, self._most, self._between, is_bounded=self._is_bounded)
        except TooLong:
            raise
        except Exception:
            raise error from None


def pack_by_value(
    obj: Any, most: int | None = None, between: Callable[[], object] | None = None, *, is_bounded: bool = True
) -> Packed:
    """Pack ``obj`` with cloudpickle: functions and classes that have no importable name travel whole."""
    from .by_value import ValuePickler

    pickler = ValuePickler(most, between)
    pickler.dump(obj)
    packed = Packed(pickler.file.getvalue(), pickler.buffers, False)
    if is_bounded:
        check_size(pickler.raw_bytes + len(packed.payload))
    return packed


def dumps_by_value(obj: Any) -> bytes:
    """Pickle ``obj`` with cloudpickle into one piece."""
    from .by_value import WholePickler

    file = io.BytesIO()
    WholePickler(file).dump(obj)
    return file.getvalue()
