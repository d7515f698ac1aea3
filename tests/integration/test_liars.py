"""Workers that break the protocol: each is replaced, its task told why, and nobody else notices (design/0008)."""

import asyncio
import os
import pickle
import signal
import threading
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, Task
from engine._lanes._process import outbox, stall
from engine._lanes._process.native import NativeWorker
from engine.errors import ResultDecodeError, TaskTimeout, WorkerCrashed, WorkerStartupError
from tests.contracts import functions
from tests.contracts.process_front import native_workers
from tests.integration import liars
from tests.sent_ahead import send_ahead
from tests.support import eventually, eventually_async

STUCK = 30.0  #: seconds; a bound for what never happens, not a measurement

#: What the error of the running task says, for each lie.
REASONS = {
    "garbage": "magic", "noise": "", "wrong_magic": "magic", "wrong_kind": "kind 77", "many_segments": "buffers",
    "ten_gigabytes": "10737418240", "ten_gigabytes_outside": "10737418240", "negative_size": "18446744073709551615",
    "negative_bulk": "18446744073709551608", "long_report": "1073741824", "sums_that_do_not_add_up": "add up",
    "times_that_cannot_be": "nan", "end_before_start": "9.0 and 8.0", "unknown_number": "not its turn",
    "number_to_come": "not its turn", "truth_after_a_lie": "not its turn", "closed_stream": "closed its result stream",
    "shut_stream": "closed its result stream", "short_control": "message of 1 bytes", "unknown_control": "kind 99",
    "second_hello": "kind 3 in state busy", "long_control": "more than", "descriptor": "descriptor",
    "skipped_unasked": "nobody had told", "strange_progress": "progress", "shut_control": "closed its control socket",
    "item_of_no_chunk": "was not at a chunk", "end_of_no_chunk": "was not at a chunk",
}  # fmt: skip


def test_every_lie_is_told() -> None:
    assert set(REASONS) == set(liars.LIES)


