"""What chaos sends to workers: functions and objects that fight back, and how each of them may end.

Imported by every worker, so it imports nothing heavy, and no engine. What an object does where the parent unpickles
it must not end the process: nothing can survive that.
"""

import faulthandler
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stress._ledger import BEGUN, DOOMED, ENDED, append

__all__ = ["CALM", "DEADLY", "HARMFUL", "KINDS", "MURDER", "Kind", "Order", "function_of"]

CRASH = "WorkerCrashed"
BIG_BYTES = 24 << 20


@dataclass(frozen=True, slots=True)
class Order:
    """What one call is told."""

    path: str  #: of the ledger
    number: int
    token: str
    kind: str
    seconds: float  #: how long it takes
    parent: int  #: the pid of the engine's process
    announcements: str  #: a FIFO for those that are to be killed now


def _do(deed: str) -> None:
    if deed == "raise":
        raise RuntimeError("poison")
    if deed == "leave":
        raise SystemExit(3)
    if deed == "interrupt":
        raise KeyboardInterrupt
    if deed == "exit":
        os._exit(7)
    if deed == "exit as if well":
        os._exit(0)
    if deed == "segfault":
        faulthandler._sigsegv()  # type: ignore[attr-defined]  # CPython's own way to do it
    if deed == "doze":
        time.sleep(0.001)


class Poison:
    """An object that does something at pickling, or at unpickling."""

    def __init__(self, deed: str, *, packed: bool, only_in: int | None = None) -> None:
        self.deed = deed
        self.packed = packed  #: it does it at pickling
        self.only_in = only_in  #: unpickled in another process it does nothing

    def __reduce__(self) -> tuple[Any, ...]:
        """Do it, or have it done at the other end."""
        if self.packed:
            _do(self.deed)
            return str, ("poison",)
        return _opened, (self.deed, self.only_in)


def _opened(deed: str, only_in: int | None) -> str:
    if only_in is None or os.getpid() == only_in:
        _do(deed)
    return "poison"


class PoisonError(Exception):
    """An exception that does something when it is pickled or unpickled."""

    def __init__(self, poison: Poison) -> None:
        super().__init__("poison")
        self.poison = poison

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel with the poison."""
        return PoisonError, (self.poison,)


class Rude(BaseException):
    """No Exception."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of call: what it does, and how it may end of itself."""

    weight: float
    outcomes: frozenset[str]
    argument: Callable[[], object] | None = None  #: what is sent along
    body: Callable[[Order], object] | None = None  #: what it does, when it has begun and before it has ended
    answer: Callable[[Order], object] | None = None  #: what it gives, when it has ended


def _calm(weight: float, **does: Any) -> Kind:
    return Kind(weight, frozenset({"completed"}), **does)


def _failing(weight: float, error: str, **does: Any) -> Kind:
    return Kind(weight, frozenset({error}), **does)


def _deadly(weight: float, **does: Any) -> Kind:
    return Kind(weight, frozenset({CRASH}), **does)


def _raising(error: Callable[[], BaseException]) -> Callable[[Order], object]:
    def body(order: Order) -> object:
        raise error()

    return body


def _doing(deed: str) -> Callable[[Order], object]:
    return lambda order: _do(deed)


def _poison(deed: str, *, packed: bool) -> Callable[[], object]:
    return lambda: Poison(deed, packed=packed)


def _packs(deed: str) -> Callable[[Order], object]:
    return lambda order: Poison(deed, packed=True)


def _opens_here(deed: str) -> Callable[[Order], object]:
    return lambda order: Poison(deed, packed=False, only_in=order.parent)


def _die_soon(order: Order) -> object:
    """Have this worker exit in a moment, whatever it does then: a death that no signal foretells."""
    append(order.path, order.number, order.token, DOOMED)
    threading.Thread(target=_exit_after, args=(order.seconds,), daemon=True).start()
    return order.number


def _exit_after(seconds: float) -> None:
    time.sleep(seconds)
    os._exit(11)


def _announce_and_give_much(order: Order) -> object:
    """Say that a big answer is about to be written: whoever listens kills this worker in the middle of it."""
    data = bytearray(BIG_BYTES)
    pipe = os.open(order.announcements, os.O_WRONLY | os.O_NONBLOCK)
    try:
        os.write(pipe, f"{os.getpid()}\n".encode())
    finally:
        os.close(pipe)
    return data


class Custom:
    """A result of a class that is decoded on a helper thread."""

    def __init__(self, number: int) -> None:
        self.number = number


#: What is not poison. Weights are shares of their group.
CALM = {
    "plain": _calm(100),
    "custom": _calm(3, answer=lambda order: Custom(order.number)),
    "large": _calm(0.3, answer=lambda order: bytes(200_000)),
    "is given much": _calm(0.3, argument=lambda: bytes(200_000)),
    "is given very much": _calm(0.03, argument=lambda: bytearray(8 << 20)),
}

