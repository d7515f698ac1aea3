"""The BackgroundTaskManager's limit, names and outcomes while threads and tasks get in each other's way.

Each test prints its seed; ``ENGINE_RACE_SEED`` replays one.
"""

import asyncio
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from engine import EngineClosed, checkpoint
from engine.manager import BackgroundTaskManager, TaskStatus
from tests.support import eventually_async

TERMINAL = {TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED}
TOO_MANY = "Maximum concurrent tasks exceeded"


@pytest.fixture(autouse=True)
def _short_turns() -> Iterator[None]:
    """Let threads change places every few bytecodes."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def rng() -> random.Random:
    seed = int(os.environ.get("ENGINE_RACE_SEED", random.randrange(2**32)))
    print(f"seed {seed}")
    return random.Random(seed)


class Meter:
    """Counts who is inside user code, in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.inside = 0
        self.most = 0
        self.entered: Counter[str] = Counter()

    def enter(self, name: str) -> None:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.entered[name] += 1

    def leave(self) -> None:
        with self._lock:
            self.inside -= 1

    async def coroutine(self, name: str, seconds: float) -> str:
        self.enter(name)
        try:
            await asyncio.sleep(seconds)
        finally:
            self.leave()
        return name

    def plain(self, name: str, seconds: float) -> str:
        self.enter(name)
        try:
            time.sleep(seconds)
        finally:
            self.leave()
        return name

    def polite(self, name: str, seconds: float) -> str:
        self.enter(name)
        try:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                time.sleep(0.0005)
                checkpoint()
        finally:
            self.leave()
        return name


def submit_now(
    manager: BackgroundTaskManager, task_id: str, function: Callable[..., object], /, **kwargs: object
) -> str:
    """Submit from a thread that runs no loop: submit_task never suspends, so one step is all of it."""
    try:
        manager.submit_task(task_id, function, **kwargs).send(None)
    except StopIteration:
        return "accepted"
    except ValueError as error:
        return str(error)
    raise AssertionError("submit_task suspended")


