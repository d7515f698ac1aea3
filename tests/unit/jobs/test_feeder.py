"""When a worker claims: with a store that tells it nothing, so that only what the feeder knows itself counts."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from engine import Lane
from engine.jobs._book import Book
from engine.jobs._memory.store import MemoryStore
from engine.jobs._moment import Moment
from engine.jobs._records import Claim, Claimed, Claims, NewHolder, NewJob
from engine.jobs._reply import Reply
from engine.jobs._worker.feeder import Feeder
from engine.jobs._worker.rooms import BATCH_MOST, Rooms
from tests.support import eventually_async

LANE_OF = {"l": Lane.LOOP, "p": Lane.PROCESS}


class Hiding:
    """A book that gives no suspect, and says that there are some."""

    def __init__(self, book: Book) -> None:
        self._book = book

    def claim(self, claim: Claim, now: Moment) -> Claims:
        return Claims((), suspects=True, next_due=None) if claim.alone else self._book.claim(claim, now)


class HidingStore(MemoryStore):
    """Has such a book while ``is_hiding``."""

    is_hiding = False

    def write(self, operation: Callable[[Any, Moment], Any], *, keep: bool = False) -> Reply[Any]:
        def hidden(book: Book, now: Moment) -> Any:
            return operation(Hiding(book), now)

        is_claim = operation.__module__ == "engine.jobs._worker.feeder"
        return super().write(hidden if is_claim and self.is_hiding else operation, keep=keep)


class Fed:
    """A feeder whose jobs run until the test ends them."""

    def __init__(
        self, concurrency: int = 5, processes: int = 2, queues: dict[str, int | None] | None = None,
        store: MemoryStore | None = None,
    ) -> None:  # fmt: skip
        self.store = store or MemoryStore()
        queues = queues if queues is not None else {"default": None}
        lanes = {Lane.LOOP: 1000, Lane.THREAD: 1, Lane.PROCESS: processes}
        self.rooms = Rooms(concurrency, lambda: queues, lanes)
        self.running: list[Claimed] = []
        self.holder: int | None = None
        self.is_held_up = False
        self.feeder = Feeder(
            self.store, self.rooms, holder=lambda: self.holder, lane_of=lambda: LANE_OF,
            is_held_up=lambda: self.is_held_up, take=self._take,
        )  # fmt: skip

    def _take(self, job: Claimed) -> None:
        self.rooms.take(job.queue, LANE_OF[job.name])
        self.running.append(job)

    async def hold(self) -> None:
        holder = NewHolder(name="h", pid=1, pid_started=0.0, namespace="", lease=30.0)
        self.holder = await self.store.hold(holder, lambda: None)

    async def enqueue(self, name: str, times: int = 1, queue: str = "default", delay: float | None = None) -> None:
        new = NewJob(queue=queue, name=name, args="{}", delay=delay)
        await self.store.write(lambda book, now: book.enqueue([new] * times, now))

    def end(self, name: str) -> None:
        """Have one run end, of which nothing is recorded."""
        job = next(job for job in self.running if job.name == name)
        self.running.remove(job)
        self.rooms.free(job.queue, LANE_OF[name])
        self.feeder.on_room(LANE_OF[name], job.queue)

    async def runs(self, **names: int) -> None:
        """Wait until so many of each run."""

        def told() -> dict[str, int]:
            return {name: n for name in LANE_OF if (n := sum(job.name == name for job in self.running))}

        await eventually_async(lambda: told() == names, 5.0, f"{names} run")


async def feeding(test: Callable[[Fed], Awaitable[None]], fed: Fed) -> None:
    await fed.hold()
    task = asyncio.create_task(fed.feeder.run())
    try:
        await test(fed)
    finally:
        fed.feeder.close()
        await task


async def test_a_full_worker_claims_again_when_one_of_its_runs_ends() -> None:
    async def test(fed: Fed) -> None:
        await fed.runs(l=5)
        fed.end("l")
        await fed.runs(l=5)
        claims = fed.feeder.claims
        fed.end("l")
        await fed.runs(l=5)
        assert fed.feeder.claims == claims + 1

    fed = Fed()
    await fed.enqueue("l", 20)
    await feeding(test, fed)


async def test_runs_that_end_in_one_turn_make_one_claim() -> None:
    """J14: their room is filled at once."""

    async def test(fed: Fed) -> None:
        await fed.runs(l=100)
        claims = fed.feeder.claims
        for _ in range(100):
            fed.end("l")
        await fed.runs(l=100)
        assert fed.feeder.claims == claims + 1

    fed = Fed(concurrency=100)
    await fed.enqueue("l", 300)
    await feeding(test, fed)


async def test_a_full_lane_is_fed_again_when_a_run_of_it_ends_and_not_when_another_does() -> None:
    """E125: what has no room is passed over, and remembered."""

    async def test(fed: Fed) -> None:
        await fed.runs(l=3, p=2)
        claims = fed.feeder.claims
        fed.end("l")  # nobody waits for its room
        fed.end("p")
        await fed.runs(l=2, p=2)
        fed.end("l")
        fed.end("l")
        await asyncio.sleep(0)
        fed.end("p")
        await fed.runs(p=2)
        assert fed.feeder.claims <= claims + 4

    fed = Fed(concurrency=100)
    await fed.enqueue("l", 3)
    await fed.enqueue("p", 10)
    await feeding(test, fed)


async def test_a_full_queue_is_fed_again_when_a_run_of_it_ends() -> None:
    async def test(fed: Fed) -> None:
        await fed.runs(l=1)
        fed.end("l")
        await fed.runs(l=1)

    fed = Fed(queues={"default": 1})
    await fed.enqueue("l", 3)
    await feeding(test, fed)


async def test_more_than_a_batch_is_claimed_in_several() -> None:
    async def test(fed: Fed) -> None:
        await fed.runs(l=2 * BATCH_MOST + 1)
        assert fed.feeder.claims == 3

    fed = Fed(concurrency=10_000)
    await fed.enqueue("l", 2 * BATCH_MOST + 1)
    await feeding(test, fed)


async def test_what_is_due_later_is_claimed_when_it_is() -> None:
    """J14: by one timer, however many there are."""

    async def test(fed: Fed) -> None:
        await fed.runs(l=50)
        assert fed.feeder.claims <= 4

    fed = Fed(concurrency=100)
    await fed.enqueue("l", 50, delay=0.05)
    await feeding(test, fed)


async def test_a_lane_that_is_closed_is_passed_over_for_a_while() -> None:
    """E128: others go on."""

    async def test(fed: Fed) -> None:
        fed.feeder.close_lane(Lane.PROCESS, 0.1)
        await fed.runs(l=3)
        await fed.runs(l=3, p=1)

    fed = Fed()
    await fed.enqueue("p")
    await fed.enqueue("l", 2)
    await fed.enqueue("l", delay=0.02)  # with its timer before that of the lane
    await feeding(test, fed)


async def test_suspects_that_cannot_be_claimed_keep_nobody_from_work_and_are_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """J4: others may be about to run them."""
    monkeypatch.setattr("engine.jobs._worker.feeder._SUSPECTS_LEFT_ALONE", 0.1)

    async def test(fed: Fed) -> None:
        await fed.runs(l=1)
        assert not fed.running[0].alone
        assert fed.feeder.claims <= 3
        store.is_hiding = False
        fed.end("l")
        await fed.runs(l=1)
        assert fed.running[0].alone

    store = HidingStore()
    fed = Fed(store=store)
    await fed.enqueue("l")
    await fed.hold()
    claim = Claim(holder=fed.holder or 0, queues={"default": 1}, limit=1)
    await store.write(lambda book, now: book.claim(claim, now))
    await store.write(lambda book, now: book.rescue(now, lambda holder: True))  # it is a suspect now
    await fed.enqueue("l")
    store.is_hiding = True
    await feeding(test, fed)


async def test_a_feeder_that_is_held_up_or_holds_nothing_claims_nothing_until_it_is_told() -> None:
    """E126: what has ended and is not recorded is bounded."""

    async def test(fed: Fed) -> None:
        holder, fed.holder = fed.holder, None
        fed.is_held_up = True
        fed.feeder.look()
        await asyncio.sleep(0)
        fed.holder = holder
        fed.feeder.look()
        await asyncio.sleep(0)
        assert fed.feeder.claims == 0
        fed.is_held_up = False
        fed.feeder.look()
        await fed.runs(l=1)

    fed = Fed()
    fed.is_held_up = True
    await fed.enqueue("l")
    await feeding(test, fed)
