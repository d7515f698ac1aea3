"""An attempt as a packet: header, arguments, and what does not fit on the stream."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from ... import _checks, _lineage
from ..._records import function_name, named
from ..._sigint import came_by_signal
from ..._wire.frames import ARGS_ONLY, BULK, CHUNK, DEFINE, FORGET, IN_BULK, INLINE_BYTES, SEGMENT, STREAM, TASK
from ..._wire.pickling import Packed, Packer, TooLong, dumps_by_value, lift, lift_call, pack_scalars, readable
from ...errors import PayloadTooLarge, PickleError, ShareError
from .._errors import not_shared
from ..base import Attempt, Outcome
from ..chunk import Chunk, Item
from ..running import in_parent
from .functions import Function, Functions

__all__ = [
    "Encoded",
    "Encoder",
    "bulk_frame",
    "definition_frame",
    "forget_frame",
    "header",
    "pack_initializer",
    "too_large",
]

_FINE = Outcome()
_FEW = 16  # items that may be big each: more of them are packed together only if they were seen to be small


class Encoded(NamedTuple):
    """An attempt ready to be sent, lacking only its sequence number."""

    function: Function | None  #: None: it is in the payload
    flags: int
    packed: Packed


_encoded: Callable[[tuple[Any, ...]], Encoded] = functools.partial(tuple.__new__, Encoded)  # a third of the call's time


class Encoder:
    """Pickles attempts, on one thread; ``doing`` may be asked from any.

    ``most`` is how many bytes, buffers apart, may be pickled here; ``between`` is called after every piece of much.
    """

    def __init__(
        self, functions: Functions, *, most: int | None = None, between: Callable[[], object] | None = None
    ) -> None:
        self._functions = functions
        self._packer = Packer(most, between)
        self._forks = _lineage.forks
        self._packing: Attempt | None = None

    def doing(self) -> str:
        """Say whose arguments are being pickled this instant, empty if nobody's are. Any thread."""
        attempt = self._packing
        fn = attempt.fn if attempt is not None else None
        if attempt is None or fn is None:  # the latter: it is cancelled this instant
            return ""
        return f"pickling the arguments of task {attempt.task_id} ({attempt.name}) for {function_name(fn)}"

    def encode(self, attempt: Attempt) -> Encoded | None:
        """Pickle function and arguments of ``attempt``. None: it was recalled. PickleError: they cannot travel.

        TooLong: they are longer than may be pickled here.

        A child that the pickling has forked ends here: the loop, and the sockets of the workers, are its parent's.
        """
        try:
            encoded = self._pickle(attempt)
        except PickleError as error:
            in_parent(self._forks, Outcome(error=error))
            raise
        if _lineage.forks != self._forks:
            in_parent(self._forks, _FINE)
        return encoded

    def encode_row(self, attempts: list[Attempt]) -> list[tuple[Attempt, Encoded]]:
        """Pickle, of ``attempts`` of one call, the first ones whose arguments are a few numbers and short strings.

        As ``encode`` each, at a third of the cost: nothing of that can fail, take long, or run somebody's code.
        """
        row: list[tuple[Attempt, Encoded]] = []
        if not attempts or (fn := attempts[0].fn) is None:
            return row
        name = attempts[0].name
        function = self._functions.get(fn, name)
        if function is None or function.error is not None or function.name != name:
            return row
        for attempt in attempts:
            args = attempt.args
            if attempt.fn is not fn or attempt.kwargs or attempt.context or type(args) is Chunk:
                break
            packed = pack_scalars(args, args)
            if packed is None:
                break
            row.append((attempt, _encoded((function, ARGS_ONLY, packed))))
        return row

    def _pickle(self, attempt: Attempt) -> Encoded | None:
        fn = attempt.fn
        if fn is None:
            return None
        function = self._functions.get(fn, attempt.name)
        if function is not None and function.error is not None:
            raise _pickle_error("function", attempt, function.error, function.culprit)
        args = attempt.args
        self._packing = attempt
        try:
            if type(args) is Chunk:
                encoded = self._pickle_items(attempt, args, function)
                args.sent_bytes = encoded.packed.size_bytes
                return encoded
            return self._pickle_call(attempt, args, function)
        except TooLong:
            raise
        except PayloadTooLarge as error:
            raise too_large("arguments", "parent", attempt, error) from None
        except ShareError as error:
            raise not_shared(attempt, "parent", error) from None
        except BaseException as error:  # __reduce__ is user code, which may even exit
            if came_by_signal(error):
                raise
            raise _pickle_error("arguments", attempt, error) from error
        finally:
            self._packing = None

    def _pickle_call(self, attempt: Attempt, args: tuple[Any, ...], function: Function | None) -> Encoded:
        args, kwargs = lift_call(args, attempt.kwargs)
        if function is not None and not kwargs and not attempt.context and attempt.name == function.name:
            return _encoded((function, ARGS_ONLY, self._packer.pack(args)))
        given = attempt.fn if function is None else None
        return Encoded(function, 0, self._packer.pack((args, kwargs, attempt.name, attempt.context, given)))

    def _pickle_items(self, attempt: Attempt, chunk: Chunk, function: Function | None) -> Encoded:
        items = chunk.items
        if chunk.is_single:
            return self._pickle_call(attempt, items[0] if chunk.is_rows else (items[0],), function)
        if len(items) <= _FEW:
            items = [lift_call(item, {})[0] if chunk.is_rows else lift(item) for item in items]
        given = attempt.fn if function is None else None
        return Encoded(function, CHUNK, self._packer.pack((items, chunk.is_rows, attempt.name, attempt.context, given)))


