"""Does every accepted task end exactly once, as it was told, while threads and event loops hammer one engine?

    python -m stress races --seconds 60 [--seed S] [--threads T]

Expected: ``ok``, no fault of any kind, no leak, exit code 0. Threads (at least 8) and two event loops submit to all
lanes, cancel, time out, retry, kill workers, take snapshots, run maps that they break off, and groups that fail
(``_hammer.py``). Each execution is written to a ledger outside the engine (``_ledger.py``); at the end the engine is
stopped and the ledger is compared with what every submitter was told. With faults it prints the calls concerned and
ends with 1.
"""

import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from engine import Engine, EngineClosed
from stress._belongings import Belongings
from stress._campaign import PATIENCE, arguments, campaign, conclude
from stress._hammer import Hammer
from stress._ledger import check, read
from stress._told import describe_faults


def hammer(seconds: float, seed: int, threads: int, folder: str) -> dict[str, Any]:
    """Run for ``seconds``, stop, and compare; return what is to be printed."""
    path = os.path.join(folder, "ledger")
    before = Belongings()
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
    left = before.left()
    accepted = [promise for promise in promises if promise.accepted]
    states = Counter(promise.state for promise in accepted)
    faults: dict[str, Any] = describe_faults(verdict.faults, promises)
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


def main(argv: list[str]) -> int:
    """Run the script; return 0 if every promise was kept."""
    parser = arguments("races", __doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to hammer (default: 10)")
    parser.add_argument("--threads", type=int, default=8, help="submitting threads, besides two loops (default: 8)")
    options = parser.parse_args(argv)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with campaign(options.seed) as folder:
            result = hammer(options.seconds, options.seed, max(8, options.threads), folder)
    finally:
        sys.setswitchinterval(interval)
    return conclude("races", {"seed": options.seed, "seconds": options.seconds, **result}, result["accepted"])
