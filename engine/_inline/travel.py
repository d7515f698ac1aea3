"""The way of a process task through pickle and back, without a process: what would not travel is found.

The parts are those of the real lane on either side, so that an error has its class, message and remedy.
"""

from __future__ import annotations

import pickle
from typing import Any

from .._lanes._process.encoder import Encoded as Sent
from .._lanes._process.encoder import Encoder
from .._lanes._process.failure_report import decode_error, read_failure
from .._lanes._process.functions import Functions
from .._lanes.base import Attempt, Outcome
from .._wire.frames import ARGS_ONLY, ERROR, NOT_DECODED, NOT_ENCODED
from .._wire.pickling import BYTES, Packed, Packer, lift
from .._worker.failures import pack_error

__all__ = ["Sent", "Travel"]


class Travel:
    """Sends function, arguments, results and errors through pickle."""

    def __init__(self) -> None:
        self._functions = Functions()
        self._encoder = Encoder(self._functions)
        self._packer = Packer()

    def snapshot(self, fn: Any) -> bool:
        """Do as ``ProcessLane.snapshot_function`` does."""
        entry = self._functions.get(fn, getattr(fn, "__qualname__", ""), in_submit=True)
        return entry is None or not entry.names

    def there(self, attempt: Attempt) -> Sent:
        """Return function and arguments as they would be sent to a worker.

        Raises:
            PickleError: they cannot travel.
        """
        encoded = self._encoder.encode(attempt)
        assert encoded is not None  # nobody has taken it back
        return encoded

    def arrived(self, attempt: Attempt, sent: Sent) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        """Return function and arguments as a worker would have them.

        Raises:
            PickleError: they cannot be rebuilt.
        """
        try:
            loaded = _loaded(sent.packed)
            if sent.flags & ARGS_ONLY:
                args, kwargs, fn = loaded, {}, None
            else:
                args, kwargs, _, _, fn = loaded
            if sent.function is not None:
                fn = pickle.loads(pickle.loads(sent.function.definition)[1])
        except BaseException as error:  # code of the classes that are rebuilt
            failure = self._error(attempt, NOT_DECODED, error)
            raise failure from failure.__cause__
        return fn, args, kwargs

    def back(self, attempt: Attempt, value: Any) -> Outcome:
        """Return the outcome of a function that returned ``value``."""
        try:
            packed = self._packer.pack(lift(value))
        except BaseException as error:  # __reduce__ is user code, which may even exit
            return Outcome(error=self._error(attempt, NOT_ENCODED, error), retryable=False)
        try:
            return Outcome(value=_loaded(packed))
        except BaseException as error:
            return Outcome(error=decode_error(attempt, error))

    def failed(self, attempt: Attempt, error: BaseException) -> Outcome:
        """Return the outcome of a function that raised ``error``."""
        return Outcome(error=self._error(attempt, ERROR, error))

    def _error(self, attempt: Attempt, kind: int, error: BaseException) -> BaseException:
        report = read_failure(attempt, kind, pack_error(self._packer, error))
        try:
            return report.error(None if report.pickled is None else pickle.loads(report.pickled))
        except BaseException:  # it cannot be rebuilt here
            return report.error()


def _loaded(packed: Packed) -> Any:
    """Return what was packed; its buffers in memory of their own, as they arrive."""
    buffers = [bytes(buffer) if kind == BYTES else bytearray(buffer) for kind, buffer in packed.buffers]
    return pickle.loads(packed.payload, buffers=buffers)
