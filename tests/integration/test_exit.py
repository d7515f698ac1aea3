"""The interpreter exits while an engine runs: within seconds, in silence, and with nothing left (N1, N6, N7, R5)."""

import pytest

from tests.integration.exits import Ended, run_program, run_programs

BLOCKING = "engine = Engine(processes=2, threads=2, grace=0.5).__enter__()\n"

#: What a program leaves undone when its main thread is done.
LEFT = {
    "idle": "engine.run(abs, -1)",
    "process running": "wait_until_running(engine.submit(spin))",
    "process starting": "tasks = [engine.submit(spin) for _ in range(4)]",
    "thread running": "wait_until_running(engine.options(lane='thread').submit(never))",
    "coroutine running": "wait_until_running(engine.submit(wait_for_ever))",
    "pending": """
tasks = [engine.submit(spin) for _ in range(20)] + [engine.options(lane='thread').submit(never) for _ in range(20)]
""",
    "just cancelled": """
tasks = [engine.submit(spin), engine.options(lane='thread').submit(never), engine.submit(wait_for_ever)]
wait_until_running(*tasks)
for task in tasks + [engine.submit(abs, -1)]:
    task.cancel()
""",
    "its loop is blocked": """
async def block():
    time.sleep(1000)
wait_until_running(engine.submit(block))
""",
    "deaf coroutine": """
async def deaf():
    while True:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            pass
wait_until_running(engine.submit(deaf))
""",
    "a great grace": """
engine.stop(); engine = Engine(threads=1, grace=1000.0).__enter__()
wait_until_running(engine.options(lane='thread').submit(never))
""",
    "failed and not asked": """
task = engine.options(lane='thread').submit(int, 'x')
while not task.done():
    time.sleep(0.001)
""",
}


def silent(ended: dict[str, Ended], stdout: str = "") -> bool:
    """Assert that each program ended well, printed ``stdout``, and nothing else."""
    assert {name: (each.code, each.stdout, each.stderr) for name, each in ended.items()} == dict.fromkeys(
        ended, (0, stdout, "")
    )
    return True


def test_exit_ends_an_engine_that_was_never_stopped_in_silence() -> None:
    """N7, R5: running, pending or just cancelled work; under -X dev, with every warning an error."""
    assert silent(run_programs({name: BLOCKING + text for name, text in LEFT.items()}))


def test_an_engine_whose_loop_turns_no_more_ends_in_silence() -> None:
    """E31: started in a notebook's cell, dropped with it, never stopped; its loop is not closed either."""
    ended = run_program(
        """
async def cell():
    engine = await Engine(processes=1, threads=1).start()
    print(await engine.options(lane="thread").run(abs, -7))
loop = asyncio.new_event_loop()
loop.run_until_complete(cell())
""",
        flags=(),
    )
    assert (ended.code, ended.stdout, ended.stderr) == (0, "7\n", "")


def test_exit_lets_what_is_short_finish() -> None:
    """As with the standard executors, as far as two seconds go; workers that are not started yet included."""
    text = BLOCKING + "task = engine.submit(abs, -7); atexit.register(lambda: print(task.result()))\n"
    assert silent({"short": run_program(text)}, "7\n")


WAITING = {
    "result": "task.result()",
    "run": "engine.options(lane='thread').run(never)",
    "map": "list(engine.map(never, range(100)))",
    "room": "small.run(never); small.run(never); small.run(never)",
    "group": "\n        with engine.group() as group: group.submit(never)",
}


START = {
    "thread": "threading.Thread(target=wait).start()",
    "executor": "executor = ThreadPoolExecutor(); executor.submit(wait)",
}


def test_exit_releases_a_thread_that_waits_and_is_no_daemon() -> None:
    """N7: the interpreter joins that thread before any ``atexit`` function runs."""
    ended = run_programs({f"{how} in {who}": f"""{BLOCKING}
small = Engine(threads=1, max_pending=1, default_lane="thread").__enter__()
small.submit(never)
task = engine.submit(spin)
waits = threading.Event()
def wait():
    waits.set()
    try:
        {WAITING[how]}
    except BaseException as error:
        print(type(error).__name__)
{START[who]}
waits.wait()
""" for how in WAITING for who in START})  # fmt: skip
    assert {name: (each.code, each.stderr) for name, each in ended.items()} == dict.fromkeys(ended, (0, ""))
    assert {each.stdout.strip() for each in ended.values()} <= {"CancelledError", "EngineClosed", "ExceptionGroup", ""}


def test_a_thread_that_the_interpreter_waits_for_keeps_its_engine() -> None:
    """The main thread ends early; the program goes on in another one, whose accepted work is not cancelled."""
    ended = run_program("""
def pipeline():
    with Engine(threads=1, default_lane="thread") as engine:
        engine.run(abs, 0)  # Python 3.12 starts no thread any more once the main one is done
        ready.set()
        main.join()
        print([engine.run(abs, -n) for n in range(20)] == list(range(20)))
main = threading.main_thread()
ready = threading.Event()
threading.Thread(target=pipeline).start()
ready.wait()
""")
    assert (ended.code, ended.stdout, ended.stderr) == (0, "True\n", "")


