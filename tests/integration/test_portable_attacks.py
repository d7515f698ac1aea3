"""What an attack on the portable backend found, one after the other (SCENARIOS, E9 and following)."""

import pytest

from tests.integration.exits import run_program

IGNORED = ("-W", "ignore::DeprecationWarning")  # CPython 3.12 on: a fork in a process with threads

# -- a thread that outlives the main thread ---------------------------------------------------------------------------

SURVIVOR = """
from engine.errors import WorkerStartupError

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
        threading.main_thread().join(20)
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


def test_an_engine_over_loky_that_outlives_the_main_thread_says_what_it_can_not_do(tmp_path: object) -> None:
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


@pytest.mark.parametrize("kind", ["daemon", "main"])
def test_an_engine_over_loky_that_nobody_stops_has_two_seconds_at_exit(kind: str) -> None:
    """E9: as over the native backend; its workers were killed with what was nearly done."""
    ended = run_program(f"""
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
""")
    assert (ended.code, ended.stdout, ended.stderr) == (0, "completed cancelled\n", "")
