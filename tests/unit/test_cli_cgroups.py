"""Limits of control groups, read from trees like the kernel's."""

from pathlib import Path

import pytest

from engine.cli.cgroups import cpu_limit, memory_limit


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.format(root=root))
    return root / "proc"


V2 = {
    "proc/cgroup": "0::/app.slice/job\n",
    "proc/mountinfo": "30 24 0:26 / {root}/cg rw,nosuid shared:9 - cgroup2 cgroup2 rw\n",
}
V1 = {
    "proc/cgroup": "4:memory:/box\n1:cpu,cpuacct:/box\n0::/\n",
    "proc/mountinfo": (
        "31 24 0:27 / {root}/m rw - cgroup cgroup rw,memory\n"
        "32 24 0:28 /box {root}/c rw - cgroup cgroup rw,cpu,cpuacct\n"
    ),
}


def test_version_2_takes_the_least_limit_of_all_levels(tmp_path: Path) -> None:
    files = {"cg/app.slice/job/cpu.max": "max 100000", "cg/app.slice/cpu.max": "150000 100000\n"}
    files |= {
        "cg/app.slice/job/memory.max": "2000000\n",
        "cg/app.slice/memory.max": "1000000\n",
        "cg/memory.max": "max",
    }
    proc = tree(tmp_path, V2 | files)
    assert (cpu_limit(proc), memory_limit(proc)) == (1.5, 1_000_000)


def test_version_1_has_a_hierarchy_for_each_controller(tmp_path: Path) -> None:
    files = {"c/cpu.cfs_quota_us": "50000\n", "c/cpu.cfs_period_us": "100000\n"}
    files |= {"m/memory.limit_in_bytes": "9223372036854771712\n", "m/box/memory.limit_in_bytes": "512000000\n"}
    proc = tree(tmp_path, V1 | files)
    assert (cpu_limit(proc), memory_limit(proc)) == (0.5, 512_000_000)


@pytest.mark.parametrize("files", [V1, V2, {"proc/cgroup": ""}, {"proc/mountinfo": "odd\n\n - cgroup2\n"}])
def test_no_limit_is_none(tmp_path: Path, files: dict[str, str]) -> None:
    proc = tree(tmp_path, files | {"c/cpu.cfs_quota_us": "-1", "c/cpu.cfs_period_us": "100000"})
    assert (cpu_limit(proc), memory_limit(proc)) == (None, None)


def test_a_group_outside_of_the_mount_is_seen_as_the_mount(tmp_path: Path) -> None:
    mountinfo = "30 24 0:26 /docker/abc {root}/cg rw - cgroup2 cgroup2 rw\n"
    proc = tree(tmp_path, {"proc/cgroup": "0::/\n", "proc/mountinfo": mountinfo, "cg/cpu.max": "200000 100000"})
    assert cpu_limit(proc) == 2.0
