"""The interpreter exits, or Ctrl-C comes, while an executor of ``engine.futures`` has work (N1, N6, N7, N10)."""

from tests.integration.exits import run_program, run_programs

PROGRAM = """
from engine.futures import ProcessExecutor, ThreadExecutor
KIND = {kind}
executor = KIND(2)
"""

#: What is left to do when the main module ends; all print "done".
FINISHES = {
    "pending": "[executor.submit(time.sleep, 0.05) for _ in range(6)][-1].add_done_callback(say)",
    "not waited for": "executor.submit(abs, -7).add_done_callback(say); executor.shutdown(wait=False)",
    "dropped": "executor.submit(abs, -7).add_done_callback(say); del executor",
    "just cancelled": "executor.submit(abs, -7).add_done_callback(say); executor.submit(int).cancel()",
    "in a thread": """
def work():
    executor.submit(abs, -7).result()  # Python 3.12 starts no thread any more once the main one is done
    ready.set()
    main.join()
    say(executor.submit(time.sleep, 0.3).result())
main, ready = threading.main_thread(), threading.Event()
threading.Thread(target=work).start()
ready.wait()
""",
    "over an engine": (
        "engine = Engine(processes=1).__enter__(); executor = engine.executor();"
        "executor.submit(time.sleep, 0.1).add_done_callback(say)"
    ),
}
#: What never ends.
NEVER_ENDS = {
    "running": "futures = [executor.submit(time.sleep, 1000) for _ in range(9)]",
    "not waited for": "executor.submit(time.sleep, 1000); executor.shutdown(wait=False)",
    "dropped": "executor.submit(time.sleep, 1000); del executor",
    "awaited by a map": "results = executor.map(time.sleep, [1000] * 9)",
    "a callback": "executor.submit(time.sleep, 0.1).add_done_callback(lambda _: time.sleep(1000)); time.sleep(0.3)",
}
SAY = "def say(*_): print('done', flush=True)\n"


def programs(texts: dict[str, str]) -> dict[str, str]:
    return {
        f"{name}, {kind}": PROGRAM.format(kind=kind) + SAY + text
        for name, text in texts.items()
        for kind in ("ProcessExecutor", "ThreadExecutor")
    }


def test_what_is_short_is_finished_at_exit_and_its_callbacks_are_called() -> None:
    """N7: as far as two seconds go, in silence."""
    ended = run_programs(programs(FINISHES))
    assert {name: (each.code, each.stdout, each.stderr) for name, each in ended.items()} == dict.fromkeys(
        ended, (0, "done\n", "")
    )


def test_what_never_ends_does_not_keep_the_interpreter() -> None:
    """N7: exit within its bound, in silence; the standard executors would wait for ever."""
    ended = run_programs(programs(NEVER_ENDS))
    assert {name: (each.code, each.stdout, each.stderr) for name, each in ended.items()} == dict.fromkeys(
        ended, (0, "", "")
    )


def test_submit_after_the_interpreter_has_begun_to_end() -> None:
    """N1: in the words of the standard executors."""
    for kind in ("ProcessExecutor", "ThreadExecutor"):
        ended = run_program(
            PROGRAM.format(kind=kind)
            + """
def late():
    try:
        executor.submit(abs, -7)
    except RuntimeError as error:
        print("cannot schedule new futures after" in str(error))
atexit.register(late)
executor.submit(abs, -7).result()
"""
        )
        assert (ended.code, ended.stdout, ended.stderr) == (0, "True\n", "")


def test_ctrl_c_in_result_leaves_the_executor_in_order() -> None:
    """N10: whoever waits is interrupted; the call goes on, and so does the executor."""
    for kind in ("ProcessExecutor", "ThreadExecutor"):
        ended = run_program(
            PROGRAM.format(kind=kind)
            + """
slow = executor.submit(time.sleep, 0.6)
while not slow.running():
    time.sleep(0.01)
caught = 0
for n in range(20):
    threading.Timer(0.01 + 0.0005 * n, signal.raise_signal, (signal.SIGINT,)).start()
    try:
        slow.result()
        time.sleep(5)
    except KeyboardInterrupt:
        caught += 1
    if slow.done():
        break
print(caught > 0, slow.result(), executor.submit(abs, -7).result())
executor.shutdown()
""",
            flags=(),
        )
        assert (ended.code, ended.stdout, ended.stderr) == (0, "True None 7\n", "")


def test_ctrl_c_that_leaves_the_block_ends_what_runs() -> None:
    """N10: as with the standard pool, whose workers get the Ctrl-C too; nobody waits for the calls."""
    ended = run_program(
        """
from engine.futures import ProcessExecutor
try:
    with ProcessExecutor(2) as executor:
        futures = [executor.submit(time.sleep, 1000) for _ in range(4)]
        while not futures[0].running():
            time.sleep(0.01)
        raise KeyboardInterrupt
except KeyboardInterrupt:
    print([future.cancelled() for future in futures])
""",
        flags=(),
    )
    assert (ended.code, ended.stdout, ended.stderr) == (0, f"{[True] * 4}\n", "")
