"""Ctrl-C once, twice, ten times, at random moments: workers ignore it, the program unwinds once (N9, N10)."""

import os
import random
import select
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stress._signals import without_pythons_words
from tests.integration.exits import PREAMBLE, STUCK, Ended, environment, orphans, run_program
from tests.support import eventually

FLOOD = """
async def main():
    try:
        async with Engine(processes=2, threads=2) as engine:
            engine.submit(spin), engine.options(lane="thread").submit(never)
            while True:
                await engine.options(lane="thread").submit(abs, -1)
                async for _ in engine.map(abs, range(50)):
                    pass
    finally:
        print("ended", flush=True)
"""
PROGRAMS = {
    "async": FLOOD + "asyncio.run(main())",
    "uvloop": FLOOD + "import uvloop\nwith asyncio.Runner(loop_factory=uvloop.new_event_loop) as r: r.run(main())",
    "a loop by hand": FLOOD
    + """
loop = asyncio.new_event_loop()
try:
    loop.run_until_complete(main())
finally:
    loop.close()
    print("ended", flush=True)
""",
    "blocking": """
try:
    with Engine(processes=2, threads=2) as engine:
        engine.submit(spin), engine.options(lane="thread").submit(never)
        while True:
            for task in [engine.options(lane="thread").submit(abs, -n) for n in range(200)]:
                task.result()
            list(engine.map(abs, range(50)))
finally:
    print("ended", flush=True)
""",
    "module level": """
engine = Engine(processes=2, threads=2).__enter__()
engine.submit(spin), engine.options(lane="thread").submit(never)
while True:
    engine.run(abs, -1)
""",
    "starting": """
try:
    while True:
        with Engine(processes=2) as engine:
            engine.run(abs, -1)
finally:
    print("ended", flush=True)
""",
    "starting async": """
async def main():
    try:
        while True:
            async with Engine(processes=2) as engine:
                await engine.run(abs, -1)
    finally:
        print("ended", flush=True)
asyncio.run(main())
""",
}
#: Its function runs after the engine's own: hooks are called in the reverse order of their registration.
ENDED_AT_EXIT = "import threading\nthreading._register_atexit(lambda: print('ended', flush=True))"
PAUSES = {"random": (0.0, 0.001, 0.02, 0.1), "fast": (0.0, 0.0005, 0.002)}


def press(text: str, times: int, seed: int, *, python: str = sys.executable, pauses: str = "random") -> Ended:
    """Run ``text`` and send SIGINT to its whole process group, as a terminal does; no process may be left.

    It is pressed no more once the engine has ended: what then breaks into asyncio's or the interpreter's own last steps
    makes those complain, and with bad luck hang, without any engine too.
    """
    rng = random.Random(seed)
    mark = f"{os.getpid()}-{time.monotonic_ns()}-{seed}"
    process = subprocess.Popen(
        [python, "-c", f"{ENDED_AT_EXIT}\n{PREAMBLE}\nprint('ready', flush=True)\n{text}"], env=environment(mark),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(rng.random() * 0.4)  # not to wait for something: to hit another instant each time
        began = time.monotonic()
        for _ in range(times):
            os.killpg(process.pid, signal.SIGINT)
            has_ended, _, _ = select.select([process.stdout], [], [], rng.choice(PAUSES[pauses]))
            if has_ended:
                break
        stdout, stderr = process.communicate(timeout=STUCK)
        seconds = time.monotonic() - began
        eventually(lambda: not orphans(mark), 10.0, "every process of the program is gone")
        return Ended(process.returncode, stdout, stderr, seconds)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


OURS = ("never retrieved", "never awaited", "abandoned", "Warning:", "<Engine", "Stopper", "stop of engine")
NOISE = (*OURS, "Exception ignored", "was destroyed")


def complaints(ended: Ended) -> list[str]:
    """Give what is wrong with the end of a program that Ctrl-C ended."""
    stderr = without_pythons_words(ended.stderr).rstrip()
    found = [line for line in stderr.splitlines() if any(word in line for word in NOISE)]
    if not stderr.endswith("KeyboardInterrupt"):
        found.append("its last word is not KeyboardInterrupt")
    if ended.code not in (-signal.SIGINT, 130):
        found.append(f"exit code {ended.code}")
    return found


@pytest.mark.parametrize("times", [1, 2, 10])
def test_ctrl_c_ends_the_program_with_its_own_traceback_and_no_process_left(times: int) -> None:
    """N10: once, twice, ten times, at random moments, also while engines and workers start."""
    pytest.importorskip("uvloop")
    with ThreadPoolExecutor(4) as pool:
        running = {name: pool.submit(press, text, times, seed) for seed, (name, text) in enumerate(PROGRAMS.items())}
        ended = {name: future.result() for name, future in running.items()}
    for name, each in ended.items():
        if name == "module level" and times > 1:  # a further one breaks into the interpreter's own end, which says so
            assert not any(word in each.stderr for word in OURS), each.stderr
        else:
            assert not complaints(each), (name, each.stderr)


def test_a_ctrl_c_that_python_lost_in_an_import_does_no_harm_later() -> None:
    """E48: it may leave the main thread with the import lock for ever; then nobody else can import, nor need we."""
    ended = run_program("""
import _imp
_imp.acquire_lock()
async def negate(number):
    return -number
with Engine(processes=2, threads=2) as engine:
    print(list(engine.map(abs, range(3))), engine.options(lane="thread").run(abs, -3), engine.run(negate, -4))
    print(type(engine.submit(os._exit, 3).exception(20)).__name__)
print(threads_gone())
""")
    assert (ended.code, ended.stdout, ended.stderr) == (0, "[0, 1, 2] 3 4\nWorkerCrashed\nTrue\n", "")


def test_a_program_that_ctrl_c_ended_waits_for_no_work(tmp_path: Path) -> None:
    """N10, N7: at exit accepted work has two seconds, but not if the user has just asked for the end."""
    for is_pressed in (True, False):
        path = tmp_path / f"ended {is_pressed}"
        ended = run_program(f"""
engine = Engine(threads=2, default_lane="thread").__enter__()
def work():
    time.sleep(1)
    open({str(path)!r}, "w").close()
wait_until_running(engine.submit(work))
if {is_pressed}:
    signal.raise_signal(signal.SIGINT)
""")
        assert ended.code in ((-signal.SIGINT, 130) if is_pressed else (0,)), ended
        assert path.exists() is not is_pressed


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