#: Poison that its worker survives.
HARMFUL = {
    "raises": _failing(3, "ValueError", body=_raising(lambda: ValueError("poison"))),
    "exits politely": _failing(1, "RemoteError", body=_doing("leave")),
    "interrupts": _failing(1, "RemoteError", body=_doing("interrupt")),
    "stops the iteration": _failing(1, "RemoteError", body=_raising(StopIteration)),
    "closes the generator": _failing(1, "RemoteError", body=_raising(GeneratorExit)),
    "is rude": _failing(1, "RemoteError", body=_raising(Rude)),
    "argument raises when packed": _failing(1, "PickleError", argument=_poison("raise", packed=True)),
    "argument leaves when packed": _failing(1, "PickleError", argument=_poison("leave", packed=True)),
    "argument interrupts when packed": _failing(1, "PickleError", argument=_poison("interrupt", packed=True)),
    "argument dozes when packed": _calm(0.3, argument=_poison("doze", packed=True)),
    "argument raises when opened": _failing(1, "TaskDecodeError", argument=_poison("raise", packed=False)),
    "argument leaves when opened": _failing(1, "TaskDecodeError", argument=_poison("leave", packed=False)),
    "argument dozes when opened": _calm(1, argument=_poison("doze", packed=False)),
    "answer raises when packed": _failing(1, "PickleError", answer=_packs("raise")),
    "answer leaves when packed": _failing(1, "PickleError", answer=_packs("leave")),
    "answer dozes when packed": _calm(1, answer=_packs("doze")),
    "answer raises when opened": _failing(1, "ResultDecodeError", answer=_opens_here("raise")),
    "answer leaves when opened": _failing(1, "ResultDecodeError", answer=_opens_here("leave")),
    "answer interrupts when opened": _failing(0.5, "ResultDecodeError", answer=_opens_here("interrupt")),
    "answer dozes when opened": _calm(0.5, answer=_opens_here("doze")),
    "error raises when packed": _failing(
        1, "RemoteError", body=_raising(lambda: PoisonError(Poison("raise", packed=True)))
    ),
    "error raises when opened": _failing(
        1, "RemoteError", body=_raising(lambda: PoisonError(Poison("raise", packed=False)))
    ),
    "error leaves when opened by the parent": Kind(
        1, frozenset({"RemoteError"}), body=lambda order: _raise_for(order, "leave")
    ),
}

#: Poison that takes its worker with it.
DEADLY = {
    "exits": _deadly(1, body=_doing("exit")),
    "exits as if well": _deadly(1, body=_doing("exit as if well")),
    "segfaults": _deadly(1, body=_doing("segfault")),
    "argument exits when opened": _deadly(1, argument=_poison("exit", packed=False)),
    "argument segfaults when opened": _deadly(0.5, argument=_poison("segfault", packed=False)),
    "answer exits when packed": _deadly(1, answer=_packs("exit")),
    "answer segfaults when packed": _deadly(0.5, answer=_packs("segfault")),
    "error exits when packed": _deadly(1, body=_raising(lambda: PoisonError(Poison("exit", packed=True)))),
    "error exits when opened": _deadly(0.5, body=_raising(lambda: PoisonError(Poison("exit", packed=False)))),
}

#: What the killer sends.
MURDER = {
    "dies soon": _calm(1, answer=_die_soon),
    "gives much": _calm(1, answer=_announce_and_give_much),
}

KINDS = {**CALM, **HARMFUL, **DEADLY, **MURDER}


def _raise_for(order: Order, deed: str) -> object:
    raise PoisonError(Poison(deed, packed=False, only_in=order.parent))


def run(order: Order, argument: object = None) -> object:
    """Write down that it has begun, do what the order says, write down that it has ended, and answer."""
    append(order.path, order.number, order.token, BEGUN)
    kind = KINDS[order.kind]
    try:
        if order.seconds and kind.answer is not _die_soon:
            time.sleep(order.seconds)
        if kind.body is not None:
            kind.body(order)
    finally:  # so what has no such line was cut short with its worker
        append(order.path, order.number, order.token, ENDED)
    return kind.answer(order) if kind.answer is not None else order.number


def quick(order: Order, argument: object = None) -> object:
    """Do as ``run`` for what is calm or deadly: measured as tiny, such tasks are sent ahead, and die with others."""
    return run(order, argument)


def harmful(order: Order, argument: object = None) -> object:
    """Do as ``run`` for what fails without taking long."""
    return run(order, argument)


def function_of(name: str, seconds: float) -> Callable[..., object]:
    """Return the function for a kind of call: one for each speed, since the engine measures by function."""
    if seconds or "dozes" in name or "much" in name or name in ("large", "dies soon"):
        return run
    return harmful if name in HARMFUL else quick
