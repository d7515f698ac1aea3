"""Threads that rebuild results: each end is told once, slow ones hold nobody up, stuck ones are bounded."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from engine._lanes._process import decoder_threads
from engine._lanes._process.decoder_threads import MAX_THREADS, DecoderThreads, Job
from engine._lanes._process.settings import Counters
from engine._lanes.base import Attempt, Outcome, new_attempt
from engine._records import Call
from engine._states import Lane
from tests.support import eventually, eventually_async


class Bench:
    """A DecoderThreads, what it reported, and gates that its jobs wait at."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.ends: dict[int, Outcome] = {}
        self.gates: list[threading.Event] = []
        self.lock = threading.Lock()
        self.rooms = 0
        self.threads = DecoderThreads(self.end, asyncio.get_running_loop(), self.counters, self.make_room)
        self.last = 0

    def end(self, attempt: Attempt, outcome: Outcome) -> None:
        with self.lock:
            assert attempt.task_id not in self.ends, "an attempt ended twice"
            self.ends[attempt.task_id] = outcome

    def make_room(self) -> None:
        with self.lock:
            self.rooms += 1

    def do(self, work: Callable[[], Any], size: int = 0) -> Attempt:
        self.last += 1
        attempt = new_attempt(Call(work, "job", Lane.PROCESS), self.last, 1, (), {})
        self.threads.do(
            Job(attempt, size, 5.0, lambda: Outcome(work()), lambda error: Outcome(error=error, started_at=5.0))
        )
        return attempt

    def stuck(self) -> Attempt:
        """Do a job that ends when its gate is opened."""
        gate = threading.Event()
        self.gates.append(gate)
        return self.do(lambda: gate.wait(60))

    async def outcome(self, attempt: Attempt) -> Outcome:
        def ended() -> Outcome | None:
            with self.lock:
                return self.ends.get(attempt.task_id)

        found = await eventually_async(ended, 30.0)
        assert found is not None
        return found


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    try:
        yield made
    finally:
        for gate in made.gates:
            gate.set()
        made.threads.close()


@pytest.fixture
def watchful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_threads, "SLOW_SECONDS", 0.02)
    monkeypatch.setattr(decoder_threads, "STUCK_LOOK_SECONDS", 0.02)


@pytest.fixture
def impatient(watchful: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_threads, "SECONDS", 0.3)


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
async def test_what_a_job_raises_is_its_outcome_and_the_thread_goes_on(error: type[BaseException]) -> None:
    async with bench() as the:

        def fail() -> None:
            raise error

        bad, good = the.do(fail), the.do(threading.get_ident)
        assert isinstance((await the.outcome(bad)).error, error)
        first = (await the.outcome(good)).value
        assert (await the.outcome(the.do(threading.get_ident))).value == first


async def test_a_slow_job_gets_a_second_thread_beside_it_and_quick_ones_do_not(watchful: None) -> None:
    async with bench() as the:
        slow = the.stuck()
        quick = [the.do(threading.get_ident) for _ in range(20)]
        idents = {(await the.outcome(job)).value for job in quick}
        assert len(idents) == 1
        assert slow.task_id not in the.ends
        assert the.counters.decode_timeouts == 0


async def test_a_stuck_job_is_given_up_and_its_thread_ends_when_it_does(impatient: None) -> None:
    async with bench() as the:
        job = the.stuck()
        outcome = await the.outcome(job)
        assert isinstance(outcome.error, TimeoutError)
        assert (the.counters.decode_timeouts, the.counters.stuck_decoders) == (1, 1)
        the.gates[0].set()
        await eventually_async(lambda: the.counters.stuck_decoders == 0, 30.0)
        assert (await the.outcome(the.do(lambda: 7))).value == 7


async def test_a_long_result_has_time_for_its_length(impatient: None) -> None:
    async with bench() as the:
        gate = threading.Event()
        the.gates.append(gate)
        long, short = the.do(lambda: gate.wait(60), size=1 << 30), the.stuck()
        assert isinstance((await the.outcome(short)).error, TimeoutError)
        assert long.task_id not in the.ends
        gate.set()
        assert (await the.outcome(long)).value is True


