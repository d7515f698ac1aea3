"""Threads and event loops that do one random thing after the other with an engine, and remember what they were told."""

import asyncio
import concurrent.futures
import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from engine import BlockingEngine, EngineClosed, Retry, Task, TaskState
from engine.errors import EngineFull, TaskTimeout, WorkerCrashed
from stress._campaign import PATIENCE
from stress._ledger import Promise
from stress._race_tasks import die, echo, maybe_fail, where, work, work_async
from stress._told import note_end, note_now

__all__ = ["Hammer"]


class Hammer:
    """One run: what it has promised, and the threads and loops that make it promise more."""

    def __init__(self, engine: BlockingEngine, path: str, seed: int) -> None:
        self.engine = engine
        self.path = path
        self.seed = seed
        self.over = threading.Event()
        self.refused: Counter[str] = Counter()
        self.did: Counter[str] = Counter()
        self.errors: list[str] = []
        self._lock = threading.Lock()
        self._promises: dict[int, tuple[Promise, Task[Any] | None]] = {}
        self._next = 0

    def promise(self, rng: random.Random) -> Promise:
        """Make the next call, not yet submitted."""
        with self._lock:
            self._next += 1
            promise = Promise(self._next, f"{rng.getrandbits(64):016x}")
            self._promises[promise.number] = (promise, None)
            return promise

    def accepted(self, promise: Promise, task: Task[Any]) -> None:
        """Note that ``task`` is to keep ``promise``."""
        promise.accepted = True
        self._promises[promise.number] = (promise, task)

        task.add_done_callback(partial(note_end, promise))

    def submit(self, rng: random.Random, engine: Any = None) -> tuple[Promise, Task[Any]] | None:
        """Submit something to some lane with some options; None if it was refused."""
        lane = rng.choices(["thread", "process", "loop"], [4, 4, 3])[0]
        view, retry = self.engine if engine is None else engine, None
        if rng.random() < 0.2:
            retry = Retry(max_attempts=3, base_delay=0.001, max_delay=0.01)
        fn: Callable[..., Any] = work_async if lane == "loop" else work
        if lane == "process" and rng.random() < 0.02:
            fn = die
        if engine is None:
            view = view.options(
                lane=None if lane == "loop" else lane,
                timeout=rng.choice([None, None, 0.005, 0.05]),
                total_timeout=rng.choice([None, None, None, 0.1]),
                retry=retry,
                priority=rng.choice([-10, 0, 0, 10]),
                grace=rng.choice([0.02, 0.1]),
            )
        promise = self.promise(rng)
        promise.most_attempts = retry.max_attempts if retry is not None else 1
        seconds = rng.choice([0, 0, 0, 0.001, 0.01, 0.06])
        try:
            task = view.submit(fn, self.path, promise.number, promise.token, seconds, rng.random() < 0.1)
        except (EngineFull, EngineClosed) as error:
            self.refused[type(error).__name__] += 1
            if isinstance(error, EngineClosed):
                raise  # the engine was stopped under us: this thread or loop is done
            return None
        self.accepted(promise, task)
        return promise, task

    def cancel(self, promise: Promise, task: Task[Any]) -> None:
        """Cancel, and remember the answer."""
        promise.cancel_answers.append(task.cancel())
        self.did["cancels"] += 1

    # -- a thread

    def thread(self, number: int) -> None:
        """Do one random thing after the other until time is over."""
        rng = random.Random(f"{self.seed} thread {number}")
        mine: list[tuple[Promise, Task[Any]]] = []
        while not self.over.is_set():
            draw = rng.random()
            if draw < 0.6:
                made = self.submit(rng)
                if made is not None:
                    mine.append(made)
            elif draw < 0.8 and mine:
                self.cancel(*rng.choice(mine))
            elif draw < 0.9 and mine:
                self.wait(rng, mine.pop(rng.randrange(len(mine)))[1])
            elif draw < 0.94:
                self.map(rng)
            elif draw < 0.96:
                self.group(rng)
            elif draw < 0.98:
                self.look()
            elif draw < 0.995:
                self.burst()
            else:
                self.kill(rng)
            if len(mine) > 50:
                self.wait(rng, mine.pop(0)[1])

    def wait(self, rng: random.Random, task: Task[Any]) -> None:
        """Wait for an outcome, not always to the end."""
        try:
            task.exception(rng.choice([0, 0.01, 1.0]))
        except TimeoutError:
            pass
        except BaseException as error:  # cancelled, which is an outcome too
            if type(error).__name__ != "CancelledError":
                raise

    def map(self, rng: random.Random) -> None:
        """Map over more than is taken, and break off."""
        results = self.engine.options(lane="thread").map(abs, range(-200, 0), ordered=rng.random() < 0.5, window=8)
        try:
            for taken, value in enumerate(results):
                if not 0 < value <= 200:
                    self.errors.append(f"map gave {value}")
                if taken > 20:
                    break
        except EngineFull:
            pass
        results.close()
        self.did["maps"] += 1

    def burst(self) -> None:
        """Submit and cancel tiny tasks as fast as can be: most of the time goes by inside the engine's own steps."""
        view = self.engine.options(lane="thread")
        try:
            tasks = [view.submit(echo, number) for number in range(150)]
        except EngineFull:
            return
        answers = {number: tasks[number].cancel() for number in range(0, 150, 3)}
        for number, task in enumerate(tasks):
            try:
                if task.result(PATIENCE) != number or answers.get(number):
                    self.errors.append(f"burst: {task} gave {task.result()}, cancel said {answers.get(number)}")
            except concurrent.futures.CancelledError:
                pass
        self.did["bursts"] += 1

    def group(self, rng: random.Random) -> None:
        """Run a group, some of whose tasks fail."""
        try:
            with self.engine.options(lane="thread").group() as group:
                for number in range(4):
                    group.submit(maybe_fail, rng.random() < 0.2, number)
        except* (ValueError, EngineFull, RuntimeError):
            pass  # a group that has failed refuses more with a RuntimeError, as a closed engine does
        self.did["groups"] += 1

    def look(self) -> None:
        """Take a snapshot; its counts are taken under one lock, so they must add up."""
        snapshot = self.engine.snapshot()
        total = sum(snapshot.count(state) for state in TaskState)
        with self._lock:
            if total < 0 or any(getattr(lane, s.value) < 0 for lane in snapshot.lanes.values() for s in TaskState):
                self.errors.append(f"negative counts in {snapshot}")
        self.engine.tasks(state="running")
        self.did["snapshots"] += 1

    def kill(self, rng: random.Random) -> None:
        """Kill a busy worker process."""
        pids = [worker.pid for worker in self.engine.snapshot().workers if worker.pid and worker.state == "busy"]
        if pids and rng.random() < 0.3:
            with contextlib.suppress(ProcessLookupError):
                os.kill(rng.choice(pids), signal.SIGKILL)
                self.did["kills"] += 1

    # -- an event loop

    def on_a_loop(self, number: int) -> None:
        """Do what ``loop`` does, on a new one."""
        asyncio.run(self.loop(number))

    async def loop(self, number: int) -> None:
        """Do what coroutines do with tasks, on a loop of its own; stay until every callback was heard here."""
        rng = random.Random(f"{self.seed} loop {number}")
        here = asyncio.get_running_loop()
        mine: list[Promise] = []
        try:
            await self._hammer_on(here, rng, mine)
        except EngineClosed:
            pass
        end = time.monotonic() + PATIENCE
        while not all(promise.rounds for promise in mine) and time.monotonic() < end:
            await asyncio.sleep(0.01)

    async def _hammer_on(self, here: asyncio.AbstractEventLoop, rng: random.Random, mine: list[Promise]) -> None:
        while not self.over.is_set():
            made = []
            for _ in range(rng.randrange(1, 12)):
                pair = self.submit(rng)
                if pair is not None:
                    made.append(pair)
                    mine.append(pair[0])
            tasks: list[Any] = [task for _, task in made]
            draw = rng.random()
            if draw < 0.4:
                await asyncio.gather(*tasks, return_exceptions=True)
            elif draw < 0.6 and made:
                with contextlib.suppress(TimeoutError, ValueError, TaskTimeout, WorkerCrashed, asyncio.CancelledError):
                    await asyncio.wait_for(tasks[0], rng.choice([0.001, 0.01]))
            elif draw < 0.8 and tasks:
                await asyncio.wait(tasks, timeout=rng.choice([0.001, 0.05]), return_when=asyncio.FIRST_COMPLETED)
            elif made:
                self.cancel(*rng.choice(made))
            if rng.random() < 0.1:
                await self._check_loop(here)
            await asyncio.sleep(0)

    async def _check_loop(self, here: asyncio.AbstractEventLoop) -> None:
        try:
            if await self.engine.submit(where) is not here:
                self.errors.append("a coroutine ran on another loop than the one that submitted it")
        except (EngineFull, asyncio.CancelledError):
            pass

    # -- the end

    def promises(self) -> list[Promise]:
        """Return all promises with what the engine says of them now."""
        pairs = [(promise, task) for promise, task in self._promises.values() if task is not None]
        for promise, task in pairs:
            if task.state is TaskState.COMPLETED:
                promise.right_value = task.result() == promise.number
        note_now(pairs)
        ids = Counter(task.id for _, task in pairs)
        self.errors += [f"{count} tasks have the id {number}" for number, count in ids.items() if count > 1]
        return [promise for promise, _ in self._promises.values()]
