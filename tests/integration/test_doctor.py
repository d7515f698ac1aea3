"""``engine doctor`` on this machine, as a command."""

import json
import os
import re
import resource
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import engine
from engine.cli import doctor


def run_doctor(folder: Path, *arguments: str, files: int | None = None) -> subprocess.CompletedProcess[str]:
    spec = find_spec("engine")  # the engine that these tests see, installed or not
    assert spec is not None
    assert spec.submodule_search_locations
    where = str(Path(spec.submodule_search_locations[0]).parent)
    path = os.pathsep.join(filter(None, [where, os.environ.get("PYTHONPATH")]))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    limits = (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))) if files is not None else None
    return subprocess.run(
        [sys.executable, "-m", "engine", "doctor", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        preexec_fn=limits,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_this_machine_has_what_the_engine_needs(tmp_path: Path) -> None:
    run = run_doctor(tmp_path)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith(f"engine {engine.__version__}\n")
    assert run.stdout.endswith("\nAll that the engine needs is there\n")
    for name in ("python", "processors", "memory", "open files", "loky", "memfd", "pidfd", "lifeline"):
        assert re.search(rf"^(ok|weak) +{name} +\S", run.stdout, re.MULTILINE), name
    assert re.search(r"^ok +worker +first result after [\d.]+ (ms|s), the next after ", run.stdout, re.MULTILINE)


def test_json_holds_the_same_findings(tmp_path: Path) -> None:
    run = run_doctor(tmp_path, "--json")
    told = json.loads(run.stdout)
    assert run.returncode == 0
    assert told["ok"] is True
    assert len(told["findings"]) == len(doctor.CHECKS)
    assert all(finding.keys() == {"name", "state", "value", "remedy"} for finding in told["findings"])
    assert all(bool(finding["remedy"]) == (finding["state"] != "ok") for finding in told["findings"])


def test_a_lack_has_a_remedy_and_exit_code_1(tmp_path: Path) -> None:
    run = run_doctor(tmp_path, files=19)
    assert run.returncode == 1
    assert "Traceback" not in run.stderr
    assert re.search(r"^LACK +open files +soft limit 19,.*\n +-> ulimit -n \d+", run.stdout, re.MULTILINE)
    assert "missing; see -> above" in run.stdout


@pytest.mark.parametrize("files", [20, 60])
def test_a_limit_under_which_a_worker_starts_is_no_lack(tmp_path: Path, files: int) -> None:
    """E22: the line about open files and the one about the worker agree."""
    run = run_doctor(tmp_path, "--json", files=files)
    findings = {finding["name"]: finding for finding in json.loads(run.stdout)["findings"]}
    assert (findings["open files"]["state"], findings["worker"]["state"], run.returncode) == ("weak", "ok", 0)
    assert "ulimit -n" in findings["open files"]["remedy"]


@pytest.mark.parametrize("files", [12, 19])
def test_a_worker_that_cannot_start_is_a_lack_and_not_a_traceback(tmp_path: Path, files: int) -> None:
    run = run_doctor(tmp_path, "--json", files=files)
    assert run.returncode == 1
    worker = json.loads(run.stdout)["findings"][-1]
    assert worker["name"] == "worker"
    assert "ulimit -n" in worker["value"]
    assert "by hand" not in worker["remedy"]
    assert "Traceback" not in run.stderr