async def test_no_more_than_the_most_threads_are_left_behind_and_then_jobs_are_refused(impatient: None) -> None:
    async with bench() as the:
        before = threading.active_count()
        jobs = [the.stuck() for _ in range(MAX_THREADS + 3)]
        errors = [(await the.outcome(job)).error for job in jobs]
        assert [type(error) for error in errors].count(TimeoutError) == MAX_THREADS
        assert [type(error) for error in errors].count(RuntimeError) == 3
        assert threading.active_count() - before == MAX_THREADS
        refused = (await the.outcome(the.do(lambda: 1))).error
        assert f"{MAX_THREADS} earlier results are still being rebuilt" in str(refused)
        assert the.counters.decode_refusals == 4
        the.gates[0].set()  # one comes back: its thread ends, so there is room for another
        await eventually_async(lambda: the.counters.stuck_decoders == MAX_THREADS - 1, 30.0)
        assert (await the.outcome(the.do(lambda: 1))).value == 1


async def test_giving_up_reports_once_whoever_comes_first(watchful: None) -> None:
    async with bench() as the:
        running, waiting = the.stuck(), the.do(lambda: 1)
        assert the.threads.started(running) == 5.0
        assert the.threads.give_up(running)
        assert not the.threads.give_up(running)
        assert the.threads.started(running) is None
        assert the.ends[running.task_id].cancelled
        the.gates[0].set()
        assert (await the.outcome(waiting)).value == 1
        assert not the.threads.give_up(waiting)


async def test_a_job_given_up_while_it_waits_is_never_begun(watchful: None) -> None:
    async with bench() as the:
        begun = threading.Event()
        the.stuck()
        waiting = the.do(begun.set)
        assert the.threads.give_up(waiting)
        behind = the.do(lambda: 1)
        assert (await the.outcome(behind)).value == 1
        assert not begun.is_set()


async def test_giving_up_against_the_end_of_the_job_is_decided_once() -> None:
    """Many jobs that end while they are given up: one end each, and the answer of ``give_up`` is true."""
    async with bench() as the:
        jobs = []
        for _ in range(300):
            job = the.do(lambda: 1)
            given_up = the.threads.give_up(job)
            jobs.append((job, given_up))
        for job, given_up in jobs:
            assert (await the.outcome(job)).cancelled is given_up


async def test_time_counts_only_while_the_loop_turns(watchful: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole program stopped and continued looks like this: the clock has moved on, the thread has not."""
    async with bench() as the:
        job = the.stuck()
        await asyncio.sleep(0.03)
        monkeypatch.setattr(decoder_threads, "time", Clock(lambda: time.monotonic() + 1000))
        await asyncio.sleep(0.05)
        assert job.task_id not in the.ends
        the.gates[0].set()
        assert (await the.outcome(job)).error is None


class Clock:
    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.monotonic = monotonic


async def test_close_does_not_wait_for_a_stuck_thread(impatient: None) -> None:
    async with bench() as the:
        await the.outcome(the.stuck())
        loop = asyncio.get_running_loop()
        before = loop.time()
        the.threads.close()
        assert loop.time() - before < 5.0


async def test_no_thread_to_be_had_fails_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """As at the end of the interpreter: starting a thread raises, and nobody is left hanging."""

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async with bench() as the:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            assert isinstance((await the.outcome(the.do(lambda: 1))).error, RuntimeError)
        assert (await the.outcome(the.do(lambda: 2))).value == 2


def test_what_a_job_held_is_let_go_while_the_thread_waits() -> None:
    class Held:
        pass

    async def main() -> Any:
        import weakref

        async with bench() as the:
            held = Held()
            seen = weakref.ref(held)
            job = the.do(lambda held=held: None)  # type: ignore[misc]  # a default, to hold it
            del held
            await the.outcome(job)
            del job
            the.ends.clear()
            eventually(lambda: seen() is None, 10.0)

    asyncio.run(main())


async def test_it_is_full_while_much_waits_and_says_when_there_is_room(
    watchful: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused and given-up jobs make room as those that are done do: nobody waits for room that never comes."""
    monkeypatch.setattr(decoder_threads, "WAITING_BYTES", 100)
    async with bench() as the:
        running = the.stuck()
        await eventually_async(lambda: any(thread.job for thread in the.threads._threads), 30.0)
        with monkeypatch.context() as patch:
            patch.setattr(decoder_threads, "MAX_THREADS", 1)
            waiting = [the.do(lambda: 1, size=60) for _ in range(3)]
            assert the.threads.is_full()
            assert the.threads.give_up(waiting[0])
            assert the.rooms == 0
            the.gates[0].set()
            for job in waiting[1:]:
                assert (await the.outcome(job)).value == 1
        assert (await the.outcome(running)).value is True
        assert not the.threads.is_full()
        assert the.rooms == 1
