"""Whatever is shared comes back equal, in memory that begins where it should, and leaves nothing."""

import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import _sharing
from engine._wire.pickling import RAW_BYTES

np = pytest.importorskip("numpy")

SIZES = st.sampled_from([0, 1, 1000, RAW_BYTES - 8, RAW_BYTES, RAW_BYTES + 8, 3 * 4096 + RAW_BYTES, 1 << 18])


@st.composite
def arrays(draw: st.DrawFn) -> Any:
    """Give an array of some size, type, order and step."""
    kind = draw(st.sampled_from(["f8", "u1", "c16", "M8[s]", "?", "i4,f8"]))
    flat = np.frombuffer(np.random.default_rng(draw(st.integers(0, 99))).bytes(draw(SIZES)), "u1") & 1
    flat = flat[: len(flat) // np.dtype(kind).itemsize * np.dtype(kind).itemsize].view(kind)
    square = flat[: len(flat) // 4 * 4].reshape(4, -1)
    return draw(st.sampled_from([flat, square, square.T, flat[::2], square[:, ::-1]]))


def data(size: int) -> bytes:
    return bytes(range(256)) * (size // 256)


LEAVES = st.one_of(
    arrays(), st.integers(), st.text(max_size=5), SIZES.map(data), SIZES.map(lambda n: bytearray(data(n)))
)
OBJECTS = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=8,
)


def is_equal(left: Any, right: Any) -> bool:
    if isinstance(left, np.ndarray):
        return bool(left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes())
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(is_equal(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(is_equal, left, right))
    return type(left) is type(right) and bool(left == right)


def arrays_in(value: Any) -> list[Any]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value] if isinstance(value, np.ndarray) else [array for each in inner for array in arrays_in(each)]


def is_shared(array: Any) -> bool:
    """Say whether the contents of ``array`` stay outside its pickle; NumPy puts those of dates into it."""
    return bool(
        array.dtype.kind != "M" and (array.flags.c_contiguous or array.flags.f_contiguous) and array.nbytes >= RAW_BYTES
    )


@pytest.mark.parametrize("store", ["memfd", "copy"])
def test_what_is_shared_comes_back_equal(store: str) -> None:
    opened = len(os.listdir("/proc/self/fd"))

    @given(OBJECTS)
    def check(obj: Any) -> None:
        sizes: dict[object, int] = {}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_sharing, "_has_memfd", lambda: store == "memfd")
            shared = _sharing.share(obj, sizes)
        value = shared.value
        assert is_equal(obj, value)
        for before, after in zip(arrays_in(obj), arrays_in(value), strict=True):
            assert after.flags.writeable is not is_shared(before)
            assert not is_shared(before) or store == "copy" or after.ctypes.data % 4096 == 0
        assert list(sizes.values()) == [shared.size_bytes]
        shared.close()
        assert is_equal(obj, value)
        assert sizes == {}

    check()
    assert len(os.listdir("/proc/self/fd")) == opened
