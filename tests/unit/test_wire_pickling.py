"""Packing: small and plain is quick, big buffers stay outside, what has no name goes by value."""

import pickle
import sys
import threading
from typing import Any

import pytest

from engine._wire.pickling import BYTEARRAY, BYTES, MEMORY, RAW_BYTES, Packed, Packer, lift, lift_call


def load(packed: Packed) -> Any:
    kinds: dict[int, Any] = {BYTES: bytes, BYTEARRAY: bytearray, MEMORY: lambda raw: memoryview(bytearray(raw))}
    return pickle.loads(packed.payload, buffers=[kinds[kind](raw) for kind, raw in packed.buffers])


class OfOurs:
    pass


@pytest.mark.parametrize("value", [None, 1, "a", [1, {"b": (2.5, None)}], {1, 2}, b"x", "\udcff"])
def test_built_ins_are_plain(value: Any) -> None:
    packed = Packer().pack(value)
    assert packed.plain
    assert load(packed) == value


def test_an_instance_of_any_class_is_not_plain() -> None:
    packer = Packer()
    assert not packer.pack([threading.local]).plain
    assert not packer.pack([OfOurs()]).plain
    assert packer.pack([1]).plain


@pytest.mark.parametrize("size", [RAW_BYTES - 1, RAW_BYTES, RAW_BYTES + 1])
@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_a_lifted_buffer_is_outside_from_its_bound_on_and_keeps_its_type(kind: type, size: int) -> None:
    value = kind(b"y" * size)
    packed = Packer().pack(lift(value))
    assert len(packed.buffers) == (1 if size >= RAW_BYTES else 0)
    assert packed.plain
    back = load(packed)
    assert type(back) is kind
    assert back == value


def test_a_call_without_big_arguments_is_left_as_it_is() -> None:
    args = (1, b"small")
    assert lift_call(args, {})[0] is args


@pytest.mark.parametrize("size", [0, 10, RAW_BYTES])
def test_a_memoryview_keeps_its_form_and_shape(size: int) -> None:
    value = memoryview(bytearray(size * 8)).cast("d", (2, size // 2)) if size else memoryview(b"")
    back = load(Packer().pack([value]))[0]
    assert (back.format, back.shape, back.readonly) == (value.format, value.shape, value.readonly)
    assert back == value


def test_what_has_no_importable_name_goes_by_value() -> None:
    def local(n: int) -> int:
        return n + 1

    class Local:
        x = 5

    fn, instance = load(Packer().pack((local, Local())))
    assert fn(1) == 2
    assert instance.x == 5


def test_a_failure_leaves_the_packer_usable_and_is_the_first_error() -> None:
    packer = Packer()
    with pytest.raises(TypeError, match=r"lock"):
        packer.pack([1, threading.Lock()])
    assert load(packer.pack([1, 2])) == [1, 2]


class Nested:
    def __init__(self, packer: Packer) -> None:
        self.packer = packer

    def __reduce__(self) -> Any:
        return list, (load(self.packer.pack((1, 2))),)


def test_packing_inside_of_packing_works() -> None:
    packer = Packer()
    assert load(packer.pack([Nested(packer), 3])) == [[1, 2], 3]


def test_more_buffers_than_a_frame_can_name_stay_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["engine._wire.pickling"], "MAX_SEGMENTS", 2)
    values = [pickle.PickleBuffer(bytearray([n]) * RAW_BYTES) for n in range(4)]
    packed = Packer().pack(values)
    assert len(packed.buffers) == 2
    assert [bytes(value)[:1] for value in load(packed)] == [bytes([n]) for n in range(4)]
