"""The handle of a shared object: what tasks are given in place of the object.

Guarantees
    Shared: ``_store`` and ``_values``, each changed by one call of a list or dict that is atomic.  Callers: any
    thread, the collector too; no lock. A descriptor is closed by whoever takes it out of ``_store``, so once, and in
    the same call, so always: a ``close`` that a Ctrl-C ended is finished by the next, the collector's at the latest.
    Nobody but the Shared holds the descriptor; mappings keep the memory without it.
    ``is_used`` is only ever set, before the first Shared can be seen.
"""

from __future__ import annotations

import contextlib
import os
import pickle
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ._wire.attach import Identity, Layout, attach, load, not_open

if TYPE_CHECKING:
    Anything = Any  # a Shared[T] stands for a T wherever one is an argument, which no other type says
else:
    Anything = object

__all__ = ["Shared", "unwrap"]

T = TypeVar("T")

is_used = False  #: an object was shared here: arguments may be one


class Shared(Generic[T], Anything):  # type: ignore[misc]  # a base that is Any, see there
    """An object in memory that any number of tasks read at once. Made by ``share``; give it to tasks as it is.

    The function gets the object itself, at any depth of a process task's arguments, and where it is an argument of a
    thread or a coroutine. What is shared of it is read-only (see ``share``). It is freed when nobody holds it: neither
    this Shared, nor a task that was given it, nor what a function has kept. To a type checker it passes for a ``T``.

    Attributes:
        size_bytes: the memory that it takes, once for all.
    """

    __slots__ = ("__weakref__", "_identity", "_kind", "_layout", "_sizes", "_store", "_token", "_values", "size_bytes")

    def __init__(self, kind: str, layout: Layout, sizes: dict[object, int]) -> None:
        self._store: list[int | bytearray] = []  #: a descriptor, or a copy where there is no such memory; empty: closed
        self._values: dict[str, T] = {}
        self._identity: Identity = (0, 0, 0)
        self._kind = kind
        self._layout = layout
        self._sizes = sizes  #: the engine's, of all that are open
        self._token = object()
        self.size_bytes = layout[2]

    @property
    def value(self) -> T:
        """Give the object over the shared memory, read-only; one for this process, rebuilt at the first use.

        Raises:
            ShareError: it is closed.
        """
        try:
            return self._values["value"]
        except KeyError:
            pass
        build, arguments = self.__reduce__()
        return self._values.setdefault("value", build(*arguments))

    @property
    def closed(self) -> bool:
        """Say whether it was closed."""
        return not self._store

    def close(self) -> None:
        """Let go of the memory. Idempotent; any thread.

        Tasks that have the object keep it. Those that have not begun fail with ShareError: close it when they are done,
        or leave it to the collector.
        """
        try:
            self._sizes.pop(self._token, None)
            self._values.clear()
            taken = iter(self._store.pop, None)
        except AttributeError:  # a Ctrl-C came before it was made
            return
        with contextlib.suppress(IndexError):  # what ends it: it is empty, or another thread was faster
            if int in map(type, self._store):  # in one call: a Ctrl-C between the taking and the closing would leave it
                deque(map(os.close, taken), 0)  # type: ignore[arg-type]  # as it says
            deque(taken, 0)

    def __enter__(self) -> Shared[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        try:
            self.close()
        except BaseException:  # a signal's handler raised: nobody else will come
            self.close()
            raise

    def __reduce__(self) -> tuple[Any, ...]:
        try:
            store = self._store[0]
        except IndexError:
            raise not_open() from None
        if isinstance(store, int):  # of the process that asks: a forked child has one of its own, of the same number
            return attach, (os.getpid(), store, self._identity, self._layout)
        return load, (pickle.PickleBuffer(store), self._layout)

    if not TYPE_CHECKING:  # a checker takes it for a T, and would ask nothing any more

        def __getattr__(self, name: str) -> Any:
            hint = "" if name.startswith("_") else f"; use .value.{name} here, and give it to tasks as it is"
            raise AttributeError(f"expected an attribute of a Shared, got {name!r}{hint}", name=name, obj=self)

    def __repr__(self) -> str:
        return f"<Shared {self._kind}, {'closed' if self.closed else f'{self.size_bytes:,} bytes'}>"


def unwrap(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Put the object in place of each argument that is a Shared.

    Raises:
        ShareError: one of them is closed.
    """
    for value in (*args, *kwargs.values()):
        if type(value) is Shared:
            break
    else:
        return args, kwargs
    return tuple([_value(each) for each in args]), {key: _value(each) for key, each in kwargs.items()}


def _value(given: Any) -> Any:
    return given.value if type(given) is Shared else given
