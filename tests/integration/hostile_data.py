"""Objects that raise, exit, sleep, burn or lie where they are pickled or rebuilt; imported by workers."""

import collections
import os
import sys
import time
from collections.abc import Callable
from typing import Any


class DoesWhenPickled:
    """Calls ``fn(*args)`` where it is pickled, and arrives as what that gives."""

    def __init__(self, fn: Any, *args: Any) -> None:
        self.how = fn, args

    def __reduce__(self) -> Any:
        fn, args = self.how
        return give, (fn(*args),)


class DoesWhenLoaded:
    """Calls ``fn(*args)`` where it is rebuilt."""

    def __init__(self, fn: Any, *args: Any) -> None:
        self.how = fn, args

    def __reduce__(self) -> Any:
        return self.how


class CallableThatDoes(DoesWhenPickled):
    """The same as a function: a task can be made of it."""

    def __call__(self, *args: Any) -> str:
        return "called"


class Unequal:
    """Cannot be compared, hashed or shown."""

    def __eq__(self, other: object) -> bool:
        raise SystemExit("eq")

    def __hash__(self) -> int:
        raise SystemExit("hash")

    def __repr__(self) -> str:
        raise SystemExit("repr")

    __str__ = __repr__

    def __bool__(self) -> bool:
        raise SystemExit("bool")

    def __len__(self) -> int:
        raise SystemExit("len")


class RaisesMute(Exception):
    """Its text cannot be had, and asking for it exits."""

    def __str__(self) -> str:
        raise SystemExit("str")

    __repr__ = __str__


def give(value: Any) -> Any:
    return value


def throw(error: BaseException) -> Any:
    raise error


def throw_mute() -> Any:
    raise RaisesMute


def burn(seconds: float) -> int:
    """Keep the interpreter busy."""
    end, n = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        n += 1
    return n


def make(kind: str, *args: Any) -> Any:
    """Make what is hostile where its result is rebuilt, in the parent."""
    makers: dict[str, Callable[[], Any]] = {
        "raises": lambda: DoesWhenLoaded(throw, ValueError("not here")),
        "raises_mute": lambda: DoesWhenLoaded(throw_mute),
        "exits": lambda: DoesWhenLoaded(sys.exit, 3),
        "interrupts": lambda: DoesWhenLoaded(throw, KeyboardInterrupt()),
        "recurses": lambda: DoesWhenLoaded(recurse),
        "sleeps": lambda: DoesWhenLoaded(time.sleep, *args),
        "waits": lambda: DoesWhenLoaded(wait_for, *args),
        "burns": lambda: DoesWhenLoaded(burn, *args),
        "lies": lambda: DoesWhenLoaded(collections.deque, range(*args)),
        "unequal": Unequal,
    }
    return makers[kind]()


def wait_for(path: str) -> str:
    while not os.path.exists(path):
        time.sleep(0.001)
    return path


def recurse() -> int:
    return recurse() + 1


def receive(*args: Any, **kwargs: Any) -> tuple[int, list[str]]:
    return len(args), sorted(kwargs)


# -- depth


class Node:
    def __init__(self, child: Any) -> None:
        self.child = child


def nested(kind: str, depth: int) -> Any:
    """Return ``depth`` levels of ``kind``."""
    value: Any = None
    wraps: dict[str, Callable[[Any], Any]] = {
        "list": lambda inner: [inner],
        "tuple": lambda inner: (inner,),
        "dict": lambda inner: {"k": inner},
        "object": Node,
        "mixed": lambda inner: [(inner, {"k": 1})],
        "group": lambda inner: ExceptionGroup("g", [inner or ValueError("leaf")]),
    }
    for _ in range(depth):
        value = wraps[kind](value)
    return value


def depth_of(value: Any) -> int:
    depth = 0
    while value is not None:
        value = value[0] if isinstance(value, list | tuple) else value["k"] if isinstance(value, dict) else value.child
        depth += 1
    return depth


class DeepWhenLoaded:
    """A short pickle that becomes a deep list in the parent."""

    def __init__(self, depth: int) -> None:
        self.depth = depth

    def __reduce__(self) -> Any:
        return nested, ("list", self.depth)


def make_deep_when_loaded(depth: int) -> Any:
    return DeepWhenLoaded(depth)


# -- exceptions


class SleepsInSetstate(Exception):
    """Sleeps where it is rebuilt, but not in the worker, which tries it."""

    def __init__(self, parent: int, seconds: float) -> None:
        super().__init__(parent, seconds)

    def __reduce__(self) -> Any:
        return SleepsInSetstate, self.args, {"x": 1}

    def __setstate__(self, state: Any) -> None:
        parent, seconds = self.args
        if os.getpid() == parent:
            time.sleep(seconds)


class BecomesAnotherHere(Exception):
    """An exception in the worker, a number in the parent."""

    def __init__(self, parent: int) -> None:
        super().__init__(parent)

    def __reduce__(self) -> Any:
        return become, self.args


def become(parent: int) -> Any:
    return 5 if os.getpid() == parent else BecomesAnotherHere(parent)


class ClaimsToBeAnException:
    __class__ = ValueError  # type: ignore[assignment]  # that is the point


class ClaimsHere(Exception):
    """In the parent, something that only says that it is an exception."""

    def __init__(self, parent: int) -> None:
        super().__init__(parent)

    def __reduce__(self) -> Any:
        return claim, self.args


def claim(parent: int) -> Any:
    return ClaimsToBeAnException() if os.getpid() == parent else ClaimsHere(parent)


def raise_a(kind: str, *args: Any) -> None:
    """Raise one of the awkward."""
    if kind == "wide_group":
        raise ExceptionGroup("wide", [ValueError(n) for n in range(args[0])])
    if kind == "wide_group_with_a_bad_leaf":
        raise ExceptionGroup("wide", [*[ValueError(n) for n in range(args[0])], SleepsNever()])
    if kind == "deep_group":
        raise nested("group", args[0])
    if kind == "long_chain":
        error: BaseException = ValueError("the first")
        for n in range(args[0]):
            outer = RuntimeError(f"link {n}")
            outer.__cause__, error = error, outer
        raise error
    if kind == "circle_of_contexts":
        one, two = ValueError("one"), KeyError("two")
        one.__context__, two.__context__ = two, one
        raise one
    if kind == "big_pickle":
        raise ValueError(*["x" * 1000 for _ in range(args[0] // 1000)])
    if kind == "big_attribute":
        error = ValueError("with luggage")
        error.luggage = bytearray(args[0])  # type: ignore[attr-defined]  # that is the point
        raise error
    if kind == "deep_args":
        raise ValueError("deep", nested("list", args[0]))
    if kind == "many_notes":
        error = ValueError("noted")
        for n in range(args[0]):
            error.add_note(f"note {n}")
        raise error
    if kind == "notes_that_are_none":
        error = ValueError("noted")
        error.__notes__ = 5  # type: ignore[assignment]  # that is the point
        raise error
    raise {"sleeps": SleepsInSetstate, "becomes": BecomesAnotherHere, "claims": ClaimsHere}[kind](*args)


class SleepsNever(Exception):
    def __reduce__(self) -> Any:
        raise SystemExit


def make_slow(size: int, seconds: float) -> Any:
    """Return something of ``size`` bytes that takes a while to rebuild."""
    return [b"x" * size, DoesWhenLoaded(time.sleep, seconds)]