async def within(awaitable: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(awaitable, STUCK)


async def crash(task: Task[Any]) -> WorkerCrashed:
    with pytest.raises(WorkerCrashed) as caught:
        await within(task)
    return caught.value


@pytest.mark.parametrize("name", sorted(liars.LIES))
async def test_a_liar_is_replaced_and_only_its_own_task_told(name: str, tmp_path: Path) -> None:
    told = tmp_path / "told"
    async with Engine(processes=2) as engine:
        bystander = engine.submit(functions.hold, str(tmp_path), "bystander")
        await eventually_async((tmp_path / "bystander.begun").exists, STUCK)
        liar = engine.submit(liars.tell, name, str(told))
        behind = [engine.submit(functions.give, n) for n in range(3)]
        error = await crash(liar)
        assert REASONS[name] in str(error)
        assert "was replaced while it ran task" in str(error)
        assert error.pid is not None
        assert not Path(f"/proc/{error.pid}").exists()
        (tmp_path / "go").touch()
        assert await within(bystander) == "bystander"
        assert await within(asyncio.gather(*behind)) == [0, 1, 2]
        assert engine.snapshot().malformed == 1
        assert engine.snapshot().crashes == 1


async def test_an_answer_to_a_task_behind_is_not_believed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A task answers the next one in its worker, which has not begun: that one is given back, and truly runs."""
    send_ahead(monkeypatch, 2)
    async with Engine(processes=1) as engine:
        pid = await within(engine.submit(os.getpid))
        liar = engine.submit(liars.tell, "number_to_come", str(tmp_path / "told"))
        behind = engine.submit(os.getpid)
        assert "not its turn" in str(await crash(liar))
        assert await within(behind) not in (1, pid)


async def test_a_second_answer_replaces_the_worker_and_the_next_task_runs_at_most_once(tmp_path: Path) -> None:
    """The worker may have begun the next task when the lie is seen: then that one is told, else it runs elsewhere."""
    async with Engine(processes=1) as engine:
        gate, ran = tmp_path / "gate", tmp_path / "ran"
        first = engine.submit(liars.answer_twice, str(gate))
        assert await within(first) == 1
        behind = engine.submit(functions.mark, str(ran), "once")
        gate.touch()
        outcome = (await within(asyncio.gather(behind, return_exceptions=True)))[0]
        if isinstance(outcome, WorkerCrashed):
            assert "answered number 1, which was not its turn" in str(outcome)
        else:
            assert ran.read_text().splitlines() == ["once"]
        assert engine.snapshot().malformed == 1
        assert await within(engine.submit(functions.give, 5)) == 5


async def test_a_second_answer_costs_no_task_that_has_not_begun(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """E29: 1. The lie is seen. 2. The worker goes on to the next task. 3. It is killed, and that task was blamed."""
    kill = NativeWorker.kill

    def go_on_and_die(worker: NativeWorker) -> None:
        (tmp_path / "second").touch()
        eventually(lambda: not worker.unbegun(), STUCK)
        kill(worker)

    async with Engine(processes=1) as engine:
        liar = engine.submit(liars.answer_twice_and_wait, str(tmp_path / "first"), str(tmp_path / "second"))
        assert await within(liar) == 1
        behind = engine.submit(functions.mark, str(tmp_path / "ran"), "once")
        await eventually_async(lambda: native_workers(engine)[0].count() == 1, STUCK)
        monkeypatch.setattr(NativeWorker, "kill", go_on_and_die)
        (tmp_path / "first").touch()
        await within(behind)
        monkeypatch.undo()
        assert (behind.attempt, (tmp_path / "ran").read_text().split()) == (1, ["once"])
        assert (engine.snapshot().malformed, engine.snapshot().crashes) == (1, 0)


async def test_what_came_before_the_nonsense_counts() -> None:
    """A whole answer and nonsense in one piece: the answer is the task's, the nonsense is the worker's."""
    async with Engine(processes=1) as engine:
        assert await within(engine.submit(liars.one_and_noise)) == 1
        await eventually_async(lambda: engine.snapshot().malformed == 1, STUCK)
        assert await within(engine.submit(functions.give, 5)) == 5


@pytest.mark.parametrize(
    "pickled",
    [b"", b"junk", pickle.dumps(5), pickle.dumps((1, 2, 3, 4, 5)), pickle.dumps(("a", "b", "c", "d", True)),
     b"cos\nabort\n(tR."],
)  # fmt: skip
async def test_a_report_that_is_none_fails_its_task(pickled: bytes) -> None:
    async with Engine(processes=1) as engine:
        with pytest.raises(ResultDecodeError):
            await within(engine.submit(liars.bad_report, pickled))
        assert await within(engine.submit(functions.give, 5)) == 5


async def test_a_false_mark_has_nothing_called_on_the_loop(tmp_path: Path) -> None:
    """A worker that marks as harmless what is not: it is rebuilt on a thread, like all that is not on the list."""
    pickled = pickle.dumps(CallsWhenLoaded())
    async with Engine(processes=1) as engine:
        assert await within(engine.submit(liars.false_mark, pickled)) != threading.get_ident()


class CallsWhenLoaded:
    def __reduce__(self) -> Any:
        return threading.get_ident, ()


async def test_well_formed_nonsense_on_the_control_socket_harms_nobody() -> None:
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context))
    async with Engine(processes=1) as engine:
        assert await within(engine.submit(liars.nonsense_on_control)) == "said"
        pid = await within(engine.submit(os.getpid))
        assert await within(engine.submit(os.getpid)) == pid
        assert engine.snapshot().malformed == 0
    assert not problems


async def test_a_flood_of_prints_slows_its_worker_and_holds_nobody_up(capsys: pytest.CaptureFixture[str]) -> None:
    async with Engine(processes=2) as engine:
        flood = engine.submit(liars.flood, 1.0)
        seen = 0
        while not flood.done():
            assert await within(engine.submit(functions.give, seen)) == seen
            seen += 1
        assert await within(flood) > 0
        assert seen > 5
        assert engine.snapshot().malformed == 0
    assert "xxx" in capsys.readouterr().out


async def test_a_descriptor_on_the_stream_is_dropped() -> None:
    """Nothing asks for descriptors on the stream, so the kernel drops them; the leak check of every test looks."""
    async with Engine(processes=1) as engine:
        before = len(os.listdir("/proc/self/fd"))
        assert await within(engine.submit(functions.give, 1)) == 1
        count = len(os.listdir("/proc/self/fd"))
        assert count > before
        assert await within(engine.submit(liars.descriptor_on_the_stream)) == 1
        assert len(os.listdir("/proc/self/fd")) == count


async def test_descriptors_sent_before_the_hello_are_closed_and_refused() -> None:
    before = len(os.listdir("/proc/self/fd"))
    async with Engine(processes=1, initializer=liars.initializer_with_gifts, initargs=(1,)) as engine:
        with pytest.raises(WorkerStartupError, match="descriptor"):
            await within(engine.submit(functions.give, 1))
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_hello_with_a_descriptor_that_is_no_pidfd_is_taken_without_it() -> None:
    async with Engine(processes=1, initializer=liars.hello_with_a_pipe) as engine:
        assert await within(engine.submit(functions.give, 1)) == 1
        pid = await within(engine.submit(os.getpid))
        os.kill(pid, signal.SIGKILL)
        await eventually_async(lambda: not engine.snapshot().workers, STUCK)
        assert await within(engine.submit(functions.give, 2)) == 2


# -- half of an answer


async def test_a_worker_that_stalls_in_the_middle_of_an_answer_is_replaced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """W5, the liar's side: half of 64 MiB, then nothing: replaced after its bound, others flow all the while."""
    monkeypatch.setattr(stall, "STALL_SECONDS", 0.4)
    async with Engine(processes=2) as engine:
        liar = engine.submit(liars.half_and_the_rest, str(tmp_path / "half"), "/never", 64 << 20)
        n = 0
        while not liar.done():
            assert await within(engine.submit(functions.give, n)) == n
            n += 1
        error = await crash(liar)
        assert "part of an answer and then nothing for 0.4 s" in str(error)
        assert n > 1
        assert engine.snapshot().malformed == 1


@pytest.mark.parametrize("size", [0, 10, 40_000])
async def test_a_stall_inside_a_small_answer_counts_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, size: int
) -> None:
    monkeypatch.setattr(stall, "STALL_SECONDS", 0.4)
    async with Engine(processes=1) as engine:
        error = await crash(engine.submit(liars.cut_short, size))
        assert "part of an answer" in str(error)


