"""What an Engine is made with: one frozen value, checked where it enters."""

import contextvars
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from . import _checks
from ._system import cpus_allowed, missing_native_parts

__all__ = ["EngineSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """Checked options of an Engine; see ``Engine`` for what each means."""

    processes: int | None = None
    threads: int | None = None
    coroutines: int = 1000
    max_pending: int | None = None
    default_lane: str = "process"
    initializer: Callable[..., object] | None = None
    initargs: tuple[Any, ...] = ()
    max_tasks_per_worker: int | None = None
    worker_memory_limit: int | None = None
    worker_idle_timeout: float = 60.0
    worker_start_timeout: float = 30.0
    process_backend: str = "auto"
    inner_threads: int | Literal["auto"] | None = "auto"
    context: Sequence[str] = ()
    grace: float = 0.5
    history: int = 10_000
    name: str = "engine"

    def __post_init__(self) -> None:
        for name in ("processes", "threads", "max_pending", "max_tasks_per_worker"):
            if getattr(self, name) is not None:
                self._take(name, _checks.positive_int)
        if self.worker_memory_limit is not None:
            self._take("worker_memory_limit", _checks.size_bytes, least=16 << 20)
        self._take("coroutines", _checks.positive_int)
        self._take("history", _checks.positive_int, least=0)
        self._take("default_lane", _checks.member, ("process", "thread"))
        self._take("worker_idle_timeout", _checks.seconds)
        self._take("worker_start_timeout", _checks.seconds)
        self._take("grace", _checks.seconds, zero=True)
        if self.initializer is not None and not callable(self.initializer):
            raise _checks.wrong("initializer", "a callable", self.initializer)
        self._take("initargs", _checks.instance, tuple, "a tuple")
        if self.inner_threads is not None and _checks.string(self.inner_threads) != "auto":
            self._take("inner_threads", _checks.positive_int, remedy='use "auto", or None to set nothing')
        self._take("process_backend", _checks.member, ("auto", "native", "loky"))
        if self.process_backend == "native" and (missing := missing_native_parts()):
            remedy = f"this system lacks {', '.join(missing)}"
            raise _checks.wrong("process_backend", 'one of "auto", "loky"', "native", remedy)
        self._take("name", _checks.text, most=100)
        if self.worker_memory_limit is not None and self.backend == "loky":
            remedy = 'use max_tasks_per_worker, or process_backend="native" (Linux)'
            raise _checks.wrong("worker_memory_limit", "None over loky", self.worker_memory_limit, remedy)
        exported_variables(self.context)

    def _take(self, name: str, check: Callable[..., object], *args: object, **kwargs: object) -> None:
        """Have the option ``name`` be what ``check`` makes of it."""
        object.__setattr__(self, name, check(name, getattr(self, name), *args, **kwargs))

    @property
    def backend(self) -> str:
        """Give what runs the workers: "native" where this system has the parts for it, else "loky"."""
        if self.process_backend != "auto":
            return self.process_backend
        return "loky" if missing_native_parts() else "native"

    @property
    def thread_slots(self) -> int:
        """Give ``threads``, by default 4 more than there are processors, at most 32."""
        return self.threads if self.threads is not None else min(32, cpus_allowed() + 4)


def exported_variables(addresses: Sequence[str]) -> tuple[tuple[str, contextvars.ContextVar[Any]], ...]:
    """Find the context variables at ``addresses`` ("pkg.mod:var").

    Raises:
        ValueError: an address is not of that form, or no ContextVar is there.
    """
    expected = 'a tuple of addresses such as ("pkg.mod:var",)'
    if _checks.is_a(addresses, str) or not _checks.is_a(addresses, Sequence):
        raise _checks.wrong("context", expected, addresses)
    try:
        given = list(addresses)
    except Exception as error:  # code of its own
        raise _checks.wrong("context", expected, addresses) from error
    found = []
    for each in given:
        address = _checks.string(each) or ""
        module, _, name = address.partition(":")
        try:
            variable = getattr(importlib.import_module(module), name) if module and name else None
        except (ImportError, AttributeError) as error:
            raise _checks.wrong("context", "addresses of context variables", each, str(error)) from error
        if not isinstance(variable, contextvars.ContextVar):
            raise _checks.wrong("context", 'addresses of context variables such as "pkg.mod:var"', each)
        found.append((address, variable))
    return tuple(found)
