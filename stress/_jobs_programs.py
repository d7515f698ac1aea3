"""The processes of ``jobs_crash``: ``enqueue`` and ``work``. Either may be killed at any moment.

python -m stress._jobs_programs enqueue SEED FIRST LAST POISON NOTES PERMIT
python -m stress._jobs_programs work READY
"""

import asyncio
import os
import random
import signal
import sys
from pathlib import Path

from engine import Engine
from stress._jobs_tasks import CALM, KINDS, POISON, jobs, options_of

__all__ = ["kind_of"]

AT_ONCE = 100


def kind_of(seed: str, number: int, poison: float) -> tuple[str, float]:
    """Draw what job ``number`` is, and how many seconds it takes: the same in every process."""
    rng = random.Random(f"{seed} {number}")
    group = POISON if rng.random() < poison else CALM
    kind = rng.choices(list(group), [weight for _, weight, _ in group.values()])[0]
    return kind, rng.choices([0.0, 0.002, 0.05], [900, 90, 10])[0]


async def enqueue(seed: str, first: int, last: int, poison: float, path: str, permit: str) -> None:
    """Enqueue the jobs of these numbers; write down what is tried, before, and what is acknowledged, after.

    The file ``permit`` says how many are to be kept back: the work is to last until all was done to those who do it.
    """
    with open(path, "ab", buffering=0) as notes:
        for begin in range(first, last, AT_ONCE):
            while last - begin <= int(Path(permit).read_text()):
                await asyncio.sleep(0.02)
            numbers = range(begin, min(begin + AT_ONCE, last))
            notes.write(f"try {numbers.start} {numbers.stop}\n".encode())
            await asyncio.gather(*[_enqueue_one(notes, seed, number, poison) for number in numbers])
    await asyncio.to_thread(jobs.close)


async def _enqueue_one(notes: "object", seed: str, number: int, poison: float) -> None:
    kind, seconds = kind_of(seed, number, poison)
    job = await KINDS[kind][0].options(**options_of(number, kind)).enqueue(number=number, seconds=seconds)
    notes.write(f"ack {number} {job.id}\n".encode())  # type: ignore[attr-defined]  # a file


async def work(ready: str) -> None:
    """Work on the queue until SIGTERM; the folder ``ready`` gets a file with our pid once we do."""
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    async with Engine(processes=1, threads=4) as engine, jobs.worker(engine, concurrency=32):
        Path(ready, str(os.getpid())).touch()
        await over.wait()
    await asyncio.to_thread(jobs.close)


def main(arguments: list[str]) -> None:
    """Run one of the two."""
    if arguments[0] == "work":
        asyncio.run(work(arguments[1]))
    else:
        seed, first, last, poison, path, permit = arguments[1:]
        asyncio.run(enqueue(seed, int(first), int(last), float(poison), path, permit))


if __name__ == "__main__":
    if os.getppid() == 1:
        sys.exit("expected the campaign to be there, got a parent that has died")
    main(sys.argv[1:])
