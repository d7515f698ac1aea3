"""What an Engine is made with: one frozen value, checked where it enters."""

import contextvars
import importlib
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from . import _checks
from ._system import cpus_allowed, missing_native_parts

__all__ = ["EngineSettings"]


class EngineSettings(NamedTuple):
    """Options of an Engine; see ``Engine`` for what each means. They are used as ``checked`` returns them."""

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

    def checked(self) -> "EngineSettings":
        """Return the options as they are used.

        Raises:
            ValueError: one is out of range.
        """
        exact: dict[str, Any] = {}

        def take(name: str, check: Callable[..., object], *args: object, **kwargs: object) -> None:
            exact[name] = check(name, getattr(self, name), *args, **kwargs)

        for name in ("processes", "threads", "max_pending", "max_tasks_per_worker"):
            if getattr(self, name) is not None:
                take(name, _checks.positive_int)
        if self.worker_memory_limit is not None:
            take("worker_memory_limit", _checks.size_bytes, least=16 << 20)
        take("coroutines", _checks.positive_int)
        take("history", _checks.positive_int, least=0)
        take("default_lane", _checks.member, ("process", "thread"))
        take("worker_idle_timeout", _checks.seconds)
        take("worker_start_timeout", _checks.seconds)
        take("grace", _checks.seconds, zero=True)
        if self.initializer is not None and not callable(self.initializer):
            raise _checks.wrong("initializer", "a callable", self.initializer)
        take("initargs", _checks.instance, tuple, "a tuple")
        if self.inner_threads is not None and _checks.string(self.inner_threads) != "auto":
            take("inner_threads", _checks.positive_int, remedy='use "auto", or None to set nothing')
        take("process_backend", _checks.member, ("auto", "native", "loky"))
        if exact["process_backend"] == "native" and (missing := missing_native_parts()):
            remedy = f"this system lacks {', '.join(missing)}"
            raise _checks.wrong("process_backend", 'one of "auto", "loky"', "native", remedy)
        take("name", _checks.text, most=100)
        settings = self._replace(**exact)
        if settings.worker_memory_limit is not None and settings.backend == "loky":
            remedy = 'use max_tasks_per_worker, or process_backend="native" (Linux)'
            raise _checks.wrong("worker_memory_limit", "None over loky", settings.worker_memory_limit, remedy)
        exported_variables(self.context)
        return settings

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