async def test_a_stopped_worker_is_not_a_stalled_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """W5 with SIGSTOP: half of 64 MiB, stopped for many bounds, continued: the result arrives whole, others flow."""
    monkeypatch.setattr(stall, "STALL_SECONDS", 0.2)
    half = tmp_path / "half"
    async with Engine(processes=2) as engine:
        task = engine.submit(liars.half_and_the_rest, str(half), str(tmp_path / "go"), 64 << 20)
        await eventually_async(half.exists, STUCK)
        pid = int(half.read_text())
        os.kill(pid, signal.SIGSTOP)
        (tmp_path / "go").touch()
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            assert await within(engine.submit(functions.give, 1)) == 1
        assert not task.done()
        assert engine.snapshot().malformed == 0
        os.kill(pid, signal.SIGCONT)
        assert len(await within(task)) == 64 << 20


async def test_a_loop_that_did_not_turn_does_not_make_a_worker_stalled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The whole program stopped and continued looks like this: much time passed, and no byte came; it counts once."""
    monkeypatch.setattr(stall, "STALL_SECONDS", 1.0)
    half = tmp_path / "half"
    async with Engine(processes=1) as engine:
        task = engine.submit(liars.half_and_the_rest, str(half), str(tmp_path / "go"), 4 << 20)
        await eventually_async(half.exists, STUCK)
        for _ in range(3):
            time.sleep(0.5)  # the loop stands still, as it does while the whole program is stopped
            await asyncio.sleep(0)
        assert engine.snapshot().malformed == 0
        (tmp_path / "go").touch()
        assert len(await within(task)) == 4 << 20


async def test_a_killed_worker_leaves_no_half_result(tmp_path: Path) -> None:
    """W5: SIGKILL with half of a 64 MiB result in the pipe: nothing torn is decoded, others' results flow."""
    half = tmp_path / "half"
    async with Engine(processes=2) as engine:
        for _ in range(3):
            half.unlink(missing_ok=True)
            task = engine.submit(liars.half_and_the_rest, str(half), str(tmp_path / "never"), 64 << 20)
            others = [engine.submit(functions.give, n) for n in range(20)]
            await eventually_async(half.exists, STUCK)
            os.kill(int(half.read_text()), signal.SIGKILL)
            error = await crash(task)
            assert error.signal_name == "SIGKILL"
            assert await within(asyncio.gather(*others)) == list(range(20))
        assert engine.snapshot().malformed == 0


async def test_a_worker_killed_while_it_reads_its_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """W5 the other way: SIGKILL with half of a 64 MiB argument in the pipe: that task crashed, others flow."""
    monkeypatch.setattr(outbox, "TURN_BYTES", 1)  # one slice in each turn of the loop, so that half can be seen
    async with Engine(processes=2) as engine:
        task = engine.submit(functions.length, bytes(64 << 20))
        others = [engine.submit(functions.give, n) for n in range(20)]

        def is_half_written() -> int:
            for worker in native_workers(engine):
                if 16 << 20 < sum(map(len, worker.outbox._queue)) < 32 << 20:
                    return worker.child.pid
            return 0

        async with asyncio.timeout(STUCK):
            while not (pid := is_half_written()):
                await asyncio.sleep(0)  # a look at every turn of the loop: 128 turns with half of it written
        os.kill(pid, signal.SIGKILL)
        error = await crash(task)
        assert error.signal_name == "SIGKILL"
        assert await within(asyncio.gather(*others)) == list(range(20))


async def test_a_stopped_worker_gets_its_arguments_when_it_goes_on(tmp_path: Path) -> None:
    """W5 the other way with SIGSTOP: half of 64 MiB fits no socket; others flow, and later it arrives whole."""
    async with Engine(processes=2) as engine:
        pid = await within(engine.submit(os.getpid))
        os.kill(pid, signal.SIGSTOP)
        task = engine.submit(functions.length, bytes(64 << 20))
        for n in range(20):
            assert await within(engine.submit(functions.give, n)) == n
        assert not task.done()
        os.kill(pid, signal.SIGCONT)
        assert await within(task) == 64 << 20


async def test_a_task_whose_worker_never_reads_its_arguments_can_be_timed_out(tmp_path: Path) -> None:
    """Nobody can tell it from a slow import, so it has the task's own timeout; then its worker is replaced."""
    async with Engine(processes=1) as engine:
        assert await within(engine.submit(liars.read_nothing_more)) is None
        task = engine.options(timeout=0.3).submit(functions.length, bytes(64 << 20))
        with pytest.raises(TaskTimeout):
            await within(task)
        assert await within(engine.submit(functions.length, bytes(1 << 20))) == 1 << 20
