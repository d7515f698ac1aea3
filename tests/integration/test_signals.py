"""Ctrl-C once, twice, ten times, at random moments: workers ignore it, the program unwinds once (N9, N10)."""

import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.exits import PREAMBLE, STUCK, Ended, environment, orphans, run_program
from tests.support import eventually

LOAD = "engine.options(lane='thread')"
FLOOD = """
async def main():
    async with Engine(processes=2, threads=2) as engine:
        engine.submit(spin), engine.options(lane="thread").submit(never)
        while True:
            await engine.options(lane="thread").submit(abs, -1)
            async for _ in engine.map(abs, range(50)):
                pass
"""
PROGRAMS = {
    "async": FLOOD + "asyncio.run(main())",
    "uvloop": FLOOD + "import uvloop\nwith asyncio.Runner(loop_factory=uvloop.new_event_loop) as r: r.run(main())",
    "a loop by hand": FLOOD
    + "loop = asyncio.new_event_loop()\ntry: loop.run_until_complete(main())\nfinally: loop.close()",
    "blocking": """
with Engine(processes=2, threads=2) as engine:
    engine.submit(spin), engine.options(lane="thread").submit(never)
    while True:
        for task in [engine.options(lane="thread").submit(abs, -n) for n in range(200)]:
            task.result()
        list(engine.map(abs, range(50)))
""",
    "module level": """
engine = Engine(processes=2, threads=2).__enter__()
engine.submit(spin), engine.options(lane="thread").submit(never)
while True:
    engine.run(abs, -1)
""",
    "starting": """
while True:
    with Engine(processes=2) as engine:
        engine.run(abs, -1)
""",
    "starting async": """
async def main():
    while True:
        async with Engine(processes=2) as engine:
            await engine.run(abs, -1)
asyncio.run(main())
""",
}


def press(text: str, times: int, seed: int) -> Ended:
    """Run ``text`` and send SIGINT to its whole process group, as a terminal does; no process may be left."""
    rng = random.Random(seed)
    mark = f"{os.getpid()}-{time.monotonic_ns()}-{seed}"
    process = subprocess.Popen(
        [sys.executable, "-c", PREAMBLE + "print('ready', flush=True)\n" + text], env=environment(mark),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(rng.random() * 0.4)  # not to wait for something: to hit another instant each time
        began = time.monotonic()
        for _ in range(times):
            if process.poll() is not None:
                break
            os.killpg(process.pid, signal.SIGINT)
            time.sleep(rng.choice([0.0, 0.001, 0.02, 0.1]))  # as above
        stdout, stderr = process.communicate(timeout=STUCK)
        seconds = time.monotonic() - began
        eventually(lambda: not orphans(mark), 10.0, "every process of the program is gone")
        return Ended(process.returncode, stdout, stderr, seconds)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.mark.parametrize("times", [1, 2, 10])
def test_ctrl_c_ends_the_program_with_its_own_traceback_and_no_process_left(times: int) -> None:
    """N10: once, twice, ten times, at random moments, also while engines and workers start."""
    pytest.importorskip("uvloop")
    with ThreadPoolExecutor(4) as pool:
        running = {name: pool.submit(press, text, times, seed) for seed, (name, text) in enumerate(PROGRAMS.items())}
        ended = {name: future.result() for name, future in running.items()}
    for name, each in ended.items():
        assert each.code != 0, (name, each)
        assert "KeyboardInterrupt" in each.stderr, (name, each.stderr)
        noise = [line for line in each.stderr.splitlines() if is_noise(line)]
        assert not noise, (name, each.stderr)
        if times == 1:  # a further one may hit asyncio or the interpreter in their own last steps, and they say so
            assert each.stderr.rstrip().endswith("KeyboardInterrupt"), (name, each.stderr)
            assert each.code in (-signal.SIGINT, 130), (name, each)
            assert "Exception ignored" not in each.stderr, (name, each.stderr)
            assert "was destroyed" not in each.stderr, (name, each.stderr)


def is_noise(line: str) -> bool:
    """Say whether a line of stderr is more than the user's own traceback, and is not asyncio's or the interpreter's."""
    ours = (
        "never retrieved",
        "never awaited",
        "abandoned",
        "Warning:",
        "stop of engine",
        "Stopper",
        "<Engine",
        "engine/",
    )
    is_frame = line.startswith("  File ")  # of the traceback, which may well lead through the engine
    return not is_frame and any(word in line for word in ours)


def test_a_signal_handler_may_stop_the_engine_in_the_middle_of_its_own_code() -> None:
    """N9: the main thread holds our lock, or waits; the handler must not wait for what it interrupted."""
    ended = run_program("""
waits = 0
for n in range(40):
    engine = Engine(threads=2, default_lane="thread").__enter__()
    def handle(*_):
        report = engine.stop(timeout=0)
        assert report.submitted == report.completed + report.cancelled + report.stopping, report
    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.001 + n * 0.0003)
    try:
        while True:
            if n % 2:
                engine.run(abs, -1)
            else:
                engine.submit(abs, -1).cancel()
    except EngineClosed:
        pass
    except BaseException as error:
        assert type(error).__name__ == "CancelledError", error
    report = engine.stop()
    assert report.submitted == report.completed + report.cancelled, report
print(threads_gone())
""")
    assert (ended.code, ended.stdout, ended.stderr) == (0, "True\n", "")


def test_a_loops_own_signal_handler_stops_the_engine() -> None:
    """N9: ``loop.add_signal_handler`` and a task that stops; ``signal.signal`` and the same; SIGTERM is the user's."""
    ended = run_program("""
async def main(how):
    engine = await Engine(threads=2, processes=1, grace=0.1).start()
    loop = asyncio.get_running_loop()
    stops = []
    def stop(*_):
        stops.append(loop.create_task(engine.stop(timeout=0)))
        loop.call_soon_threadsafe(lambda: None)
    if how == "loop":
        loop.add_signal_handler(signal.SIGTERM, stop)
    else:
        signal.signal(signal.SIGTERM, stop)
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
    try:
        while True:
            await asyncio.gather(*[engine.options(lane="thread").submit(abs, -n) for n in range(50)])
    except (EngineClosed, asyncio.CancelledError) as error:
        pass
    report = await engine.stop()
    await asyncio.gather(*stops)
    print(report.submitted == report.completed + report.cancelled)
asyncio.run(main("loop"))
asyncio.run(main("python"))
""")
    assert (ended.code, ended.stdout, ended.stderr) == (0, "True\nTrue\n", "")
