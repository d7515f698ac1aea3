"""The campaigns at a small size: their promises hold; and of an engine with a defect they say that it has one."""

import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.stress_runs import a_seed, result_of, run_module, run_stress

CHAOS = ("chaos", "--tasks", "2500", "--kills", "20")  #: three seconds
STORM = ("cancel_storm", "--tasks", "1000", "--hard", "6")
LITTLE = ("resources", "--engines", "1", "--tasks", "5", "--replacements", "0", "--signals", "0")
RESOURCES = ("resources", "--engines", "5", "--tasks", "100", "--replacements", "6", "--signals", "5")


def test_killed_workers_and_poison_hurt_nobody_else() -> None:
    """W1, W2, W3, W4, W5, W7, W22, S1 to S5: every failure is explained, at most one task is charged with a death."""
    run = run_stress(*CHAOS, "--seed", a_seed())
    assert run.returncode == 0, run.stdout + run.stderr
    result = result_of(run)
    assert result["ok"] is True
    assert result["faults"] == result["left"] == {}
    assert result["tasks"] >= 2500
    assert sum(result["strikes"].values()) == 20
    assert sum(result["ends"].values()) == result["tasks"]


def test_what_is_cancelled_is_cancelled_and_its_slot_comes_back() -> None:
    """A4, A5, A6, A8, W14: from loops and threads, at every moment; then each lane runs its full width."""
    run = run_stress(*STORM, "--seed", a_seed())
    assert run.returncode == 0, run.stdout + run.stderr
    result = result_of(run)
    assert result["ok"] is True
    assert result["tasks"] == 1000 + 2 * 6
    assert result["did"]["told True"] > 0
    assert result["ends"]["TaskTimeout"] >= 3


def test_engines_give_everything_back_and_signals_leave_nothing() -> None:
    """R1, R2, R5, N10, W17: no thread, descriptor, process, zombie or file is left, and stderr is the user's."""
    run = run_stress(*RESOURCES, "--seed", a_seed())
    assert run.returncode == 0, run.stdout + run.stderr
    result = result_of(run)
    assert result["ok"] is True
    assert result["left"] == {}
    assert result["did"]["tasks"] >= 100
    assert sum(result["signals"].values()) >= 5


FEWER = ("chaos", "--tasks", "1000", "--kills", "8")  #: enough to notice that something is wrong
AT_ONCE = 3  #: broken engines at a time: much of it they wait for what will not come

#: defect → the script that must notice it, and what it must call it: one of these, or none, and something is left
CAUGHT_BY = {
    "forget_a_give_back": (FEWER, ["hung"]),
    "blame_all_that_was_sent": (FEWER, ["misblamed", "unexplained", "hung"]),
    "send_a_packet_twice": (FEWER, ["duplicated"]),
    "swallow_a_cancellation": (STORM, ["resurrected"]),
    "give_a_slot_back_twice": (STORM, ["width of thread", "width of loop"]),
    "keep_a_descriptor": (LITTLE, []),
}

Runs = dict[str, subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def broken() -> Runs:
    """Run every campaign on an engine with one line of it broken."""

    def run(name: str) -> subprocess.CompletedProcess[str]:
        more = ("--patience", "1", "--seed", a_seed())
        return run_module("tests.integration.stress_defects", name, *CAUGHT_BY[name][0], *more)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(CAUGHT_BY, pool.map(run, CAUGHT_BY), strict=True))


@pytest.mark.parametrize("name", CAUGHT_BY)
def test_a_defect_of_the_engine_is_caught(name: str, broken: Runs) -> None:
    """A check that cannot fail is a bug."""
    faults = CAUGHT_BY[name][1]
    run = broken[name]
    assert run.returncode == 1, run.stdout + run.stderr
    result = result_of(run)
    assert result["ok"] is False
    if faults:
        assert set(faults) & set(result["faults"]), result
    else:
        assert result["left"]["descriptors"]
