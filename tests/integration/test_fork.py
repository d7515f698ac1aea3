"""``os.fork()`` in the parent: the child is told, and the parent is not disturbed (N12)."""

import pytest

from tests.integration.exits import run_program

CHECK = """
def ask(call):
    try:
        return call()
    except BaseException as error:
        return type(error).__name__

def report(engine, tasks, done):
    calls = [lambda: engine.submit(abs, 1), lambda: engine.run(abs, 1), lambda: list(engine.map(abs, [1])), engine.stop,
             engine.snapshot, engine.tasks, engine.warm_up, lambda: engine.cancel(id=1), done.result]
    for task in tasks:
        calls += [task.result, task.cancel, lambda: task.add_done_callback(print), lambda: task.state.value]
    gc.collect()
    return sorted(set(str(ask(call)) for call in calls))

def wait(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""
FORKED = "['4', 'EngineForked', 'pending', 'running']"
QUIET = ("-X", "dev", "-W", "error", "-W", "ignore::DeprecationWarning")  # Python 3.12: fork in a process with threads


@pytest.mark.parametrize("leave", ["sys.exit(7)", "os._exit(7)"])
def test_a_forked_child_is_told_and_the_parent_goes_on(leave: str) -> None:
    """N12: whatever the child asks: EngineForked, or nothing; never a hang, and the exit code is its own."""
    ended = run_program(CHECK + f"""
with Engine(processes=1, threads=2) as engine:
    view = engine.options(lane="thread")
    done = view.submit(abs, -4)
    done.result()
    event = threading.Event()
    tasks = [engine.submit(time.sleep, 0.3), view.submit(event.wait)]
    wait_until_running(tasks[1])
    with engine.group() as group:
        group.submit(abs, -1)
        pid = os.fork()
        if pid == 0:
            print(report(engine, tasks, done), flush=True)
            {leave}
    print(wait(pid), engine.run(abs, -2))
    event.set()
print(tasks[0].result(), tasks[1].result(), engine.stop().clean)
""", flags=QUIET)  # fmt: skip
    assert (ended.code, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    assert eval(lines[0]) in (["4", "EngineForked", "pending", "running"], ["4", "EngineForked", "running"])
    assert lines[1:] == ["7 2", "None True True"]


def test_a_forked_child_leaves_an_engine_that_nobody_stops_to_its_parent() -> None:
    """N12, N7: the exit hooks are the parent's too; the collector in the child touches nothing."""
    ended = run_program(CHECK + """
engine = Engine(processes=1, threads=1).__enter__()
engine.run(abs, -1)
task = engine.submit(time.sleep, 0.2)
pid = os.fork()
if pid == 0:
    del engine
    gc.collect()
    sys.exit(5)
print(wait(pid), engine.run(abs, -2), task.result())
""", flags=QUIET)  # fmt: skip
    assert (ended.code, ended.stdout, ended.stderr) == (0, "5 2 None\n", "")


def test_tasks_may_fork() -> None:
    """N12: a child that comes back out of a thread task or a coroutine ends there, instead of becoming a second us."""
    ended = run_program(CHECK + """
async def fork():
    return os.fork() or sys.exit(4)

def fork_and_fail():
    return os.fork() or sys.exit("no")

async def main():
    async with Engine(processes=1, threads=2) as engine:
        view = engine.options(lane="thread")
        print(wait(await view.submit(os.fork)), wait(await view.submit(fork_and_fail)), wait(await engine.submit(fork)))
        pid = os.fork()
        if pid == 0:
            os._exit(3)
        print(wait(pid), await engine.run(abs, -2), await view.run(abs, -3), await engine.submit(asyncio.sleep, 0, 4))
asyncio.run(main())
""", flags=QUIET)  # fmt: skip
    assert (ended.code, ended.stdout, ended.stderr) == (0, "0 1 4\n3 2 3 4\n", "")


def test_multiprocessing_may_fork_beside_an_engine() -> None:
    """N12: from the main thread and from a thread task; its children run their own exit functions."""
    ended = run_program(CHECK + """
import multiprocessing
context = multiprocessing.get_context("fork")
def child(answers, task):
    answers.put(ask(task.result))
with Engine(processes=1, threads=2) as engine:
    task = engine.submit(time.sleep, 0.5)
    answers = context.SimpleQueue()
    def start():
        process = context.Process(target=child, args=(answers, task))
        process.start()
        process.join()
        return process.exitcode, answers.get()
    print(start(), engine.options(lane="thread").run(start), engine.run(abs, -1))
""", flags=QUIET)  # fmt: skip
    assert (ended.code, ended.stdout, ended.stderr) == (0, "(0, 'EngineForked') (0, 'EngineForked') 1\n", "")


def test_a_lock_that_another_thread_held_at_the_fork_does_not_hang_the_child() -> None:
    """N12: threads submit, cancel and look all the time while children are forked, and ask."""
    ended = run_program(CHECK + """
stop = threading.Event()
with Engine(processes=1, threads=2) as engine:
    view = engine.options(lane="thread")
    done = view.submit(abs, -4)
    done.result()
    def load():
        while not stop.is_set():
            for task in [view.submit(abs, -1) for _ in range(20)]:
                task.cancel()
            time.sleep(0.0005)
    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads: thread.start()
    codes = set()
    for _ in range(8):
        task = view.submit(never) if not codes else task
        pid = os.fork()
        if pid == 0:
            os._exit(report(engine, [task], done)[:2] != ["4", "EngineForked"])
        codes.add(wait(pid))
    stop.set()
    for thread in threads: thread.join()
    print(codes)
    engine.stop(timeout=0)
""", flags=("-W", "ignore"))  # fmt: skip
    assert (ended.code, ended.stdout) == (0, "{0}\n")
