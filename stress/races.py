"""Does every accepted task end exactly once, as it was told, while threads and event loops hammer one engine?

    python -m stress races --seconds 60 [--seed S] [--threads T]

Expected: ``ok``, no fault of any kind, no leak, exit code 0. Threads (at least 8) and two event loops submit to all
lanes, cancel, time out, retry, kill workers, take snapshots, run maps that they break off, and groups that fail. Each
execution is written to a ledger outside the engine (``_ledger.py``); at the end the engine is stopped and the ledger is
compared with what every submitter was told. With faults it prints the calls concerned and ends with 1.
"""

import argparse
import asyncio
import concurrent.futures
import contextlib
import json
import logging
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import psutil

from engine import BlockingEngine, Engine, EngineClosed, Retry, Task, TaskState, checkpoint
from engine.errors import EngineFull, TaskTimeout, WorkerCrashed
from stress._ledger import BEGUN, ENDED, Promise, append, check, read
from stress._machine import machine

PATIENCE = 30.0  #: seconds after the end in which every task must have a terminal state

# -- what the tasks do ----------------------------------------------------------------------------------------------


def work(path: str, number: int, token: str, seconds: float, fails: bool) -> int:
    """Write down that it runs, for a while; fail the first time if asked to."""
    append(path, number, token, BEGUN)
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        checkpoint()
        time.sleep(min(left, 0.002))
    append(path, number, token, ENDED)
    if fails:
        raise ValueError(number)
    return number


async def work_async(path: str, number: int, token: str, seconds: float, fails: bool) -> int:
    """Do as ``work``, as a coroutine."""
    append(path, number, token, BEGUN)
    await asyncio.sleep(seconds)
    append(path, number, token, ENDED)
    if fails:
        raise ValueError(number)
    return number


def die(path: str, number: int, token: str, seconds: float, fails: bool) -> int:
    """Take the worker process with it."""
    append(path, number, token, BEGUN)
    os._exit(9)


# -- who submits ----------------------------------------------------------------------------------------------------


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

        def settled(done: Task[Any]) -> None:
            promise.rounds += 1
            promise.states_seen.append(done.state.value)

        task.add_done_callback(settled)

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
            tasks = [view.submit(_echo, number) for number in range(150)]
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
                    group.submit(_maybe_fail, rng.random() < 0.2, number)
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
            if await self.engine.submit(_where) is not here:
                self.errors.append("a coroutine ran on another loop than the one that submitted it")
        except (EngineFull, asyncio.CancelledError):
            pass

    # -- the end

    def promises(self) -> list[Promise]:
        """Return all promises with what the engine says of them now."""
        for promise, task in self._promises.values():
            if task is None:
                continue
            promise.state = task.state.value if task.done() else None
            promise.started = task.started_at is not None
            promise.attempts = task.attempt
            if task.state is TaskState.COMPLETED:
                promise.right_value = task.result() == promise.number
            elif task.state is TaskState.FAILED:
                task.exception()  # or its failure would be logged as one that nobody asked for
        ids = Counter(task.id for _, task in self._promises.values() if task is not None)
        self.errors += [f"{count} tasks have the id {number}" for number, count in ids.items() if count > 1]
        return [promise for promise, _ in self._promises.values()]


def _echo(number: int) -> int:
    return number


def _maybe_fail(fails: bool, number: int) -> int:
    if fails:
        raise ValueError(number)
    return number


async def _where() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


# -- the run --------------------------------------------------------------------------------------------------------


