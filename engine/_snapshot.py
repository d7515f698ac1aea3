"""A picture of an engine at one instant."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ._lanes.base import WorkerInfo
from ._records import one_line
from ._states import Lane, TaskState, state_of

if TYPE_CHECKING:
    from ._core import Core

__all__ = ["LaneSnapshot", "Snapshot", "take_snapshot"]


@dataclass(frozen=True, slots=True)
class LaneSnapshot:
    """One lane's share of a Snapshot; counts are of tasks, terminal ones since the start."""

    pending: int
    running: int  #: in the process lane up to 2 ms longer, until the answer is read
    completed: int
    failed: int
    cancelled: int
    queued: int  #: of the pending ones, those that no worker has been given
    slots: int  #: how many may run at once
    lent: int  #: slots of tasks that wait for other tasks of this engine
    abandoned: int  #: attempts that cannot be stopped and still run


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What ``Engine.snapshot`` returns; consistent for the counts, which are taken under one lock."""

    lanes: dict[Lane, LaneSnapshot]
    workers: tuple[WorkerInfo, ...]
    queue_depth: int  #: tasks that wait for a slot
    retries: int
    crashes: int
    timeouts: int
    abandoned: int  #: attempts abandoned so far
    recycled: int  #: workers replaced on purpose
    memory_exceeded: int  #: tasks killed because they took more memory than worker_memory_limit leaves
    start_failures: int  #: worker processes and threads that did not come up
    last_start_error: str | None  #: why the last of them did not
    late: int  #: results that came after their task had settled
    given_back: int  #: attempts that a worker was sent and had not begun, queued again: it died, left, or was busy
    stalls: int  #: how often the home loop was blocked for more than a second
    longest_stall: float  #: seconds
    malformed: int  #: workers replaced because they broke the protocol
    decode_timeouts: int  #: results of processes given up because rebuilding them took too long
    decode_refusals: int  #: results not even tried, because eight threads were stuck with earlier ones
    stuck_decoders: int  #: threads that still rebuild such a result; at eight, results that need one are refused
    shared: int  #: shared objects that are open here
    shared_bytes: int  #: the memory that they take
    phase: str  #: "running", "draining" or "closed"

    def count(self, state: TaskState | str) -> int:
        """Return how many tasks are in ``state``, over all lanes.

        Raises:
            ValueError: there is no such state.
        """
        return sum(getattr(lane, state_of(state).value) for lane in self.lanes.values())

    def __str__(self) -> str:
        rows = [f"{'lane':8} {'pending':>8} {'running':>8} {'completed':>10} {'failed':>7} {'cancelled':>10}"]
        for name, lane in self.lanes.items():
            rows.append(
                f"{name.value:8} {lane.pending:8} {lane.running:8} {lane.completed:10} {lane.failed:7} "
                f"{lane.cancelled:10}"
            )
        rows.append(
            f"queued {self.queue_depth}, retries {self.retries}, crashes {self.crashes}, timeouts {self.timeouts}, "
            f"abandoned {self.abandoned}, late {self.late}, given back {self.given_back}, engine {self.phase}"
        )
        rows.append(
            f"workers: {self._workers_by_lane()}; recycled {self.recycled}, memory exceeded {self.memory_exceeded}, "
            f"malformed {self.malformed}"
        )
        rows.append(
            f"stalls of the loop {self.stalls}, the longest {self.longest_stall:.1f} s; results that took too long to "
            f"rebuild {self.decode_timeouts}, refused {self.decode_refusals}, stuck decoders {self.stuck_decoders}"
        )
        rows.append(f"shared objects {self.shared}, {self.shared_bytes} bytes")
        if self.last_start_error is not None:
            rows.append(f"failed starts {self.start_failures}, the last one: {one_line(self.last_start_error, 300)}")
        return "\n".join(rows)

    def _repr_html_(self) -> str:
        from ._html import html_of_snapshot

        return html_of_snapshot(self)

    def _workers_by_lane(self) -> str:
        """Say how many workers of each lane are in which state: "process 3 (1 busy, 2 idle)"."""
        told = []
        for lane in self.lanes:
            states = Counter(worker.state for worker in self.workers if worker.lane is lane)
            if states:
                parts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
                told.append(f"{lane.value} {states.total()} ({parts})")
        return ", ".join(told) or "none"


def take_snapshot(core: Core) -> Snapshot:
    """Return a picture of ``core`` now. Any thread."""
    registry, scheduler = core.registry, core.scheduler
    with registry.lock:
        sent = [a.task for a in registry.attempts if a.started_at is None and a.lane is Lane.PROCESS]
    for task in sent:
        scheduler.observe(task)
    workers = tuple(worker for lane in core.lanes.values() for worker in lane.workers())
    counters, processes, threads = scheduler.counters, core.processes.counters, core.threads
    failures = [each for each in (processes.last_start_error, threads.last_start_error) if each is not None]
    shared = list(core.shared.values())
    sizes = {lane: core.size(lane) for lane in Lane}  # before the lock: counting processors may take a while
    with registry.lock:
        lanes = {
            lane: LaneSnapshot(
                **{state.value: count for state, count in registry.counts[lane].items()},
                queued=len(registry.ready[lane]),
                slots=sizes[lane],
                lent=registry.slots[lane].lent,
                abandoned=registry.slots[lane].abandoned,
            )
            for lane in Lane
        }
        return Snapshot(
            lanes=lanes, workers=workers, queue_depth=sum(lane.queued for lane in lanes.values()),
            retries=counters.retries, crashes=processes.crashes, timeouts=counters.timeouts,
            abandoned=counters.abandoned, recycled=processes.recycled,
            memory_exceeded=processes.memory_exceeded,
            start_failures=processes.start_failures + threads.start_failures,
            last_start_error=max(failures)[1] if failures else None, late=counters.late,
            given_back=processes.given_back,
            stalls=core.watch.stalls, longest_stall=core.watch.longest_stall, malformed=processes.malformed,
            decode_timeouts=processes.decode_timeouts, decode_refusals=processes.decode_refusals,
            stuck_decoders=processes.stuck_decoders, shared=len(shared), shared_bytes=sum(shared),
            phase=scheduler.phase,
        )  # fmt: skip
