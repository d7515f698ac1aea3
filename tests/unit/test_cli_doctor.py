"""The doctor's verdict, and how its checks say what is missing."""

import importlib.metadata
import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine import Engine
from engine.cli import cgroups, durable, kernel
from engine.cli.doctor import CHECKS, run_doctor
from engine.cli.findings import OUT_OF_FILES, Check, Finding, checks, good, lack, weak
from engine.cli.machine import open_files


@checks("broken", "mend it")
def broken() -> Finding:
    raise OSError(38, "Function not implemented")


def found(check: Check, name: str) -> Finding:
    finding = check()
    assert finding.name == name
    return finding


def called(name: str) -> Check:
    return next(check for check in CHECKS if check.__name__ == f"_{name}")


def test_nothing_lacking_is_exit_code_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_doctor(as_json=False, checks=[lambda: good("a", "fine"), lambda: weak("b", "slow", "hurry")]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "ok    a               fine",
        "weak  b               slow",
        "                      -> hurry",
        "",
        "All that the engine needs is there",
    ]


def test_a_lack_is_exit_code_1_with_its_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_doctor(as_json=False, checks=[lambda: lack("a", "gone", "get it")]) == 1
    assert capsys.readouterr().out.splitlines()[1:] == [
        "LACK  a               gone",
        "                      -> get it",
        "",
        "1 thing that the engine needs is missing; see -> above",
    ]


def test_a_check_that_raises_is_a_lack_and_not_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_doctor(as_json=True, checks=[broken, lambda: good("b", "")]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is False
    assert told["findings"][0] == {
        "name": "broken",
        "state": "LACK",
        "value": "OSError: [Errno 38] Function not implemented",
        "remedy": "mend it",
    }
    assert told["findings"][1]["state"] == "ok"


def refuse(*_: object) -> object:
    raise OSError(38, "Function not implemented")


@pytest.mark.parametrize(
    ("module", "function", "check"),
    [(os, "memfd_create", "memfd"), (os, "pidfd_open", "pidfd"), (signal, "pidfd_send_signal", "pidfd"),
     (os, "waitid", "pidfd")],
)  # fmt: skip
def test_a_kernel_or_sandbox_without_it_is_a_lack(
    monkeypatch: pytest.MonkeyPatch, module: object, function: str, check: str
) -> None:
    monkeypatch.setattr(module, function, refuse)
    finding = found(called(check), check)
    assert finding.state == "LACK"
    assert "Function not implemented" in finding.value
    assert "Linux" in finding.remedy


def test_packets_that_run_together_are_a_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "SOCK_SEQPACKET", socket.SOCK_STREAM)
    assert found(called("packets"), "packet sockets").state == "LACK"


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("import os; os.write(1, b'ready')", "ended with 0 instead of SIGKILL"),
        ("raise OSError('no F_SETSIG')", "no F_SETSIG"),
    ],
)
def test_a_lifeline_that_does_not_kill_is_a_lack(monkeypatch: pytest.MonkeyPatch, code: str, value: str) -> None:
    monkeypatch.setattr(kernel, "LIFELINE_CHILD", code)
    finding = found(called("lifeline"), "lifeline")
    assert finding.state == "LACK"
    assert value in finding.value


@contextmanager
def soft_file_limit(soft: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize(("share", "state"), [(0, "LACK"), (0.9, "weak"), (1.5, "weak"), (2.0, "ok")])
def test_a_limit_on_files_is_judged_by_what_the_workers_need(share: float, state: str) -> None:
    """E22: it is a lack where not one worker can start, and no lack where fewer can than there are processors."""
    needed = 64 + 10 * (len(os.sched_getaffinity(0)) + 1)
    with soft_file_limit(int(share * needed) or open_files() + 16):
        finding = found(called("files"), "open files")
    assert finding.state == state
    assert ("ulimit -n" in finding.remedy) == (state != "ok")
    if state != "ok":
        advised, hard = int(finding.remedy.split()[2].rstrip(",")), resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        assert advised >= 2 * needed
        assert hard == resource.RLIM_INFINITY or advised <= hard or "raising the hard limit" in finding.remedy


def test_a_check_that_runs_out_of_descriptors_says_so_and_blames_no_kernel() -> None:
    """E22."""

    @checks("lifeline", "use Linux 5.4 or later")
    def runs_out() -> Finding:
        raise OSError(24, "Too many open files")

    assert runs_out() == lack("lifeline", "OSError: [Errno 24] Too many open files", OUT_OF_FILES)


def test_an_old_loky_and_a_missing_one_are_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "3.6.9")
    assert found(called("loky"), "loky").state == "LACK"

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    finding = found(called("loky"), "loky")
    assert (finding.state, finding.remedy) == ("LACK", "pip install 'loky>=3.7'")


def test_one_processor_is_weak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "cpu_limit", lambda: 0.5)
    finding = found(called("processors"), "processors")
    assert finding.state == "weak"
    assert "control group: 0.5" in finding.value


def test_another_system_is_weak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    finding = found(called("system"), "system")
    assert finding.state == "weak"
    assert "loky" in finding.remedy


def test_the_backend_that_auto_takes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(called("backend"), "process backend").value.startswith("auto takes native")
    monkeypatch.setattr(Engine, "process_backend", "loky")
    finding = found(called("backend"), "process backend")
    assert (finding.state, finding.value[:15]) == ("weak", "auto takes loky")


def test_without_the_extra_durable_jobs_are_weak_and_no_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    assert found(called("libraries"), "jobs").state == "ok"
    monkeypatch.setattr(importlib.metadata, "version", missing)
    finding = found(called("libraries"), "jobs")
    assert (finding.state, finding.value) == ("weak", "apsw and cronsim not installed")
    assert "[jobs]" in finding.remedy


def test_a_file_of_jobs_is_tried_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """E167: in the current directory, which is left as it was."""
    monkeypatch.chdir(tmp_path)
    finding = found(called("file"), "jobs file")
    assert (finding.state, "can have a WAL" in finding.value) == ("ok", True)
    assert not list(tmp_path.iterdir())


def test_a_directory_that_other_machines_share_is_no_place_for_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """E167."""
    monkeypatch.setattr(durable, "file_system_of", lambda path, mounts: "nfs4")
    finding = found(called("file"), "jobs file")
    assert (finding.state, finding.value) == ("weak", "the current directory is on nfs4")


def test_a_path_is_on_the_deepest_mount_above_it() -> None:
    mounts = (
        "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:5 / /a\\040b rw shared:1 - nfs4 h:/x rw\n"
        "3 1 0:6 / /mnt rw - tmpfs t rw\n4 1 0:7 / /mnt rw - xfs t rw\n"
    )
    assert [durable.file_system_of(path, mounts) for path in ("/", "/a b/c", "/a bc", "/mnt/x", "/mnt")] == [
        "ext4", "nfs4", "ext4", "xfs", "xfs",
    ]  # fmt: skip
