"""Is a queue in a file whole after a death at any boundary between two statements of SQL?

    python -m stress failpoints [--crashes N] [--scripts N] [--seed S]

Expected: ``ok``, no fault, exit code 0. Each script is a random row of verbs (enqueue, claim, end, rescue, tick, ...),
done first on the model, which gives the state after each verb. Then a process does the same on a file and kills itself
at its n-th statement, for n = 1, 2, 3, ... until it comes to its end alive: opening, migration, commits and closing
included. What is in the file afterwards must be exactly the model's state after the verbs that were acknowledged, or
after some of those that were under way: all of a verb or nothing of it.
"""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import apsw

from engine.jobs import SQLiteStore
from engine.jobs._memory.book import MemoryBook
from stress._campaign import arguments, carry_out
from stress._jobs_script import Step, make_script, state_of

AT_ONCE = (1, 1, 3)  #: verbs that are under way together, in turn


@dataclass(frozen=True, slots=True)
class Death:
    """What a process that was to die at a statement left behind."""

    acknowledged: int  #: verbs
    under_way: int  #: verbs that were asked for and not acknowledged
    is_over: bool  #: it came to its end, alive


class _Killer:
    """Kills this process at the n-th statement of any of its connections."""

    def __init__(self, at: int) -> None:
        self._left = at

    def watch(self, connection: apsw.Connection) -> None:
        """Look at every statement that begins on ``connection``."""
        connection.trace_v2(apsw.SQLITE_TRACE_STMT, self._count)

    def _count(self, _: dict[str, Any]) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def die_at(statement: int, path: str, script: list[Step]) -> Death:
    """Do ``script`` on the file ``path`` in a process that dies at its statement number ``statement``."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        code = 1
        try:
            apsw.connection_hooks.append(_Killer(statement).watch)
            _perform(path, script, partial(os.write, writing))
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    notes = b"".join(iter(partial(os.read, reading, 1 << 16), b""))
    os.close(reading)
    _, status = os.waitpid(pid, 0)
    is_over = os.waitstatus_to_exitcode(status) == 0
    if not is_over and os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
        raise RuntimeError(f"expected a process to die by SIGKILL or end with 0, got {status}")
    return Death(notes.count(b"a"), notes.count(b"t") - notes.count(b"a"), is_over)


def _perform(path: str, script: list[Step], note: Callable[[bytes], int]) -> None:
    store = SQLiteStore(path)
    store.open()
    rest = iter(script)
    for turn in range(len(script)):
        replies = []
        for _, step in zip(range(AT_ONCE[turn % len(AT_ONCE)]), rest, strict=False):
            note(b"t")
            replies.append(store.write(step.act))
        for reply in replies:
            reply.result(60)
            note(b"a")
    store.close()


def look_at(path: str, script: list[Step]) -> object:
    """Return the state of the queue in ``path`` as it is found after a death."""
    store = SQLiteStore(path)
    try:
        return store.read(lambda book, _: state_of(book, script[-1].now)).result(60)
    finally:
        store.close()


def is_intact(path: str) -> bool:
    """Say whether SQLite finds the file whole."""
    connection = apsw.Connection(path)
    try:
        return bool(connection.pragma("integrity_check") == "ok")
    finally:
        connection.close()


def crashes_of(script: list[Step], states: list[object], folder: str) -> Iterator[list[str]]:
    """Die at each statement in turn; give what was wrong after each death, an empty list if nothing was."""
    statement = 0
    while True:
        statement += 1
        path = os.path.join(folder, f"{statement}.db")
        death = die_at(statement, path, script)
        if death.is_over:
            return
        found = look_at(path, script)
        allowed = states[death.acknowledged : death.acknowledged + death.under_way + 1]
        wrong = [] if found in allowed else [f"after {death.acknowledged} verbs: {_difference(found, allowed)}"]
        if not is_intact(path):
            wrong.append("integrity_check")
        for name in os.listdir(folder):
            os.unlink(os.path.join(folder, name))
        yield [f"statement {statement}: {each}" for each in wrong]


def _difference(found: object, allowed: list[object]) -> str:
    return f"expected one of {[str(each)[-300:] for each in allowed]}, got {str(found)[-300:]}"


def run(crashes: int, scripts: int, seed: int, folder: str) -> dict[str, Any]:
    """Die as often as was asked for, and at each statement of so many scripts; return what is to be printed."""
    faults: dict[str, list[str]] = {}
    counted: Counter[str] = Counter()
    began = time.monotonic()
    while counted["scripts"] < scripts or counted["crashes"] < crashes:
        script = make_script(f"{seed} {counted['scripts']}")
        states = states_of_the_model(script)
        for wrong in crashes_of(script, states, folder):
            counted["crashes"] += 1
            if wrong:
                faults.setdefault("torn", []).extend(wrong[:3])
        counted["scripts"] += 1
        counted["verbs"] += len(script)
    return {"ok": not faults, "faults": faults, **counted, "seconds": round(time.monotonic() - began, 1)}


def states_of_the_model(script: list[Step]) -> list[object]:
    """Return the state before the first verb, and after each."""
    book = MemoryBook()
    states = [state_of(book, script[-1].now)]
    for step in script:
        step.act(book, step.now)
        states.append(state_of(book, script[-1].now))
    return states


def main(argv: list[str]) -> int:
    """Run the script; return 0 if the file was whole after every death."""
    parser = arguments("failpoints", __doc__)
    parser.add_argument("--crashes", type=int, default=1000, help="deaths, at least (default: 1000)")
    parser.add_argument("--scripts", type=int, default=5, help="rows of verbs, at least (default: 5)")
    options = parser.parse_args(argv)
    return carry_out(
        "failpoints", options.seed, lambda folder: run(options.crashes, options.scripts, options.seed, folder),
        counts="crashes", noun="deaths",
    )  # fmt: skip