def hammer(seconds: float, seed: int, threads: int) -> dict[str, Any]:
    """Run for ``seconds``, stop, and compare; return what is to be printed."""
    me = psutil.Process()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "ledger")
        before = _belongings(me)
        engine = Engine(threads=4, processes=2, coroutines=50, max_pending=500, grace=0.1, history=100).__enter__()
        run = Hammer(engine, path, seed)
        bodies = [partial(run.thread, number) for number in range(threads)]
        bodies += [partial(run.on_a_loop, number) for number in range(2)]
        crew = [threading.Thread(target=_guarded, args=(run, body), daemon=True) for body in bodies]
        for thread in crew:
            thread.start()
        time.sleep(seconds)  # the length of the run
        stopped_at = time.monotonic()
        report = engine.stop(timeout=min(seconds, 5.0)) if seed % 2 else None  # every other run stops under fire
        run.over.set()
        for thread in crew:
            thread.join(PATIENCE)
        stuck = [thread.name for thread in crew if thread.is_alive()]
        report = engine.stop(timeout=PATIENCE) if report is None else report
        took = time.monotonic() - stopped_at
        promises = run.promises()
        verdict = check(promises, read(path))
        left = _what_is_left(me, before)
    accepted = [promise for promise in promises if promise.accepted]
    states = Counter(promise.state for promise in accepted)
    faults = {kind: numbers[:10] for kind, numbers in verdict.faults.items() if numbers}
    if report.submitted != report.completed + report.failed + report.cancelled:
        faults["sum"] = [report.submitted, report.completed, report.failed, report.cancelled]
    if report.submitted < len(accepted):
        faults["sum"] = [report.submitted, len(accepted)]
    return {
        "ok": not (faults or left or stuck or run.errors),
        "faults": faults, "left": left, "stuck": stuck, "errors": run.errors[:10],
        "accepted": len(accepted), "refused": dict(run.refused), "executed": verdict.executed,
        "states": {str(state): count for state, count in sorted(states.items(), key=str)},
        "started": sum(promise.started for promise in accepted), "did": dict(run.did),
        "engine_submitted": report.submitted, "killed_at_stop": report.killed, "abandoned": report.abandoned,
        "stop_seconds": round(took, 2),
    }  # fmt: skip


def _guarded(run: Hammer, body: Callable[[], None]) -> None:
    try:
        body()
    except EngineClosed:
        pass
    except BaseException as error:  # reported at the end, and the run fails
        import traceback

        run.errors.append("".join(traceback.format_exception(error))[-2000:])


def _belongings(me: psutil.Process) -> tuple[int, int, int]:
    return threading.active_count(), me.num_fds(), len(me.children(recursive=True))


def _what_is_left(me: psutil.Process, before: tuple[int, int, int]) -> dict[str, list[int]]:
    """Say which counts are higher than before, after some time to settle: threads, descriptors, children."""
    end = time.monotonic() + 10
    while True:
        now = _belongings(me)
        left = {
            name: [was, is_]
            for name, was, is_ in zip(("threads", "descriptors", "children"), before, now, strict=True)
            if is_ > was
        }
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.05)


def main(arguments: list[str]) -> int:
    """Run the script; return 0 if every promise was kept."""
    parser = argparse.ArgumentParser(prog="python -m stress races", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to hammer (default: 10)")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="what to draw from")
    parser.add_argument("--threads", type=int, default=8, help="submitting threads, besides two loops (default: 8)")
    options = parser.parse_args(arguments)
    log = logging.getLogger("engine")
    level = log.level
    log.setLevel(logging.CRITICAL)  # crashes and failures are what this is about
    print(f"machine {machine()}\nseed {options.seed}", flush=True)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        result = hammer(options.seconds, options.seed, max(8, options.threads))
    finally:
        sys.setswitchinterval(interval)
        log.setLevel(level)
    trials = result["accepted"]
    print(json.dumps({"script": "races", "seed": options.seed, "seconds": options.seconds, **result}))
    if not result["ok"]:
        print(f"FAULTS: {result['faults'] or result['left'] or result['stuck'] or result['errors']}", file=sys.stderr)
        return 1
    print(f"ok: 0 faults in {trials} tasks; so less than {3 / max(trials, 1):.1e} of them, with 95 % confidence")
    return 0
