"""Arguments and results as JSON."""

import collections
import datetime
import decimal
import enum
import json
import tracemalloc
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import pytest

from engine.jobs._json.codec import decode_args, decode_value, encode_args, encode_result
from engine.jobs.errors import JobRefused, PayloadRefused, ResultNotSerializable

LIMIT = 1 << 20


@dataclass
class Point:
    x: int


class Word(enum.StrEnum):
    YES = "yes"


class Colour(enum.Enum):
    RED = "red"


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def circle() -> list[Any]:
    found: list[Any] = []
    found.append([found])
    return found


PLAIN: list[dict[str, Any]] = [
    {}, {"to": "x"}, {"a": 1, "b": -1.5, "c": True, "d": None, "e": [], "f": {}},
    {"text": 'é\u2028\U0001f600"\\\n\t\x7f\x01', "é": ["\\u0000"]},
    {"n": [2**63 - 1, -(2**63), 1e308, 5e-324, -0.0]},
    {"deep": nested(499)}, {"a": {"b": [{"c": [[]]}]}},
]  # fmt: skip


@pytest.mark.parametrize("args", PLAIN, ids=range(len(PLAIN)))
def test_what_goes_in_comes_out(args: dict[str, Any]) -> None:
    text = encode_args(args, LIMIT)
    found = decode_args(text)
    assert found == args
    assert repr(found) == repr(args)  # types too, and the sign of zero
    assert json.loads(text) == args