def too_large(what: str, where: str, attempt: Attempt | Item, error: PayloadTooLarge) -> PayloadTooLarge:
    """Say whose ``what`` it was that ``error`` refused."""
    verb = "return" if what == "result" else "send"
    return PayloadTooLarge(
        f"expected the {what} of task {attempt.task_id} ({attempt.name}) to be at most {readable(error.limit_bytes)},"
        f" got {readable(error.size_bytes)} or more; {verb} a path, or {verb} them in parts",
        size_bytes=error.size_bytes, limit_bytes=error.limit_bytes, what=what, where=where, task_id=attempt.task_id,
    )  # fmt: skip


def _pickle_error(what: str, attempt: Attempt, error: BaseException, culprit: str = "") -> PickleError:
    result = PickleError(
        f"expected the {what} of task {attempt.task_id} ({attempt.name}){_called(attempt)} to be picklable, got"
        f" {_why(error, culprit)}",
        what=what, where="parent", task_id=attempt.task_id,
    )  # fmt: skip
    result.__cause__ = error
    return result


def _why(error: BaseException, culprit: str) -> str:
    """Say what was in the way, and what to do."""
    told = _told(error)
    if _checks.is_a(error, PickleError):  # an engine, which says itself what to do
        return f"its global {culprit!r}: {told}" if culprit else told
    remedy = "send plain data and open files, locks and connections inside the function"
    if _checks.is_a(error, RecursionError):
        remedy = "send less deeply nested data"
    elif culprit:
        told += f", which its global {culprit!r} is or holds"
        remedy = f"create {culprit} inside the function, or define both in a module, where functions travel by name"
    return f"{told}; {remedy}, or use the thread lane"


def _told(error: BaseException) -> str:
    try:
        return named(type(error).__name__, str(error)[:1000])
    except BaseException:  # a str of user code, which may even exit
        return type(error).__name__


def _called(attempt: Attempt) -> str:
    """Say which function a task calls, where its name does not."""
    name = function_name(attempt.fn)
    return "" if name.endswith(attempt.name) else f" for {name}"


def header(attempt: Attempt, encoded: Encoded, number: int) -> tuple[bytes, list[Any]]:
    """Return the packet of task ``number``, and the buffers that belong on the stream."""
    function, flags, (payload, buffers, _) = encoded
    timeout = -1.0 if attempt.timeout is None else attempt.timeout
    fid = 0 if function is None else function.number
    count, size = len(buffers), len(payload)
    if not count and size <= INLINE_BYTES:
        head = TASK.pack(flags, 0, attempt.number, number, attempt.task_id, fid, size, timeout, 0)
        return head + payload, []
    table = b"".join([SEGMENT.pack(kind, buffer.nbytes) for kind, buffer in buffers])
    bulk: list[Any] = [buffer for _, buffer in buffers]
    total = sum([buffer.nbytes for _, buffer in buffers])
    inline = b""
    if len(table) + size > INLINE_BYTES:
        flags |= IN_BULK
        bulk[:0] = [table, payload]
        total += len(table) + size
    else:
        inline = table + payload
    return TASK.pack(flags, count, attempt.number, number, attempt.task_id, fid, size, timeout, total) + inline, bulk


def bulk_frame(number: int, bulk: list[Any]) -> bytes:
    """Return the stream header in front of the bulk of task ``number``."""
    total = sum([memoryview(piece).nbytes for piece in bulk])
    return STREAM.pack(BULK, number, total)


def definition_frame(function: Function) -> bytes:
    """Return the stream frame that defines ``function``."""
    return STREAM.pack(DEFINE, function.number, len(function.definition)) + function.definition


def forget_frame(number: int) -> bytes:
    """Return the stream frame that has the worker forget function ``number``."""
    return STREAM.pack(FORGET, number, 0)


def pack_initializer(initializer: object, initargs: tuple[object, ...]) -> bytes:
    """Pickle the initializer. PickleError: it cannot travel. A child that the pickling has forked ends here."""
    forks = _lineage.forks
    try:
        return dumps_by_value((initializer, initargs))
    except BaseException as error:  # __reduce__ is user code
        raise PickleError(
            f"expected initializer {function_name(initializer)} and initargs to be picklable, got {_told(error)};"
            " pass plain data, and open files, locks and connections inside the initializer",
            what="function",
        ) from error
    finally:
        in_parent(forks, _FINE)
