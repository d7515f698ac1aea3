"""What an attack on the portable backend found, one after the other (SCENARIOS, E9 and following)."""

from pathlib import Path

import pytest

from tests.integration.exits import run_program, run_programs

IGNORED = ("-W", "ignore::DeprecationWarning")  # CPython 3.12 on: a fork in a process with threads

# -- a thread that outlives the main thread ---------------------------------------------------------------------------

SURVIVOR = """
from engine.errors import WorkerStartupError
from loky import process_executor

def ask(engine):
    task = engine.submit(abs, -2)
    try:
        print(task.result(timeout=20))
    except WorkerStartupError as error:
        print(type(error).__name__, "keep the main thread alive" in str(error))
    print(task.state.value)

def survive():
    with Engine(processes=1, process_backend="loky") as engine:
        print(engine.run(abs, -1))
        running = engine.submit(hold, PATH)
        wait_until_running(running)
        ready.set()
        while not process_executor._global_shutdown:  # not the main thread's end: that waits for the running task
            time.sleep(0.001)
        open(PATH, "w").close()
        print(running.result(timeout=20))
        ask(engine)

def hold(path):
    while not os.path.exists(path):
        time.sleep(0.01)
    return 5

ready = threading.Event()
threading.Thread(target=survive).start()
ready.wait()
"""