UNFIT: dict[str, tuple[Any, str, str]] = {
    "nan": (float("nan"), "a finite number, got nan", "['to'][0]"),
    "infinity": (float("-inf"), "a finite number, got -inf", "['to'][0]"),
    "numpy's nan": (numpy.float64("nan"), "a finite number, got nan", "['to'][0]"),
    "65 bits": (2**63, "pass it as text", "['to'][0]"),
    "thousands of digits": (10**6000, "pass it as text", "['to'][0]"),
    "keys": ({1: 2}, "keys of text, got int; pass str(key)", "['to'][0]"),
    "a None key": ({"a": {None: 2}}, "keys of text, got NoneType", "['to'][0]['a']"),
    "surrogate": ("a\ud800", "half a surrogate pair at 1", "['to'][0]"),
    "surrogate in a key": ({"\udc80": 1}, "half a surrogate pair at 0", "['to'][0]"),
    "nul": ({"a": "b\0"}, "without NUL characters, got one at 1", "['to'][0]['a']"),
    "nul in a key": ({"\0": 1}, "without NUL characters", "['to'][0]"),
    "deep": (nested(501), "at most 500 levels deep", "['to'][0]"),
    "very deep": (nested(200_000), "at most 500 levels deep", "['to'][0]"),
    "circle": (circle(), "got one that holds itself", "['to'][0][0]"),
    "datetime": (datetime.datetime.now(), "got datetime.datetime; pass value.isoformat()", "['to'][0]"),
    "date": (datetime.date(2026, 1, 1), "pass value.isoformat()", "['to'][0]"),
    "timedelta": (datetime.timedelta(1), "pass value.total_seconds()", "['to'][0]"),
    "decimal": (decimal.Decimal(1), "got decimal.Decimal; pass str(value)", "['to'][0]"),
    "uuid": (uuid.uuid4(), "pass str(value)", "['to'][0]"),
    "path": (Path("x"), "pass str(value)", "['to'][0]"),
    "bytes": (b"x", "pass text", "['to'][0]"),
    "set": ({1}, "got set; pass sorted(value)", "['to'][0]"),
    "array": (numpy.zeros(3), "got numpy.ndarray; pass value.tolist()", "['to'][0]"),
    "scalar": (numpy.int64(3), "got numpy.int64; pass value.item()", "['to'][0]"),
    "dataclass": (Point(1), "Point; pass dataclasses.asdict(value)", "['to'][0]"),
    "enum": (Colour.RED, "pass value.value", "['to'][0]"),
    "function": (len, "pass what it is made of", "['to'][0]"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_what_json_cannot_carry_is_refused_with_its_place_and_what_to_do(name: str) -> None:
    """J8: NaN, keys that are no text, more than 64 bits, surrogates, NUL and depth are refused where they come in."""
    value, message, where = UNFIT[name]
    with pytest.raises(PayloadRefused) as caught:
        encode_args({"to": [value]}, LIMIT)
    assert message in str(caught.value)
    assert caught.value.where.startswith("args" + where)
    assert str(caught.value).startswith(f"expected {caught.value.where} to be ")
    assert isinstance(caught.value, JobRefused)


@pytest.mark.parametrize("name", UNFIT)
def test_a_result_that_is_no_json_says_so(name: str) -> None:
    """J16: the same rules for what a function returns."""
    value, message, _ = UNFIT[name]
    with pytest.raises(ResultNotSerializable) as caught:
        encode_result(value, LIMIT)
    assert message in str(caught.value)
    assert str(caught.value).startswith("expected the result")


def test_messages_do_not_tell_values() -> None:
    for value in ("hunter2\0", {"k": b"hunter2"}, {b"hunter2": 1}, ["hunter2\ud800"], "hunter2" * LIMIT):
        with pytest.raises(PayloadRefused) as caught:
            encode_args({"password": value}, LIMIT)
        assert "hunter2" not in str(caught.value)


def test_results_come_back() -> None:
    for value in (None, 1, "x", [1, {"a": None}], True, 2.5):
        assert decode_value(encode_result(value, LIMIT)) == value


def test_subclasses_are_stored_as_what_they_are_made_of() -> None:
    """Tuples arrive as lists, the rest as the built-in part."""
    pair = collections.namedtuple("pair", "a b")
    args = {"a": (1, 2), "b": pair(1, "x"), "c": numpy.float64(2.5), "d": Word.YES, "e": collections.Counter("aab"),
            "f": collections.OrderedDict(x=1), "g": collections.defaultdict(list, y=[2])}  # fmt: skip
    found = decode_args(encode_args(args, LIMIT))
    assert found == {
        "a": [1, 2], "b": [1, "x"], "c": 2.5, "d": "yes", "e": {"a": 2, "b": 1}, "f": {"x": 1}, "g": {"y": [2]}
    }  # fmt: skip


class Bomb(RuntimeError):
    """Somebody called code of a value."""


def _explode(*_: object, **__: object) -> Any:
    raise Bomb


_METHODS = [
    "__eq__", "__ne__", "__hash__", "__len__", "__iter__", "__getitem__", "__str__", "__repr__", "__format__",
    "__bool__", "__reduce_ex__", "__contains__", "__lt__", "__le__", "__int__", "__index__", "__float__", "__add__",
    "__neg__", "__getattribute__", "items", "keys", "values", "encode", "isascii",
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "value"), [(str, "x"), (int, 7), (float, 1.5), (dict, {"a": 1}), (list, [1]), (tuple, (1,))]
)
def test_no_code_of_a_value_runs(kind: Any, value: Any) -> None:
    hostile = type("Hostile", (kind,), dict.fromkeys(_METHODS, _explode))
    plain = list(value) if kind is tuple else value
    assert decode_args(encode_args({"a": [hostile(value)]}, LIMIT)) == {"a": [plain]}
    assert decode_value(encode_result(hostile(value), LIMIT)) == plain
    if kind is str:
        keyed: dict[str, Any] = {type("Key", (str,), {"__eq__": _explode, "__hash__": str.__hash__})("k"): 1}
        assert decode_args(encode_args(keyed, LIMIT)) == {"k": 1}


def test_what_hides_its_class_is_refused_all_the_same() -> None:
    class Meta(type):
        def __getattribute__(cls, name: str) -> Any:
            raise Bomb

    with pytest.raises(PayloadRefused, match="got what hides its class"):
        encode_args({"a": Meta("Hidden", (), {})()}, LIMIT)


def test_two_keys_that_become_one_are_refused() -> None:
    class Other(str):
        __slots__ = ()

        def __eq__(self, other: object) -> bool:
            return self is other

        __hash__ = str.__hash__

    with pytest.raises(PayloadRefused, match="got one twice"):
        encode_args({"a": {Other("k"): 1, Other("k"): 2}}, LIMIT)


@pytest.mark.parametrize(
    "args", [{"a": "x" * 100_000_000}, {"a": [0] * 5_000_000}, {"a": ["x" * 1000] * 100_000}, {"x" * 2_000_000: 1}]
)
def test_a_huge_payload_is_refused_without_a_copy_of_it(args: dict[str, Any]) -> None:
    """J9: 100 MB are refused by their length, with the bound in the error."""
    tracemalloc.start()
    try:
        with pytest.raises(
            PayloadRefused, match="expected args to be at most 1,048,576 bytes as JSON, got more"
        ) as caught:
            encode_args(args, LIMIT)
        assert tracemalloc.get_traced_memory()[1] < 2 * LIMIT
    finally:
        tracemalloc.stop()
    assert caught.value.limit_bytes == LIMIT


@pytest.mark.parametrize("letter", ["x", "é", "€", "\U0001f600", '"', "\x01"])
def test_the_size_is_that_of_the_text_in_utf8(letter: str) -> None:
    """J9: the bound counts bytes, to the byte."""
    args = {"a": letter * 5}
    size = len(json.dumps(args, ensure_ascii=False, separators=(",", ":")).encode())
    assert len(encode_args(args, size).encode()) == size
    with pytest.raises(PayloadRefused) as caught:
        encode_args(args, size - 1)
    assert caught.value.size_bytes in (size, None)
    assert caught.value.limit_bytes == size - 1


HOSTILE = {
    "empty": "", "junk": "{} {}", "bare": "{'a': 1}", "open": '{"a": [', "deep": "[" * 200_000,
    "deep and closed": '{"a":' + "[" * 600 + "]" * 600 + "}", "deep objects": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "nan": '{"a": NaN}', "infinity": '{"a": -Infinity}', "1e999": '{"a": 1e999}', "twice": '{"a": 1, "a": 1}',
    "twice inside": '{"a": [{"b": 1, "b": 2}]}', "digits": '{"a": ' + "9" * 5000 + "}",
    "64 bits": '{"a": 9223372036854775808}',
    "surrogate": '{"a": "\\ud800"}', "nul": '{"a": "\\u0000"}', "key": '{"\\udfff": 1}', "list": "[1]",
    "null": "null", "bom": "\ufeff{}", "raw surrogate": '{"a": "\ud800"}', "raw nul": '{"a": "\0"}',
    "number key": "{1: 2}", "bytes": b"{}", "none": None, "number": 5,
    "pickle": "\x80\x04\x95N.", "text": "cos\nsystem\n(S'true'\ntR.",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_row_that_no_enqueue_wrote_is_refused_with_a_reason(name: str) -> None:
    """J8: whatever text a row has, reading it gives a reason and no other error."""
    with pytest.raises(PayloadRefused) as caught:
        decode_args(HOSTILE[name])
    assert "expected" in str(caught.value)
    assert len(str(caught.value)) < 500
