"""Arguments and results as JSON: what goes in comes out, or is refused with its place, before anything is stored.

Values are asked for their type, never for what they say of themselves, and of subclasses of the built-in types only
the built-in part is read: no code of a value runs here. Most values are plain, and seen to be so in one pass; what is
not is copied part by part, which finds the part that cannot stay. Messages tell types and places, not values: those
may be secret.
"""

from __future__ import annotations

import json.encoder
from collections.abc import Callable
from json.encoder import encode_basestring
from typing import Any, NoReturn

from ..errors import PayloadRefused, ResultNotSerializable
from .exact import LEAST_INT, MOST_INT, MOST_LEVELS, TooLarge, Unfit, exact_copy, place_of

__all__ = ["decode_args", "decode_value", "encode_args", "encode_result", "splice"]

_SURE = frozenset([float, bool, type(None)])
_NUL = "\\u0000"  #: as it stands in a text, where it is not a backslash and letters


# -- out --------------------------------------------------------------------------------------------------------------


def encode_args(args: Any, limit: int, root: str = "args") -> str:
    """Return the text of ``args``, at most ``limit`` bytes of UTF-8. 2 µs where they are few and plain.

    Raises:
        PayloadRefused: a part is not what JSON can carry unchanged (but tuples: they arrive as lists), or the text is
            too long. A great size is noticed before anything is copied.
    """
    try:
        return _encode(args, limit)
    except Unfit as error:
        where = place_of(root, error.path)
        raise PayloadRefused(f"expected {where} to be {error}", where=where) from None
    except TooLarge as error:
        got = "more" if error.size_bytes is None else f"{error.size_bytes:,}"
        raise PayloadRefused(
            f"expected {root} to be at most {limit:,} bytes as JSON, got {got}; keep the data elsewhere, and pass "
            "where it is (or set max_args_bytes)", where=root, size_bytes=error.size_bytes, limit_bytes=limit,
        ) from None  # fmt: skip


def encode_result(value: Any, limit: int) -> str:
    """Return the text of what a function returned, at most ``limit`` bytes.

    Raises:
        ResultNotSerializable: as for arguments.
    """
    if value is None:
        return "null"
    try:
        return _encode(value, limit)
    except Unfit as error:
        raise ResultNotSerializable(f"expected {place_of('the result', error.path)} to be {error}") from None
    except TooLarge:
        raise ResultNotSerializable(
            f"expected the result to be at most {limit:,} bytes as JSON, got more; keep it elsewhere, and return where "
            "it is (or set max_result_bytes)"
        ) from None


def splice(text: str, key: str, value: str) -> str:
    """Return the object in ``text`` with one more key, whose value is JSON already."""
    return f"{text[:-1]}{',' if len(text) > 2 else ''}{encode_basestring(key)}:{value}}}"


def _encode(value: Any, limit: int) -> str:
    if not ((type(value) is dict and _is_flat(value, limit)) or _is_plain(value, limit)):
        value = exact_copy(value, limit)
    try:
        text = _quick_encode(value)
        size_bytes = len(text) if text.isascii() else len(text.encode())
    except ValueError:  # NaN, infinity, or half a surrogate pair
        exact_copy(value, limit)
        raise
    except RecursionError:
        raise Unfit((), "nested less deeply than what is left of this thread's stack, got more") from None
    if size_bytes > limit:
        raise TooLarge(size_bytes)
    if _NUL in text:
        exact_copy(value, limit)
    return text


def _is_flat(value: dict[Any, Any], room: int) -> bool:
    """Say of most arguments, in a third of the time, what ``_is_plain`` says of all."""
    for key, item in value.items():
        kind = type(item)
        if kind is str:
            room -= len(item)
        elif kind is int:
            if not LEAST_INT <= item <= MOST_INT:
                return False
        elif kind not in _SURE:
            return False
        if type(key) is not str:
            return False
        room -= len(key)
    return room > len(value)


