"""Who is dead for certain: same boot, same pids, and gone, or another process by now."""

import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from engine.jobs._records import HolderInfo
from engine.jobs._sqlite import boot as _boot
from engine.jobs._sqlite.boot import boot_id, is_dead, this_process, uptime


def info() -> HolderInfo:
    me = this_process()
    return HolderInfo(
        id=1, name="me", pid=me.pid, pid_started=me.started, namespace=me.namespace, boot=boot_id(), lease=30.0,
        lease_until=0.0, started_at=0.0,
    )  # fmt: skip


def test_this_process_is_alive_and_named() -> None:
    assert not is_dead(info())
    assert this_process().pid == os.getpid()
    assert this_process().started > 0
    assert boot_id() == boot_id() != ""


def test_the_uptime_goes_on() -> None:
    assert 0 < uptime() <= uptime()


def test_a_process_that_was_killed_is_dead_even_before_its_parent_knows() -> None:
    """E110: a killed holder's jobs do not wait for its lease, nor for whoever should reap it."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        holder = replace(info(), pid=child.pid, pid_started=_boot._started(child.pid) or -1.0)
        assert not is_dead(holder)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie now
        assert is_dead(holder)
    finally:
        child.kill()
        child.communicate()
    assert is_dead(holder)


def test_a_pid_that_another_process_has_by_now_is_dead() -> None:
    """E110: the pid of a dead holder belongs to a stranger."""
    assert is_dead(replace(info(), pid_started=this_process().started - 1))


@pytest.mark.parametrize(
    "change",
    [{"boot": "another"}, {"namespace": "pid:[1]"}, {"namespace": ""}],
    ids=["boot", "namespace", "no namespace"],
)
def test_of_whom_nothing_can_be_told_the_lease_will_tell(change: dict[str, Any]) -> None:
    """E110: a holder of another boot or container is never taken for dead by its pid."""
    assert not is_dead(replace(info(), pid=2**22 + 7, **change))
    assert is_dead(replace(info(), pid=2**22 + 7))


def test_a_pid_that_is_none_is_nobodys() -> None:
    assert not is_dead(replace(info(), pid=2**70))
