"""Which backend ``process_backend`` gives, and what it says where one cannot be had."""

import os
import signal

import pytest

from engine import BlockingEngine, Engine, _settings, _system


def test_auto_is_native_where_all_its_parts_are() -> None:
    assert _system.missing_native_parts() == ()
    assert Engine().process_backend == Engine(process_backend="native").process_backend == "native"
    assert Engine(process_backend="loky").process_backend == "loky"
    assert BlockingEngine(Engine(process_backend="loky")).process_backend == "loky"


def test_auto_is_loky_where_a_part_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_settings, "missing_native_parts", lambda: ("os.pidfd_open",))
    assert Engine().process_backend == "loky"
    message = '^expected process_backend to be one of "auto", "loky", got \'native\'; this system lacks os.pidfd_open$'
    with pytest.raises(ValueError, match=message):
        Engine(process_backend="native")


@pytest.mark.parametrize(
    ("module", "name", "part"),
    [(os, "pidfd_open", "os.pidfd_open"), (os, "memfd_create", "os.memfd_create"),
     (signal, "pidfd_send_signal", "os.pidfd_open"), (os, "P_PIDFD", "os.waitid with P_PIDFD")],
)  # fmt: skip
def test_a_missing_part_is_named(monkeypatch: pytest.MonkeyPatch, module: object, name: str, part: str) -> None:
    monkeypatch.delattr(module, name)
    assert _system.missing_native_parts.__wrapped__() == (part,)


def test_a_part_that_a_sandbox_refuses_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    assert _system.missing_native_parts.__wrapped__() == ("os.pidfd_open",)


def test_a_memory_limit_is_refused_over_loky() -> None:
    message = r"^expected worker_memory_limit to be None over loky, got 1073741824; use max_tasks_per_worker, or"
    with pytest.raises(ValueError, match=message):
        Engine(process_backend="loky", worker_memory_limit=1 << 30)
    Engine(process_backend="native", worker_memory_limit=1 << 30)
