"""What a task raised, made fit to travel: type, message and traceback always arrive."""

import pickle
import traceback
from typing import Any, NamedTuple

from .._wire.pickling import Packer
from ..errors import RemoteError, full_name

__all__ = ["MAX_TEXT", "cut", "describe", "pack_error"]

MAX_TEXT = 64 << 10  #: characters of a message or traceback that are kept, half from either end
MAX_PICKLE = 16 << 20  #: a longer pickled exception is replaced by its text


def cut(text: str) -> str:
    """Return ``text``, or its head and tail if it is long; always encodable."""
    if len(text) > MAX_TEXT:
        text = f"{text[: MAX_TEXT // 2]}\n... {len(text) - MAX_TEXT} characters left out ...\n{text[-MAX_TEXT // 2 :]}"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def message_of(error: BaseException) -> str:
    """Return ``str(error)``, or a note that it has none."""
    try:
        return cut(str(error))
    except BaseException as broken:  # user code; the report must still be made
        return f"<{type(error).__name__} whose str raised {type(broken).__name__}>"


def describe(error: BaseException) -> tuple[str, str, str]:
    """Return type name, message and formatted traceback (with causes and contexts) of ``error``; never raises."""
    name = full_name(type(error))
    text = message_of(error)
    try:
        if len(text) >= MAX_TEXT:  # do not format a huge message again for every line of the traceback
            lines = traceback.format_list(traceback.extract_tb(error.__traceback__, 100))
            lines.append(f"{name}: {text}\n")
        else:
            lines = traceback.format_exception(error, limit=-100)
        trace = cut("".join(lines))
    except BaseException as broken:  # __str__, __repr__ or __notes__ of user code, or RecursionError
        trace = f"{name}: {text}\n(its traceback could not be formatted: {type(broken).__name__})\n"
    return name, text, trace


def names_of(error: BaseException) -> tuple[str, ...]:
    """Return the names of the class of ``error`` and of its bases, as ``RemoteError.type_names`` has them."""
    return tuple([full_name(kind) for kind in type(error).__mro__ if issubclass(kind, BaseException)])


def stand_in(error: BaseException) -> RemoteError:
    """Return a RemoteError that says what ``error`` said."""
    name, text, trace = describe(error)
    return RemoteError(f"{name}: {text}", type_name=name, text=text, traceback=trace, type_names=names_of(error))


class _Survivor(NamedTuple):
    """An exception that can travel, or the reason why it cannot."""

    pickled: bytes | None
    is_harmless: bool
    reason: str


def _survives(packer: Packer, error: BaseException) -> _Survivor:
    """Return ``error`` pickled, if it comes back as the same type."""
    try:
        payload, buffers, is_harmless = packer.pack(error)
        if buffers or len(payload) > MAX_PICKLE:
            return _Survivor(None, False, f"it is larger than {MAX_PICKLE >> 20} MiB")
        back = type(pickle.loads(payload))
        if back is type(error):
            return _Survivor(payload, is_harmless, "")
        return _Survivor(None, False, f"it comes back as {full_name(back)}")
    except BaseException as broken:  # __reduce__ and __setstate__ are user code, which may even exit
        return _Survivor(None, False, f"{type(broken).__name__}: {message_of(broken)[:300]}")


def _replace_leaves(packer: Packer, group: BaseExceptionGroup[Any]) -> BaseExceptionGroup[Any]:
    """Return ``group`` with a RemoteError for each leaf that cannot travel, and only for those."""
    leaves: list[BaseException] = []
    for leaf in group.exceptions:
        if issubclass(type(leaf), BaseExceptionGroup):
            leaves.append(_replace_leaves(packer, leaf))
        else:
            leaves.append(leaf if _survives(packer, leaf).pickled is not None else stand_in(leaf))
    try:
        return group.derive(leaves)
    except Exception:  # a subclass whose derive fails
        return BaseExceptionGroup(group.message, leaves)


def pack_error(packer: Packer, error: BaseException) -> bytes:
    """Pack ``error``: type name, message, traceback, pickled or None, whether that is harmless, type names, reason."""
    described = describe(error)  # before its own code runs
    names = names_of(error)
    survivor = _survives(packer, error)
    group: Any = error
    if survivor.pickled is None and issubclass(type(error), BaseExceptionGroup):  # its __class__ is user code
        try:
            survivor = _survives(packer, _replace_leaves(packer, group))
        except BaseException:  # user code in the group's class
            pass
    return pickle.dumps((*described, survivor.pickled, survivor.is_harmless, names, survivor.reason), 5)