def _is_plain(value: Any, room: int) -> bool:
    """Say whether ``value`` is certain to be fit, but for NaN, surrogates and NUL: exact types, of bounded depth.

    Raises:
        TooLarge: it has more than ``room`` characters and parts.
    """
    level: list[Any] = [(value,)]
    for _ in range(MOST_LEVELS + 1):
        deeper: list[Any] = []
        for each in level:
            room -= len(each)
            if room < 0:
                raise TooLarge
            if type(each) is dict:
                for key in each:
                    if type(key) is not str:
                        return False
                    room -= len(key)
                each = each.values()
            for item in each:
                kind = type(item)
                if kind is str:
                    room -= len(item)
                elif kind is int:
                    if not LEAST_INT <= item <= MOST_INT:
                        return False
                elif kind is dict or kind is list:
                    deeper.append(item)
                elif kind not in _SURE:
                    return False
        if room < 0:
            raise TooLarge
        if not deeper:
            return True
        level = deeper
    return False  # deep, or in a circle


def _make_quick_encoder() -> Callable[[Any], str]:
    """Return how what has been looked at becomes text: the standard encoder, made once and not per value."""
    make = vars(json.encoder)["c_make_encoder"]  # None where the interpreter has no such thing
    if make is None:
        plain = json.JSONEncoder(ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":"))
        return plain.encode
    encode = make(None, _refuse, encode_basestring, None, ":", ",", False, False, False)
    return lambda value: "".join(encode(value, 0))


def _refuse(value: object) -> NoReturn:
    raise ValueError(f"expected what was looked at to stay as it is, got a {type(value).__name__} in it meanwhile")


_quick_encode = _make_quick_encoder()


# -- in ---------------------------------------------------------------------------------------------------------------


def decode_args(text: object) -> dict[str, Any]:
    """Return the arguments in ``text``, which comes from a database that anybody may have written. 2 µs.

    Raises:
        PayloadRefused: it is not the text of a JSON object that ``encode_args`` could have made.
    """
    value = decode_value(text)
    if type(value) is not dict:
        raise PayloadRefused(f"expected args to be a JSON object, got a JSON {type(value).__name__}", where="args")
    return value


def decode_value(text: object) -> Any:
    """Return any value in ``text``, as ``decode_args`` does."""
    if type(text) is not str:
        raise PayloadRefused(f"expected the text of a JSON value, got a {type(text).__name__}")
    try:
        value = _decode(text)
        if not text.isascii():
            text.encode()  # ValueError where it has half a surrogate pair
        if "\\u" in text or text.count("[") + text.count("{") > MOST_LEVELS:
            exact_copy(value, 2 * len(text) + 2)
        return value
    except Unfit as error:
        raise PayloadRefused(f"expected {place_of('the JSON value', error.path)} to be {error}") from None
    except RecursionError:
        reason = "it is nested too deeply"
    except ValueError as error:  # JSONDecodeError, too many digits, and what is refused below
        reason = str(error)
    raise PayloadRefused(f"expected a JSON value, got {len(text):,} characters that are none: {reason}")


def _decode_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has a key twice")
    return found


def _decode_int(digits: str) -> int:
    number = int(digits)  # ValueError where there are thousands of them
    if LEAST_INT <= number <= MOST_INT:
        return number
    raise ValueError("an integer has more than 64 bits")


def _decode_float(digits: str) -> float:
    if (number := float(digits)) - number == 0:
        return number
    raise ValueError("a number is beyond what a float holds")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_decoder = json.JSONDecoder(
    object_pairs_hook=_decode_pairs, parse_int=_decode_int, parse_float=_decode_float, parse_constant=_refuse_constant
)
_scan_once: Callable[[str, int], tuple[Any, int]] = vars(_decoder)["scan_once"]  # which typeshed leaves out


def _decode(text: str) -> Any:
    """Return the value in ``text``; in two thirds of the time where no blanks are around it, as in what we write."""
    try:
        value, end = _scan_once(text, 0)
    except StopIteration:
        value, end = None, -1
    return value if end == len(text) else _decoder.decode(text)  # which says what is wrong