def test_an_engine_over_loky_that_outlives_the_main_thread_says_what_it_can_not_do(tmp_path: Path) -> None:
    """E9: it hung: its worker's death was taken for one that nobody would hear of."""
    ended = run_program(SURVIVOR.replace("PATH", repr(f"{tmp_path}/go")))
    assert (ended.code, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == ["1", "5", "WorkerStartupError True", "failed"]


def test_an_engine_over_loky_that_is_started_after_the_main_thread_says_what_to_do() -> None:
    """E9: "can't register atexit after shutdown" is no help. CPython 3.12 starts no thread by then, so no engine."""
    ended = run_program("""
from engine.errors import WorkerStartupError
def late():
    main.join(20)
    try:
        with Engine(processes=1, process_backend="loky") as engine:
            engine.run(abs, -1)
    except (WorkerStartupError, RuntimeError) as error:
        print("keep the main thread alive" in str(error) or "new thread" in str(error))
main = threading.main_thread()
threading.Thread(target=late).start()
""")
    assert (ended.code, ended.stdout) == (0, "True\n")


def test_an_engine_over_loky_that_nobody_stops_has_two_seconds_at_exit() -> None:
    """E9: as over the native backend; its workers were killed with what was nearly done."""
    ended = run_programs({kind: f"""
def begin():
    global engine
    engine = Engine(processes=1, process_backend="loky").__enter__()
    engine.warm_up()
    short, long = engine.submit(time.sleep, 0.2), engine.submit(time.sleep, 100)
    atexit.register(lambda: print(short.state.value, long.state.value))
    ready.set()
    if {kind == "daemon"}:
        threading.Event().wait()
ready = threading.Event()
threading.Thread(target=begin, daemon=True).start() if {kind == "daemon"} else begin()
ready.wait()
""" for kind in ("daemon", "main")})  # fmt: skip
    for each in ended.values():
        assert (each.code, each.stdout, each.stderr) == (0, "completed cancelled\n", "")


# -- SIGPIPE ----------------------------------------------------------------------------------------------------------

SIGPIPE = """
from pathlib import Path
from engine.errors import WorkerCrashed
signal.signal(signal.SIGPIPE, signal.SIG_DFL)

def is_dead(pid):
    process = Path(f"/proc/{pid}")
    try:
        threads = os.listdir(process / "task")
        return len(threads) == 1 and (process / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True

def mask():
    return sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))

def hold(path):
    path.touch()
    time.sleep(60)

async def main():
    async with Engine(processes=1, process_backend="loky") as engine:
        pid = await engine.run(os.getpid)
        os.kill(pid, signal.SIGSTOP)
        task = engine.submit(len, bytes(64 << 20))
        while task.state is not TaskState.RUNNING:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)  # loky's thread has written what the pipe takes
        os.kill(pid, signal.SIGKILL)
        print(await task)
        held = engine.submit(hold, Path(PATH))
        while not os.path.exists(PATH):
            await asyncio.sleep(0.01)
        pid = engine.snapshot().workers[0].pid
        os.kill(pid, signal.SIGKILL)
        while not is_dead(pid):
            time.sleep(0.001)  # on the loop: it cannot have heard of the death when it asks
        engine.stacks()
        print(signal.SIGPIPE in mask(), signal.SIGPIPE in signal.sigpending())
        try:
            await held
        except WorkerCrashed:
            print("crashed")
        print(await engine.run(mask))

asyncio.run(main())
"""


def test_a_worker_over_loky_that_dies_ends_no_program_that_wants_to_die_of_sigpipe(tmp_path: Path) -> None:
    """E12: loky's threads wrote to the dead worker, and the program ended in silence; nor is it held back for good."""
    ended = run_program(SIGPIPE.replace("PATH", repr(f"{tmp_path}/begun")))
    assert (ended.code, ended.stdout, ended.stderr) == (0, f"{64 << 20}\nFalse False\ncrashed\n[]\n", "")


# -- no standard streams ----------------------------------------------------------------------------------------------

NOWHERE = """
STREAMS

def say():
    print("out")
    print("err", file=sys.stderr)
    os.write(1, b"out\\n")
    os.write(2, b"err\\n")
    return subprocess.run(["cat"], capture_output=True, check=True).stdout == b""

def flood():
    while not over.is_set():
        for fd in (1, 2):
            os.write(fd, bytes(range(256)))

async def main():
    async with Engine(processes=2, process_backend="BACKEND") as engine:
        return await work(engine)

async def work(engine):
    return [await engine.run(say), await engine.run(len, bytes(1 << 20)), await engine.run(abs, -3)]

import subprocess
over = threading.Event()
with open(PATH, "w") as result:
    try:
        with Engine(processes=2, process_backend="BACKEND") as engine:
            print(engine.run(say), engine.run(len, bytes(1 << 20)), file=result)
            FLOOD
            print([engine.run(abs, -n) for n in range(40)] == list(range(40)), file=result)
            over.set()
        print(asyncio.run(main()), file=result)
    except BaseException as error:
        print(repr(error), file=result)
"""
CLOSED = "os.closerange(0, 3)"


@pytest.mark.parametrize("backend", ["native", "loky"])
@pytest.mark.parametrize("streams", ["sys.stdout = sys.stderr = None", "sys.stdout.close(); sys.stderr.close()"])
def test_a_program_without_standard_streams_has_workers(backend: str, streams: str, tmp_path: Path) -> None:
    """E13: as under pythonw. loky flushes both before each start, and so none came up; prints go nowhere."""
    path = tmp_path / "result"
    text = NOWHERE.replace("BACKEND", backend).replace("PATH", repr(str(path)))
    ended = run_program(text.replace("STREAMS", streams).replace("FLOOD", "pass"), flags=IGNORED)
    assert path.read_text().splitlines() == ["True 1048576", "True", "[True, 1048576, 3]"]
    assert (ended.code, "[process" in ended.stdout + ended.stderr) == (0, False)


@pytest.mark.parametrize("backend", ["native", "loky"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_no_socket_of_ours_becomes_a_standard_descriptor(backend: str, when: str, tmp_path: Path) -> None:
    """E14: with 0 to 2 closed, by who started the program or by itself later, what C code prints went to a worker."""
    path = tmp_path / "result"
    text = NOWHERE.replace("BACKEND", backend).replace("PATH", repr(str(path)))
    closing = f"sys.stdin = sys.stdout = sys.stderr = None\n{CLOSED}"
    later = f"{CLOSED}; engine.restart_workers(); engine.run(abs, 0)"
    text = text.replace("STREAMS", closing if when == "before" else "")
    flood = "threading.Thread(target=flood, daemon=True).start()"
    text = text.replace("FLOOD", f"{later}; {flood}" if when == "after" else flood)
    ended = run_program(text, flags=IGNORED)
    assert path.read_text().splitlines() == ["True 1048576", "True", "[True, 1048576, 3]"]
    assert ended.code == 0


# -- forks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["native", "loky"])
def test_a_fork_in_the_middle_of_an_import_of_ours_waits_for_its_end(backend: str) -> None:
    """E10: the child found loky cut short, or waited for ever for the lock of a thread that it does not have."""
    ended = run_program(f"""
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "loky.process_executor" and os.getpid() == parent:
            importing.set()
            time.sleep(0.3)

importing, parent = threading.Event(), os.getpid()
sys.meta_path.insert(0, Slow())
with Engine(processes=1, inner_threads="auto", process_backend="{backend}") as engine:
    task = engine.submit(abs, -1)
    importing.wait(5)  # in vain natively, where there is one processor: nothing is counted
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        with Engine(processes=1, process_backend="{backend}") as own:
            print(own.run(abs, -5), flush=True)
        os._exit(0)
    print(os.waitpid(child, 0)[1], task.result(), engine.run(abs, -2))
""", flags=IGNORED)  # fmt: skip
    assert (ended.code, ended.stdout, ended.stderr) == (0, "5\n0 1 2\n", "")


@pytest.mark.parametrize("backend", ["native", "loky"])
def test_data_that_forks_when_it_is_pickled_or_rebuilt_leaves_one_of_each_process(backend: str) -> None:
    """E11: the child came back into our code and answered too, or turned its parent's loop and wrote to its workers."""
    ended = run_program(f"""
from tests.integration.attackers import ForkingArgument, fork_and_keep, fork_here, keep, kept, make

def ask(**options):
    with Engine(processes=1, process_backend="{backend}", **options) as engine:
        yield engine.run(str, ForkingArgument())
        yield engine.run(make, "pickled")
        yield engine.run(make, "rebuilt")
        yield engine.run(fork_here)
        yield engine.run(abs, -1)
        yield engine.run(kept)

async def main():
    async with Engine(processes=1, process_backend="{backend}") as engine:
        return await engine.run(str, ForkingArgument()), await engine.run(make, "rebuilt"), await engine.run(abs, -1)

print(list(ask(initializer=keep, initargs=(ForkingArgument(),))), flush=True)
print(list(ask(initializer=fork_and_keep)), flush=True)
print(asyncio.run(main()))
""", flags=IGNORED)  # fmt: skip
    left = "left with 0"
    assert ended.stdout.splitlines() == [
        str([left, left, left, left, 1, [left]]), str([left, left, left, left, 1, [left]]), str((left, left, 1)),
    ]  # fmt: skip
    assert (ended.code, ended.stderr) == (0, "")