def test_submitting_after_interpreter_shutdown_is_refused() -> None:
    """N1: the standard library's words, and a RuntimeError."""
    ended = run_program(
        BLOCKING
        + """
def late():
    for call in (lambda: engine.submit(abs, 1), lambda: engine.run(abs, 1), engine.warm_up):
        try:
            call()
        except RuntimeError as error:
            print("cannot schedule new futures after interpreter shutdown" in str(error))
atexit.register(late)
"""
    )
    assert (ended.code, ended.stdout, ended.stderr) == (0, "True\n" * 3, "")


ASYNC = """
async def main():
    global engine, tasks
    engine = await Engine(processes=1, threads=1, grace=0.1).start()
    tasks = [engine.submit(spin), engine.options(lane='thread').submit(never), engine.submit(wait_for_ever)]
    while not all(task.state is TaskState.RUNNING for task in tasks):
        await asyncio.sleep(0.001)
"""


ENDS = {
    "run ended": "with asyncio.Runner(loop_factory=make) as runner: runner.run(main())",
    "loop closed": "loop = make(); loop.run_until_complete(main()); loop.close()",
    "loop left open": """
loop = make(); loop.run_until_complete(main())
import warnings; warnings.simplefilter("ignore", ResourceWarning)  # of the loop, which is the program's
""",
    "loop in a daemon thread": """
def home():
    with asyncio.Runner(loop_factory=make) as runner:
        runner.run(main()); ready.set(); runner.get_loop().run_forever()
ready = threading.Event()
threading.Thread(target=home, daemon=True).start(); ready.wait()
""",
}


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_exit_ends_an_engine_of_a_loop(loop: str) -> None:
    """N7, A1: started, never stopped; its ``asyncio.run`` ended, or its loop was closed, or was not even that."""
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    factory = f"import {loop}\nmake = {loop}.new_event_loop\n"
    assert silent(run_programs({how: factory + ASYNC + text for how, text in ENDS.items()}))


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_closing_the_loop_under_an_engine_releases_who_waits_and_kills_its_workers(loop: str) -> None:
    """A1: nothing of the loop will ever be heard again; a thread in ``result()`` must not wait for it."""
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    ended = run_program(
        f"import {loop}\n{ASYNC}"
        + f"""
def wait():
    for task in tasks:
        try:
            task.result()
        except BaseException as error:
            print(type(error).__name__)
loop = {loop}.new_event_loop()
loop.run_until_complete(main())
worker = engine.snapshot().workers[-1]
thread = threading.Thread(target=wait)
thread.start()
loop.close()
thread.join()
try:
    engine.submit(abs, 1)
except EngineClosed:
    print("closed")
print(engine.snapshot().workers and [each.pid for each in engine.snapshot().workers if each.pid])
"""
    )
    assert (ended.code, ended.stderr) == (0, "")
    assert ended.stdout == "CancelledError\n" * 3 + "closed\n[]\n"


DROPPED = {
    "work pending": "tasks = [engine.submit(abs, -n) for n in range(20)]",
    "thread work": "tasks = [engine.options(lane='thread').submit(abs, -n) for n in range(20)]",
    "coroutines": "tasks = [engine.submit(asyncio.sleep, 0.01, n) for n in range(20)]",
    "nothing": "engine.run(abs, -1); engine.options(lane='thread').run(abs, -1); tasks = []",
}


def test_dropping_the_last_reference_finishes_the_work_and_then_ends_the_engine() -> None:
    """N6: every future resolves; threads, workers and descriptors are gone; no thread raises."""
    ended = run_programs({name: f"""
before = len(os.listdir("/proc/self/fd"))
{BLOCKING}
{text}
del engine
print([task.result(20) for task in tasks] == list(range(len(tasks))))
del tasks
print(threads_gone(), len(os.listdir("/proc/self/fd")) - before)
""" for name, text in DROPPED.items()}, flags=("-X", "dev"))  # fmt: skip
    assert silent(ended, "True\nTrue 0\n")


@pytest.mark.parametrize("how", ["del", "gc", "weakref"])
def test_a_shutdown_by_the_collector_neither_hangs_nor_raises(how: str) -> None:
    """N6: ``stop`` in ``__del__``, found by the collector at any point, also inside the engine's own code."""
    ended = run_program(f"""
import weakref
class Owner:
    def __init__(self):
        self.engine = Engine(threads=1, default_lane="thread").__enter__()
        self.tasks.extend(self.engine.submit(abs, -n) for n in range(5))
        if {how != "del"}:
            self.me = self
        if {how == "weakref"}:
            engine = self.engine
            weakref.finalize(self, lambda: engine.stop())
    tasks = []
    if {how != "weakref"}:
        def __del__(self):
            self.engine.stop()
gc.set_threshold(50, 2, 2)
with Engine(threads=2, default_lane="thread") as other:
    for _ in range(30):
        Owner()
        for _ in range(30):
            other.submit(abs, -1)
gc.collect()
print(all(task.result(20) >= 0 for task in Owner.tasks), len(Owner.tasks), threads_gone())
""", flags=("-X", "dev"))  # fmt: skip
    assert (ended.code, ended.stdout, ended.stderr) == (0, "True 150 True\n", "")
