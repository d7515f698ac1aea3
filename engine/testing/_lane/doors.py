"""The doors by which an attempt leaves a lane; the front is watched while tasks of every kind run."""

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ... import Lane
from ..._lanes.base import Attempt
from ..._registry import Registry
from ..._scheduler import Scheduler
from ..waiting import eventually_async
from .kit import FAST, STUCK, LaneKit, begun


@contextlib.contextmanager
def watched() -> Iterator[dict[Attempt, Counter[str]]]:
    """Watch the front: by which door each claimed attempt leaves, and how often its slot is freed."""
    seen: dict[Attempt, Counter[str]] = {}
    lock = threading.Lock()
    undo = contextlib.ExitStack()

    def count(attempt: Attempt, what: str) -> None:
        with lock:
            seen.setdefault(attempt, Counter())[what] += 1

    def watch(owner: Any, method: str, what: Callable[[Any, Any], str | None]) -> None:
        true = getattr(owner, method)

        def spy(self: Any, subject: Any, *rest: Any) -> Any:
            answer = true(self, subject, *rest)
            claimed = {"claim_like": answer, "take": [answer] if answer is not None else []}
            for attempt in claimed.get(method, [subject]):
                if said := what(attempt, answer):
                    count(attempt, said)
            return answer

        setattr(owner, method, spy)
        undo.callback(setattr, owner, method, true)

    def went_the_short_way(attempt: Attempt, _: Any) -> str | None:
        """Count the end that ``return_taken`` wrote out, where it did not ask the others, which are watched."""
        if seen[attempt]["end"]:
            return None
        count(attempt, "release")
        return "end"

    with undo:
        watch(Registry, "claim_locked", lambda attempt, answer: "claim")
        watch(Scheduler, "take", lambda attempt, answer: "claim")
        watch(Scheduler, "return_taken", went_the_short_way)
        watch(Scheduler, "claim_like", lambda attempt, answer: "claim")
        watch(Scheduler, "_end_locked", lambda attempt, answer: "end")
        watch(Scheduler, "_return_locked", lambda attempt, answer: "end" if answer else None)
        watch(Scheduler, "give_back", lambda attempt, answer: "give_back")
        watch(
            Scheduler,
            "begin",
            lambda attempt, answer: "refused" if not answer and attempt.lane is not Lane.PROCESS else None,
        )
        watch(Registry, "release_locked", lambda attempt, answer: "release")
        yield seen


async def every_claimed_attempt_leaves_by_one_door(kit: LaneKit, folder: Path) -> None:
    """``end``, ``give_back``, or taken back before it began; and its slot is freed once."""
    with watched() as doors:

        def have_all_left() -> bool:
            return all(
                seen["release"] and (kit.lane is Lane.PROCESS or seen["end"] + seen["refused"])
                for seen in list(doors.values())
            )

        async with kit.engine(3, grace=0.02) as engine:
            tasks = [kit.submit(engine, "give", number) for number in range(10)]
            tasks += [kit.submit(engine, "fail", "on purpose") for _ in range(5)]
            tasks += [
                kit.submit(engine.options(retry=FAST), "stumble", str(folder / f"runs-{number}"), 1)
                for number in range(3)
            ]
            tasks += [
                kit.submit(engine.options(timeout=0.01), "hold", str(folder), f"slow-{number}") for number in range(2)
            ]
            tasks += [kit.submit(engine, "resist", str(folder), "deaf")]
            await begun(folder, "deaf")
            tasks += [kit.submit(engine, "stay", str(folder / "stays"), 0.001) for _ in range(20)]
            for task in tasks[-21::2]:
                task.cancel()
            (folder / "go").touch()
            await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), STUCK)
            # What was abandoned, as on a busy machine one that holds may be, is over behind its task.
            await eventually_async(have_all_left, STUCK)
            slots = engine._core.registry.slots[kit.lane]
            await eventually_async(lambda: not slots.taken, STUCK)
            assert slots.taken == 0, f"expected every slot to be freed once, got {slots.taken} that are taken"
    for attempt, seen in doors.items():
        assert seen["claim"] == 1, (attempt.name, seen)
        assert seen["release"] == 1, (attempt.name, seen)
        assert seen["end"] + seen["give_back"] + seen["refused"] <= 1, (attempt.name, seen)
        if kit.lane is not Lane.PROCESS:  # there a recall may be the door
            assert seen["end"] + seen["refused"] == 1, (attempt.name, seen)
    assert len(doors) >= 20
