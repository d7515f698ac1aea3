"""Runs claimed jobs in an engine: decode, hooks, submit, decide, hooks, say how it ended.

Guarantees
    Home loop only. Each job that is started ends once, with a call of ``on_ended``; until then it is in ``runs``.
    A run that was cut off, by its timeout or by us, ends once nothing of it runs any more or its engine has given it
    up: the next run of its job, and of its lock, does not overlap.
"""

from __future__ import annotations

import asyncio
import functools
import json
import random
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from engine import Engine, EngineClosed, EngineForked, EngineFull, Lane, Task, TaskTimeout

from ... import _checks
from .._calls.rows import follow_ups
from .._current_job import running
from .._json.codec import decode_args
from .._records import Claimed, End, Ending, NewJob
from .arrivals import Arrivals
from .hooks import call_hooks
from .lingering import Lingering
from .run import Binding, Run
from .unknown_names import UNKNOWN_RETRY, UnknownNames
from .verdict import CancelledItself, Outcome, Stop, decide, is_for_good

if TYPE_CHECKING:
    from .._jobs import Jobs

__all__ = ["Runner"]


class Runner:
    """Starts jobs of ``jobs`` in ``engine``; ``worker`` is who runs them, as failures tell it.

    ``is_loop_ending`` answers whether the loop cancels all that it runs.
    """

    def __init__(
        self, jobs: Jobs, engine: Engine, worker: str, on_ended: Callable[[Run, Ending, Outcome], None],
        is_loop_ending: Callable[[], bool] = lambda: False, *, rng: Callable[[], float] = random.random,
    ) -> None:  # fmt: skip
        self._jobs = jobs
        self._engine = engine
        self._worker = worker
        self._on_ended = on_ended
        self._is_loop_ending = is_loop_ending
        self._rng = rng  #: of the jitter of retries
        self._bindings: dict[str, Binding] = {}
        self._arrivals = Arrivals(self._over)
        self._steps: set[asyncio.Task[None]] = set()  #: hooks that are under way, and looks at histories
        self._lingering = Lingering(engine)
        self._unknown_names = UnknownNames(jobs.store, worker)
        self.runs: dict[tuple[int, int], Run] = {}  #: by id and token of the job

    def binding(self, name: str) -> Binding | None:
        """Return how jobs of this name are run; None where nobody has registered it."""
        task = self._jobs.catalog.find(name)
        if task is None:
            return None
        binding = self._bindings.get(name)
        if binding is None or binding.task is not task:
            binding = self._bindings[name] = Binding(task, self._engine, self._jobs.max_result_bytes)
        return binding

    def lanes(self) -> dict[str, Lane]:
        """Return the lane of each registered task by name, as far as it is known."""
        return {name: binding.lane for name in self._jobs.tasks if (binding := self.binding(name)) is not None}

    # -- the steps of a run

    def run_of(self, job: Claimed) -> Run:
        """Return the run that ``job`` is to have."""
        binding = self.binding(job.name)
        return Run(job, binding, None if binding is None else binding.lane)

    def caller(self) -> Run | None:
        """Return the run whose own coroutine calls."""
        return next((run for run in self.runs.values() if run.task is not None and run.task._calls()), None)

    def start(self, run: Run) -> None:
        """Start a run. It may be over when this returns."""
        job = run.job
        self.runs[job.id, job.token] = run
        if run.binding is None:
            self._step(self._end_unknown(run))
            return
        try:
            run.args = decode_args(job.args)
        except Exception as error:  # a row may hold anything
            self._conclude(run, Outcome(error=error, kind="arguments", is_hopeless=True, has_begun=False))
            return
        if hooks := self._jobs.catalog.hooks("before_run"):
            self._step(self._begin(run, hooks))
        else:
            self._submit(run, run.binding)

    async def _end_unknown(self, run: Run) -> None:
        outcome = Outcome(has_begun=False)
        try:
            outcome = await self._unknown_names.outcome(run.job)
        except asyncio.CancelledError:  # we stop
            run.stop = run.stop or Stop.DRAIN
        self._conclude(run, outcome._replace(stop=run.stop))

    async def _begin(self, run: Run, hooks: tuple[Any, ...]) -> None:
        assert run.binding is not None
        try:
            await call_hooks(self._engine, "before_run", hooks, run.current())
        except asyncio.CancelledError:  # we stop
            run.stop = run.stop or Stop.DRAIN
        self._submit(run, run.binding)

    def _submit(self, run: Run, binding: Binding) -> None:
        if run.stop is not None:
            self._conclude(run, Outcome(stop=run.stop, has_begun=False))
            return
        token = running.set(run)
        try:
            task = run.task = binding.submit(run, functools.partial(self._arrivals.note, run))
        except Exception as error:
            is_ours = not isinstance(error, (EngineClosed, EngineForked, EngineFull))  # its lane cannot run it
            self._conclude(run, Outcome(error=error, is_hopeless=is_ours, has_begun=False))
        else:
            binding.lane = task.lane
        finally:
            running.reset(token)

    def _over(self, run: Run, task: Task[Any]) -> None:
        assert run.binding is not None
        outcome = run.binding.outcome(task, run)
        is_cut_off = run.stop is not None or (outcome.error is not None and _checks.is_a(outcome.error, TaskTimeout))
        if is_cut_off and task.lane is not Lane.LOOP:
            self._lingering.wait_for(task.id, functools.partial(self._conclude, run, outcome))
        else:
            self._conclude(run, outcome)

    def _conclude(self, run: Run, outcome: Outcome) -> None:
        """Decide, and have it told."""
        if outcome.is_cancelled and run.stop is None and not self._is_ending():
            outcome = Outcome(error=CancelledItself(), kind="cancelled")
        outcome, ending = self._decide(run, outcome)
        if calls := self._hook_calls(run, outcome, ending):
            self._step(self._finish(run, outcome, ending, calls))
        else:
            self._end(run, outcome, ending)

    def _is_ending(self) -> bool:
        return self._is_loop_ending() or self._engine.snapshot().phase != "running"

    def _decide(self, run: Run, outcome: Outcome) -> tuple[Outcome, Ending]:
        """Return how the run ends, which its follow-ups may turn into a failure."""
        after: tuple[NewJob, ...] = ()
        if outcome.result is not None and run.job.then is not None:
            try:
                after = follow_ups(self._jobs.catalog, run.job, outcome.result)
            except Exception as error:  # a row may hold anything
                outcome = Outcome(error=error, kind="follow-up", is_hopeless=True)
        retry = run.binding.retry if run.binding is not None else UNKNOWN_RETRY
        at = 0.0 if outcome.result is not None else self._jobs.store.now().wall  # what completes has no failure
        ending = decide(run.job, outcome, retry, at=at, worker=self._worker, rng=self._rng)
        return outcome, ending._replace(follow_ups=after) if after else ending

    def _hook_calls(self, run: Run, outcome: Outcome, ending: Ending) -> list[tuple[str, tuple[Any, ...], Any]]:
        """Return which hooks are to be called: event, hooks, what they get besides the job."""
        catalog = self._jobs.catalog
        if ending.end is End.COMPLETED:
            hooks = catalog.hooks("after_run")
            return [("after_run", hooks, json.loads(outcome.result or "null"))] if hooks else []
        if ending.failure is None:
            return []
        events = ["on_attempt_failed", "on_failed"] if is_for_good(run.job, ending) else ["on_attempt_failed"]
        return [(event, hooks, outcome.error) for event in events if (hooks := catalog.hooks(event))]

    async def _finish(
        self, run: Run, outcome: Outcome, ending: Ending, calls: list[tuple[str, tuple[Any, ...], Any]]
    ) -> None:
        try:
            for event, hooks, what in calls:
                await call_hooks(self._engine, event, hooks, run.current(), what)
        finally:
            self._end(run, outcome, ending)

    def _end(self, run: Run, outcome: Outcome, ending: Ending) -> None:
        del self.runs[run.job.id, run.job.token]
        self._on_ended(run, ending, outcome)

    # -- from outside

    def stop(self, job_id: int, token: int, why: Stop) -> None:
        """Ask one run to stop."""
        run = self.runs.get((job_id, token))
        if run is not None:
            run.ask_to_stop(why)

    def stop_all(self, why: Stop) -> None:
        """Ask every run to stop."""
        for run in list(self.runs.values()):
            run.ask_to_stop(why)

    def cut_hooks(self) -> None:
        """Cut off the hooks that are under way."""
        for step in self._steps:
            step.cancel()

    def give_up(self) -> None:
        """Cut off hooks, and wait no longer for what does not stop."""
        self.cut_hooks()
        self._lingering.give_up()

    def _step(self, step: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(step, name="engine.jobs: a step of a run")
        self._steps.add(task)
        task.add_done_callback(self._steps.discard)
