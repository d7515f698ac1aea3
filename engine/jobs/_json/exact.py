"""A value as exact built-in types, copied part by part; finds the part that JSON cannot carry unchanged."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from ... import _checks

__all__ = ["LEAST_INT", "MOST_INT", "MOST_LEVELS", "TooLarge", "Unfit", "exact_copy", "place_of"]

MOST_LEVELS = 500  #: of lists and dicts in each other: what can be read again on any thread's stack
LEAST_INT, MOST_INT = -(1 << 63), (1 << 63) - 1  #: what databases and other languages have integers for

Path = tuple[str | int, ...]


class Unfit(Exception):
    """A part cannot be carried. Its text goes on after "expected args['to'] to be "; ``path`` is where the part is."""

    path: Path = ()


class TooLarge(Exception):
    """There is more than the text may hold; ``size_bytes`` where it was counted to the end."""

    def __init__(self, size_bytes: int | None = None) -> None:
        super().__init__(size_bytes)
        self.size_bytes = size_bytes


def place_of(root: str, path: Path) -> str:
    """Return where a part is, as ``args['to'][0]``, on one line."""
    shown = [f"[{key[:40] if type(key) is str else key!a}]" for key in path[:8]]
    return root + "".join(shown) + ("..." if len(path) > 8 else "")


class _Open:
    """A list or dict that is being copied."""

    __slots__ = ("copy", "items", "key", "source")

    def __init__(self, source: object, items: Iterable[tuple[Any, Any]], copy: Any) -> None:
        self.source = source
        self.items: Iterator[tuple[Any, Any]] = iter(items)
        self.copy = copy
        self.key: Any = None  #: of the item that is copied now; None while that itself is looked at

    def put(self, value: Any) -> None:
        if type(self.copy) is dict:
            self.copy[self.key] = value
        else:
            self.copy.append(value)


def exact_copy(value: object, room: int) -> Any:
    """Return a copy of ``value`` in exact built-in types. Not recursive, so at ease with whatever comes.

    Raises:
        Unfit: a part is none that JSON can carry.
        TooLarge: there are more than ``room`` parts and characters.
    """
    top: list[Any] = []
    stack = [_Open(None, [(0, value)], top)]
    try:
        while stack:
            inner = stack[-1]
            for key, item in inner.items:
                inner.key = None
                inner.key = _exact_key(key, inner.copy)
                opened = _opened(item, stack)
                room -= 1 + (str.__len__(item) if issubclass(type(item), str) else 0)
                if room < 0:
                    raise TooLarge
                inner.put(_exact_scalar(item) if opened is None else opened.copy)
                if opened is not None:
                    stack.append(opened)
                    break
            else:
                stack.pop()
    except Unfit as error:
        error.path = tuple(each.key for each in stack[1:] if each.key is not None)
        raise
    return top[0]


def _opened(value: object, stack: list[_Open]) -> _Open | None:
    """Return how to copy ``value`` if it is a list, tuple or dict."""
    kind = type(value)
    items: Iterable[tuple[Any, Any]]
    copy: list[Any] | dict[str, Any] = []
    if issubclass(kind, dict):
        items, copy = list(dict.items(value)), {}  # type: ignore[arg-type]  # issubclass asked, here and below
    elif issubclass(kind, list):
        items = enumerate(list.__iter__(value))  # type: ignore[arg-type]  # as above
    elif issubclass(kind, tuple):
        items = enumerate(tuple.__iter__(value))  # type: ignore[arg-type]  # as above
    else:
        return None
    if any(each.source is value for each in stack):
        raise Unfit("a value that ends, got one that holds itself")
    if len(stack) > MOST_LEVELS:
        raise Unfit(f"nested at most {MOST_LEVELS} levels deep, got more; pass something flatter")
    return _Open(value, items, copy)


def _exact_key(key: object, copy: object) -> str | int:
    """Return the key under which an item is copied."""
    if type(copy) is list:
        return key  # type: ignore[return-value]  # counted by us
    if not issubclass(type(key), str):
        raise Unfit(f"a dict with keys of text, got {_kind(key)}; pass str(key)")
    exact = _exact_text(str.__str__(key), "a dict with keys of")
    if type(copy) is dict and exact in copy:
        raise Unfit("a dict with different keys, got one twice (of two classes)")
    return exact


def _exact_scalar(value: object) -> Any:
    kind = type(value)
    if value is None or kind is bool:
        return value
    if (text := _checks.string(value)) is not None:
        return _exact_text(text, "")
    if (number := _checks.integer(value)) is not None:
        if not LEAST_INT <= number <= MOST_INT:
            raise Unfit(f"an integer of at most 64 bits, got one of {number.bit_length():,}; pass it as text, str(n)")
        return number
    if issubclass(kind, float):
        real = float.__pos__(value)  # type: ignore[arg-type]  # issubclass asked; it keeps -0.0, as a sum would not
        if not math.isfinite(real):
            raise Unfit(f"a finite number, got {real}; pass None or text")
        return real
    raise Unfit(f"what JSON can carry (text, numbers, None, lists, dicts), got {_kind(value)}; {_remedy(value)}")


def _exact_text(text: str, prefix: str) -> str:
    expected = f"{prefix} text".lstrip()
    if "\0" in text:
        raise Unfit(f"{expected} without NUL characters, got one at {text.index(chr(0))}; pass bytes as base64 or hex")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise Unfit(
                f"{expected} that UTF-8 can carry, got half a surrogate pair at {error.start}; if it is the name of a "
                "file, pass os.fsencode(name).hex()"
            ) from None
    return text


#: What to do about a value, by its class or one that it inherits from.
_REMEDIES = {
    "datetime.date": "pass value.isoformat()",
    "datetime.time": "pass value.isoformat()",
    "datetime.timedelta": "pass value.total_seconds()",
    "decimal.Decimal": "pass str(value)",
    "uuid.UUID": "pass str(value)",
    "pathlib.PurePath": "pass str(value)",
    "enum.Enum": "pass value.value",
    "coroutine": "await it, and pass the answer",
    "engine.jobs._reply.Reply": "await it, and pass the answer",
    "engine.jobs._job.Job": "pass job.id",
    "generator": "pass list(value)",
    "range": "pass list(value)",
    "pandas.DataFrame": "pass value.to_dict('records'), or keep it in a file and pass its name",
    "pandas.core.frame.DataFrame": "pass value.to_dict('records'), or keep it in a file and pass its name",
    "complex": "pass [value.real, value.imag]",
    "bytes": "pass text (base64 or hex), or keep them in a file and pass its name",
    "bytearray": "pass text (base64 or hex), or keep them in a file and pass its name",
    "set": "pass sorted(value)",
    "frozenset": "pass sorted(value)",
    "numpy.ndarray": "pass value.tolist(), or keep it in a file and pass its name",
    "numpy.generic": "pass value.item()",
}


def _kind(value: object) -> str:
    """Return the name of the class of ``value``."""
    return _name_of(type(value))


def _remedy(value: object) -> str:
    try:
        for kind in type(value).__mro__:
            if found := _REMEDIES.get(_name_of(kind)):
                return found
        if "__dataclass_fields__" in vars(type(value)):
            return "pass dataclasses.asdict(value)"
    except Exception:  # code of its class's class
        pass
    return "pass what it is made of"


def _name_of(kind: type) -> str:
    try:
        module, name = str(kind.__module__), str(kind.__qualname__)
    except Exception:  # code of its class's class
        return "what hides its class"
    if module.startswith("pathlib."):  # where it has parts
        module = "pathlib"
    return name if module == "builtins" else f"{module}.{name}"