async def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Run ``work(number)`` in ``count`` threads that start at the same instant, while the loop turns."""
    barrier = threading.Barrier(count)
    errors: list[BaseException] = []

    def run(number: int) -> None:
        barrier.wait()
        try:
            work(number)
        except BaseException as error:  # shown by the thread that waits
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    await eventually_async(lambda: not any(thread.is_alive() for thread in threads), timeout=50)
    if errors:
        raise errors[0]


async def everything_ended(manager: BackgroundTaskManager) -> None:
    await eventually_async(lambda: manager.get_queue_size() == 0, timeout=30)


def check_records(manager: BackgroundTaskManager) -> None:
    for record in manager.tasks.values():
        assert record.status in TERMINAL
        assert record.completed_at is not None
        start = record.created_at if record.started_at is None else record.started_at
        assert record.created_at < record.completed_at
        assert start < record.completed_at
        assert record.started_at is None or record.created_at < record.started_at
        assert (record.result == record.task_id) == (record.status is TaskStatus.COMPLETED)
    assert manager.running_tasks == {}


async def test_a_burst_from_threads_never_exceeds_the_limit(rng: random.Random) -> None:
    limit, meter = rng.randint(1, 5), Meter()
    manager = BackgroundTaskManager(limit)
    await manager.start()
    plans = [[(rng.choice(["coroutine", "plain"]), rng.random() * 0.002) for _ in range(60)] for _ in range(6)]
    answers: list[Counter[str]] = [Counter() for _ in plans]

    def work(number: int) -> None:
        for step, (kind, seconds) in enumerate(plans[number]):
            name = f"{number}.{step}"
            answers[number][submit_now(manager, name, getattr(meter, kind), name=name, seconds=seconds)] += 1

    await in_threads(len(plans), work)
    await everything_ended(manager)
    total = sum(answers, Counter())
    assert set(total) <= {"accepted", TOO_MANY}
    assert total["accepted"] == len(manager.tasks) == manager.get_task_count()["completed"] >= limit
    assert meter.most <= limit
    assert meter.entered == Counter(list(manager.tasks))  # each once, and nothing that was refused
    check_records(manager)
    await manager.stop()


async def test_one_name_submitted_by_many_threads_at_once_is_accepted_once(rng: random.Random) -> None:
    manager = BackgroundTaskManager(100)
    await manager.start()
    meter = Meter()
    names = [f"{number}" for number in range(40)]
    orders = [rng.sample(names, len(names)) for _ in range(6)]
    answers: list[str] = []

    def work(number: int) -> None:
        for name in orders[number]:
            answers.append(submit_now(manager, name, meter.coroutine, name=name, seconds=0))

    await in_threads(len(orders), work)
    await everything_ended(manager)
    expected = Counter({"accepted": len(names)})
    expected.update({f"Task {name} already exists": len(orders) - 1 for name in names})
    assert Counter(answers) == expected
    assert meter.entered == Counter(names)
    await manager.stop()


async def test_while_the_limit_runs_every_thread_is_refused() -> None:
    manager = BackgroundTaskManager(3)
    opened = asyncio.Event()
    answers: list[str] = []
    for number in range(3):
        await manager.submit_task(f"{number}", opened.wait)
    await eventually_async(lambda: len(manager.get_running_tasks()) == 3)

    def work(number: int) -> None:
        for step in range(50):
            answers.append(submit_now(manager, f"{number}.{step}", opened.wait))

    await in_threads(6, work)
    assert Counter(answers) == {TOO_MANY: 300}
    assert len(manager.tasks) == 3
    opened.set()
    await everything_ended(manager)
    await manager.stop()


async def test_cancels_from_threads_race_with_starts_and_ends_and_the_loser_is_told(rng: random.Random) -> None:
    """A cancel that answered True means not COMPLETED; one that answered False found the task over."""
    limit, meter = rng.randint(1, 4), Meter()
    manager = BackgroundTaskManager(limit)
    await manager.start()
    kinds = [rng.choice(["coroutine", "plain", "polite"]) for _ in range(150)]
    pauses = [rng.random() * 0.001 for _ in kinds]
    answers: dict[str, list[bool]] = {f"{number}": [] for number in range(len(kinds))}
    orders = [rng.sample(list(answers), len(answers)) for _ in range(4)]
    for number, kind in enumerate(kinds):
        await manager.submit_task(f"{number}", getattr(meter, kind), name=f"{number}", seconds=pauses[number])

    def work(number: int) -> None:
        async def cancel() -> None:
            for name in orders[number][::2]:
                answers[name].append(await manager.cancel_task(name))

        asyncio.run(cancel())

    await in_threads(len(orders), work)
    await everything_ended(manager)
    await eventually_async(lambda: meter.inside == 0)
    assert meter.most <= limit
    for name, told in answers.items():
        record = manager.tasks[name]
        if any(told):
            assert record.status is TaskStatus.CANCELLED
        else:
            assert record.status is TaskStatus.COMPLETED
        assert meter.entered[name] <= 1
        assert record.started_at is not None or meter.entered[name] == 0
    check_records(manager)
    await manager.submit_task("after", meter.coroutine, name="after", seconds=0)  # no slot was lost
    assert await manager.wait_for_task("after", timeout=10) == "after"
    await manager.stop()


async def test_waits_that_time_out_as_the_task_ends_see_the_result_or_the_timeout_and_cancel_nothing(
    rng: random.Random,
) -> None:
    meter = Meter()
    manager = BackgroundTaskManager(8)
    outcomes: Counter[str] = Counter()

    async def wait(name: str, timeout: float) -> None:
        try:
            assert await manager.wait_for_task(name, timeout) == name
            outcomes["result"] += 1
        except TimeoutError:
            outcomes["timeout"] += 1

    for round_ in range(25):
        waits = []
        for number in range(8):
            name, seconds = f"{round_}.{number}", rng.random() * 0.004
            kind = meter.plain if number % 2 else meter.coroutine
            await manager.submit_task(name, kind, name=name, seconds=seconds)
            waits += [wait(name, seconds * factor) for factor in (0, 0.8, 1, 1.2)]
        await asyncio.gather(*waits)
        await everything_ended(manager)
    assert manager.get_task_count()["completed"] == 200
    assert sum(outcomes.values()) == 800
    assert meter.most <= 8
    await manager.stop()


@pytest.mark.parametrize("drain", [False, True])
async def test_submits_race_with_stop_and_every_accepted_task_ends_once(rng: random.Random, drain: bool) -> None:
    limit, meter = 3, Meter()
    for _ in range(10):
        manager = BackgroundTaskManager(limit)
        await manager.start()
        accepted: list[str] = []
        refused: list[str] = []
        stop_after = rng.random() * 0.01

        def work(number: int, manager: BackgroundTaskManager = manager, accepted: list[str] = accepted,
                 refused: list[str] = refused) -> None:  # fmt: skip
            for step in range(60):
                name = f"{number}.{step}"
                kind = meter.plain if step % 3 == 0 else meter.coroutine
                try:
                    answer = submit_now(manager, name, kind, name=name, seconds=0.0001)
                except EngineClosed:
                    refused.append(name)
                    continue
                if answer == "accepted":
                    accepted.append(name)

        async def stop(manager: BackgroundTaskManager = manager, after: float = stop_after) -> None:
            await asyncio.sleep(after)
            await manager.stop(timeout=20, drain=drain)

        await asyncio.gather(in_threads(4, work), stop())
        assert set(manager.tasks) == set(accepted)
        check_records(manager)
        counts = manager.get_task_count()
        assert counts["completed"] + counts["cancelled"] == len(accepted)
        assert not drain or counts["cancelled"] == 0
        assert meter.inside == 0
        assert meter.most <= limit


def test_threads_share_a_manager_across_runs_of_their_own(rng: random.Random) -> None:
    """Loops come and go in several threads: whoever finds no live loop becomes the home, and nobody hangs."""
    manager = BackgroundTaskManager(4)
    meter = Meter()
    barrier = threading.Barrier(4)
    errors: list[BaseException] = []
    pauses = [[rng.random() * 0.002 for _ in range(15)] for _ in range(4)]

    async def run(number: int, step: int) -> None:
        name = f"{number}.{step}"
        try:
            await manager.submit_task(name, meter.coroutine, name=name, seconds=pauses[number][step])
        except (ValueError, RuntimeError):  # the limit runs, or the home's loop is just ending
            return
        try:
            await manager.wait_for_task(name, timeout=5)
        except asyncio.CancelledError:  # the loop that was home ended under it
            assert manager.tasks[name].status is TaskStatus.CANCELLED

    def work(number: int) -> None:
        barrier.wait()
        try:
            for step in range(15):
                asyncio.run(run(number, step))
        except BaseException as error:  # shown by the thread that waits
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert manager.get_queue_size() == 0
    assert meter.most <= 4
    check_records(manager)
