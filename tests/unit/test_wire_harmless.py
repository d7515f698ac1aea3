"""The list of what may be decoded on the loop: exact types of the standard library and NumPy, and nobody's code."""

import array
import asyncio
import collections
import datetime
import decimal
import fractions
import ipaddress
import os
import pathlib
import pickle
import sys
import time
import types
import uuid
import zoneinfo
from typing import Any

import pytest

from engine._wire.harmless import _Unlisted, load_harmless
from engine._wire.pickling import Packer
from engine.errors import RemoteError, TaskTimeout

np = pytest.importorskip("numpy")

HARMLESS = [
    datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC), datetime.timedelta(1), datetime.date(2020, 1, 1),
    decimal.Decimal("1.5"), fractions.Fraction(1, 3), uuid.UUID(int=7), pathlib.Path("/x"), pathlib.PurePath("x"),
    ipaddress.ip_address("::1"), ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_interface("10.0.0.1/8"),
    collections.OrderedDict(a=1), collections.defaultdict(list, {1: [2]}), collections.Counter("aab"),
    collections.deque([1], 3), array.array("d", [1.0]), types.SimpleNamespace(a=1), time.localtime(), os.stat("/"),
    range(3), slice(1, 2), 1j, {1, 2}, frozenset("a"), bytearray(b"x"), int, ValueError,
]  # fmt: skip
ARRAYS = [
    np.arange(3), np.arange(9)[::2], np.ones((2, 3), order="F"), np.array(["a"]), np.array([1, None], dtype=object),
    np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]), np.float32(1), np.bool_(True), np.datetime64("2020-01-01"),
    np.arange("2020-01", "2020-03", dtype="datetime64[D]"), np.dtype("f8"), np.longdouble(1), np.float64,
]  # fmt: skip
ERRORS = [
    ValueError("x"), OSError(2, "gone", "path"), ExceptionGroup("many", [KeyError(1)]), asyncio.CancelledError(),
    RemoteError("x", type_name="y"), TaskTimeout("late", timeout=1.0),
]  # fmt: skip


class Ours:
    pass


class OurDate(datetime.date):
    pass


class OurArray(np.ndarray):  # type: ignore[misc, name-defined]  # NumPy is imported as Any
    pass


class OurError(ValueError):
    pass


class Claims:
    """An object whose pickle says that it is something harmless, and would cost 8 GB and minutes to load."""

    def __reduce__(self) -> Any:
        return collections.deque, (range(10**9),)


@pytest.mark.parametrize("value", [*HARMLESS, *ARRAYS, *ERRORS], ids=lambda value: type(value).__qualname__)
def test_common_values_are_harmless_and_come_back(value: Any) -> None:
    packed = Packer().pack([value])
    assert packed.plain
    back = load_harmless(packed.payload)[0]
    assert type(back) is type(value)
    if isinstance(value, BaseException):
        assert repr(back) == repr(value)
    else:
        assert np.all(back == value)


@pytest.mark.parametrize(
    "value",
    [Ours(), Ours, OurDate(2020, 1, 1), np.ones(3).view(OurArray), OurError("x"), Claims(),
     eval, sum, print, os.system, zoneinfo.ZoneInfo("UTC"), np.array([Ours()], dtype=object), {"a": (1, [Ours()])}],
    ids=repr,
)  # fmt: skip
def test_what_runs_code_of_others_is_not_harmless(value: Any) -> None:
    assert not Packer().pack(value).plain


@pytest.mark.parametrize(
    "pickled",
    [
        b"cos\nsystem\n(S'true'\ntR.", b"cbuiltins\neval\n(S'1'\ntR.", b"cbuiltins\ngetattr\n.",
        b"\x80\x04\x8c\x08builtins\x8c\x0eint.from_bytes\x93.", pickle.dumps(Ours()), pickle.dumps(OurDate(2020, 1, 1)),
        b"cengine._wire.harmless\nio\n.", b"",
    ],
)  # fmt: skip
def test_nothing_else_is_loaded_whatever_the_worker_says(pickled: bytes) -> None:
    with pytest.raises((_Unlisted, EOFError)):
        load_harmless(pickled)


def test_what_is_not_imported_here_is_not_imported_on_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    pickled = pickle.dumps(decimal.Decimal(1))
    monkeypatch.delitem(sys.modules, "decimal")
    with pytest.raises(_Unlisted):
        load_harmless(pickled)
