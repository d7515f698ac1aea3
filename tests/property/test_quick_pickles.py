"""What is pickled and rebuilt the quick way is what it would be in the long way, and names nothing."""

import contextlib
import copyreg
import io
import math
import pickle
import pickletools
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine._wire import harmless, pickling
from engine._wire.harmless import load_harmless
from engine._wire.pickling import Packed, Packer, TooLong


class OurInt(int):
    pass


class OurStr(str):
    __slots__ = ()


class OurTuple(tuple[Any, ...]):
    __slots__ = ()


WORDS = st.text(st.characters(), max_size=300) | st.sampled_from(["x" * 255, "x" * 256, "x" * 257, "é" * 256, "\udcff"])
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.complex_numbers(), WORDS, st.binary(max_size=40),
    st.integers(0, 5000).map(lambda bits: -(1 << bits)), st.integers(-9, 9).map(OurInt), st.just(OurStr("ours")),
)  # fmt: skip
VALUES = (
    SCALARS
    | st.lists(SCALARS, max_size=10).map(tuple)
    | st.lists(SCALARS, max_size=3).map(OurTuple)
    | st.tuples(SCALARS, st.integers(2, 9)).map(lambda given: (given[0],) * given[1])
    | st.lists(SCALARS, max_size=3)
)


def packed_as_ever(packer: Packer, value: Any) -> Packed | type[TooLong]:
    """Pack ``value`` with a pickler of ours, whatever it is."""
    quick, pickling.are_scalars = pickling.are_scalars, lambda row: False
    try:
        return packed(packer, value)
    finally:
        pickling.are_scalars = quick


def packed(packer: Packer, value: Any) -> Packed | type[TooLong]:
    try:
        return packer.pack(value)
    except TooLong:
        return TooLong


PACKER, LIKE_IT = Packer(1 << 18), Packer(1 << 18)


@given(VALUES)
@example(math.nan)
@example(-0.0)
@example((math.inf, -math.inf, "\ud800"))
@example(("x" * 256,) * 8)
@settings(max_examples=500)
def test_what_is_packed_the_quick_way_is_what_a_pickler_of_ours_makes(value: Any) -> None:
    """E65: in every byte, with the mark, and with the same bound of what may be pickled on the loop."""
    assert packed(PACKER, value) == packed_as_ever(LIKE_IT, value)


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("size", [1 << 15, 65_520, 65_536, 100_000, 1 << 18, 1 << 20])
def test_what_is_too_long_for_the_loop_is_so_also_as_a_number(size: int, count: int) -> None:
    """E65: integers may be of any length."""
    for value in [1 << (8 * size), tuple([(1 << (8 * size)) + n for n in range(count)])]:
        is_same = packed(PACKER, value) == packed_as_ever(LIKE_IT, value)
        assert is_same


@contextlib.contextmanager
def reduced_by(kind: type, reduce: Any) -> Iterator[None]:
    before = copyreg.dispatch_table.get(kind)
    copyreg.dispatch_table[kind] = reduce
    try:
        yield
    finally:
        del copyreg.dispatch_table[kind]
        if before is not None:
            copyreg.dispatch_table[kind] = before


def rebuild(text: str) -> complex:
    return complex(text)


@pytest.mark.parametrize("kind", [int, float, bool, complex, str, tuple])
def test_what_a_program_has_pickle_do_for_a_type_is_done(kind: type) -> None:
    """E65: a ``copyreg`` function of the program's names what is not harmless: the mark says so."""
    value = kind()
    with reduced_by(kind, lambda value: (rebuild, (str(value),))):
        assert packed(Packer(), value) == packed_as_ever(Packer(), value)
        assert packed(Packer(), (value,)) == packed_as_ever(Packer(), (value,))


NAMING = {"GLOBAL", "STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"}
OPCODES = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]
QUIET = [code for code, opcode in zip(OPCODES, pickletools.opcodes, strict=True) if opcode.name not in NAMING]
HUGE = (b"p", b"q", b"r", b"\x8e", b"\x8d", b"\x96", b"\x95")  # numbers and lengths of gigabytes are tried by nobody
PIECES = st.one_of(
    st.sampled_from([code for code in OPCODES if code not in HUGE]),
    st.sampled_from([
        b"K\x01", b"\x8c\x03abs", b"\x8c\x08builtins", b"\x8c\x02os", b"\x8c\x06system", b"cos\nsystem\n",
        b"(ios\nsystem\n", b"N", b")", b"]", b"}", b"(", b"\x85", b"\x94", b"q\x00", b"h\x00", b"\x88", b"I1\n",
        b"Pid\n", b"\x82\x01", b"S'x'\n", b"Vx\n", b"L1L\n", b"F1\n", b"C\x01x", b"\x97", b"\x98",
        b"\x96\x01" + bytes(7) + b"x",
    ]),
    st.binary(min_size=1, max_size=3).filter(lambda data: not any(code in data for code in HUGE)),
)  # fmt: skip


class Named(BaseException):
    """Something was named."""


class Watching(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> Any:
        raise Named


@given(st.lists(PIECES, max_size=40).map(b"".join), st.booleans(), st.integers(0, 5))
@settings(max_examples=2000)
def test_what_passes_the_quick_way_names_nothing(body: bytes, stopped: bool, protocol: int) -> None:
    """Whatever the pickle: nothing is looked up, and what is no pickle raises as other data does."""
    payload = bytes([0x80, protocol]) + body + (b"." if stopped else b"")
    is_quick = len(payload.translate(None, harmless._NAMING)) == len(payload)
    buffers = [bytearray(b"abc"), memoryview(bytearray(3))]
    try:
        Watching(io.BytesIO(payload), buffers=buffers).load()
        outcome: Any = "loaded"
    except Named:
        assert not is_quick
        return
    except Exception as error:
        outcome = type(error)
    with contextlib.suppress(Exception):
        load_harmless(payload, [bytearray(b"abc"), memoryview(bytearray(3))])
        assert outcome == "loaded" or not is_quick


@pytest.mark.parametrize("code", sorted(NAMING))
def test_no_opcode_that_names_passes_the_quick_way(code: str) -> None:
    opcode = next(each for each in pickletools.opcodes if each.name == code)
    assert opcode.code.encode("latin-1") in harmless._NAMING


def test_every_opcode_that_may_call_find_class_is_known() -> None:
    """A new protocol may have more of them: those are to be looked at."""
    assert pickle.HIGHEST_PROTOCOL == 5
    assert len(OPCODES) == 68
