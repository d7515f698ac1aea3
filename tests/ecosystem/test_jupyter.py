"""The engine in a notebook: cells of a real Jupyter kernel."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.docs.test_examples import examples_in
from tests.ecosystem.notebook import Notebook, notebook
from tests.support import REPOSITORY, eventually

PAGE = "docs/ecosystem/notebooks.md"

FIRST_CELL = """
import asyncio, pathlib, threading, time
from engine import BlockingEngine, Engine
OFFSET = 1

class Point:
    def __init__(self, n):
        self.n = n

def helper(n):
    return n * 10

def work(n):
    return helper(n) + OFFSET

def sleep(path):
    pathlib.Path(path).touch()
    time.sleep(100)

async def sleep_here(path):
    pathlib.Path(path).touch()
    await asyncio.sleep(100)

def fail(n):
    known = {}
    return known[n]
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
    """Give one kernel for all tests that leave no engine in it."""
    with notebook(tmp_path_factory.mktemp("kernel")) as kernel:
        yield kernel


@pytest.fixture
def cells(kernel: Notebook) -> Notebook:
    """Give a notebook in which nothing but the first cell was run."""
    kernel.run("%reset -f")
    assert kernel.run(FIRST_CELL).error == ""
    return kernel


START = {
    "awaited": ("engine = await Engine(processes=2).start()", "await engine.run({})",
                "[each async for each in engine.map({})]", "await engine.stop()"),
    "blocking": ("engine = BlockingEngine(processes=2).start()", "engine.run({})",
                 "list(engine.map({}))", "engine.stop()"),
}  # fmt: skip


@pytest.mark.parametrize("kind", START)
def test_functions_of_cells_run_as_they_are_by_then(cells: Notebook, kind: str) -> None:
    """E85: defined in a cell, mended in a later one, with globals, helpers and classes of the notebook."""
    start, run, map_, stop = START[kind]
    cells.run(start)
    assert cells.run(run.format("work, 1")).text == "11"
    assert cells.run(map_.format("work, range(3)")).text == "[1, 11, 21]"
    cells.run("OFFSET = 2")
    assert cells.run(run.format("work, 1")).text == "12"
    cells.run("def helper(n):\n    return n * 100")
    assert cells.run(map_.format("work, range(3)")).text == "[2, 102, 202]"
    cells.run("def work(n):\n    return Point(math.factorial(n))")
    assert cells.run(run.format("work, 3")).error == "NameError: name 'math' is not defined"
    cells.run("import math")
    assert cells.run(f"point = {run.format('work, 3')}\ntype(point) is Point, point.n").text == "(True, 6)"
    assert cells.run(f"{run.format('print, 1, 2')}").out.endswith("] 1 2\n")
    assert "failed=1," in cells.run(stop).text


def test_an_engine_lives_in_one_cell(cells: Notebook) -> None:
    """``async with`` and ``with``, a task awaited in the cell of a blocking engine, and what README says of it."""
    cell = cells.run("""
async with Engine(processes=1) as engine:
    print(await engine.run(work, 1), [r async for r in engine.map(work, range(2))])
with Engine(processes=1) as engine:
    print(engine.run(work, 1), list(engine.map(work, range(2))))
    with engine.group() as group:
        inside = group.submit(work, 2)
    task, called = engine.submit(work, 3), []
    task.add_done_callback(called.append)
    try:
        engine.submit(time.sleep, 0.2).result()
    except asyncio.InvalidStateError as error:
        print(inside.result(), await task, error)
    while not called:  # a task that is done already is awaited without a turn of this loop, which calls what was added
        await asyncio.sleep(0)
print(called == [task])
""")
    assert cell.error == ""
    assert cell.out.splitlines()[:2] == ["11 [1, 11]"] * 2
    assert re.fullmatch(r"21 31 expected task .* use await task: a thread .*", cell.out.splitlines()[2])
    assert cell.out.splitlines()[3] == "True"


INTERRUPTED = {
    "awaited": ["await engine.run(sleep, {})", "[r async for r in engine.map(sleep, [{}] * 9)]",
                "await asyncio.gather(*[engine.submit(sleep, {}) for _ in range(3)])",
                "await engine.run(sleep_here, {})", "await engine.options(lane='thread', grace=0.1).run(sleep, {})"],
    "blocking": ["engine.run(sleep, {})", "list(engine.map(sleep, [{}] * 9))", "engine.run(sleep_here, {})"],
}  # fmt: skip


@pytest.mark.parametrize("kind", START)
def test_an_interrupted_cell_leaves_kernel_and_engine_usable(cells: Notebook, kind: str, tmp_path: Path) -> None:
    start, run, map_, stop = START[kind]
    cells.run(start)
    for number, code in enumerate(INTERRUPTED[kind]):
        path = tmp_path / str(number)
        cell = cells.run(code.format(repr(str(path))), path.exists)
        assert cell.error.partition(":")[0] in ("KeyboardInterrupt", "CancelledError"), cell.traceback
        assert cells.run(run.format("work, 1")).text == "11"
        assert cells.run(map_.format("work, range(3)")).text == "[1, 11, 21]"
    assert (
        cells.run("engine.snapshot().phase, [t.name for t in engine.tasks(state='running')]").text == "('running', [])"
    )
    path = tmp_path / "block"
    for block in (
        "async with Engine(processes=1) as inner:\n    await inner",
        "with Engine(processes=1) as inner:\n    inner",
    ):
        path.unlink(missing_ok=True)
        cell = cells.run(f"{block}.run(sleep, {str(path)!r})", path.exists)
        assert cell.error.partition(":")[0] in ("KeyboardInterrupt", "CancelledError"), cell.traceback
        assert cells.run("inner.snapshot().phase").text == "'closed'"
    assert cells.run(run.format("work, 1")).text == "11"
    assert "completed" in cells.run(stop).text


def test_an_error_shows_the_lines_of_the_cell(cells: Notebook) -> None:
    """E86: only the kernel knows them."""
    cell = cells.run("async with Engine(processes=1) as engine:\n    await engine.run(fail, 'of the cell')")
    assert cell.error == "KeyError: 'of the cell'"
    assert re.search(r"in fail\n    return known\[n\]\nKeyError: 'of the cell'", cell.traceback), cell.traceback


def test_objects_are_shown_as_html(cells: Notebook) -> None:
    cells.run("engine = Engine(processes=1)")
    assert "not started" in cells.run("engine").value["text/html"]
    cells.run(
        "await engine.start()\ntask = engine.options(name='<b>').submit(fail, '<script>')\nawait asyncio.wait([task])"
    )
    assert "KeyError: &#x27;&lt;script&gt;&#x27;" in cells.run("task").value["text/html"]
    assert "&lt;b&gt;" in cells.run("task").value["text/html"]
    assert "process-1" in cells.run("engine.options(timeout=5)").value["text/html"]
    assert "process-1" in cells.run("engine.snapshot()").value["text/html"]
    cells.run("task.exception(); await engine.stop()")
    assert "closed" in cells.run("engine").value["text/html"]


LEFT_OPEN = """
engine = await Engine(processes=2).start()
blocking = BlockingEngine(processes=2).start()
def spin(path):
    pathlib.Path(path).touch()
    while True:
        pass
tasks = [engine.submit(spin, {0!r}), engine.options(lane="thread").submit(sleep, {1!r}), blocking.submit(spin, {2!r}),
         engine.submit(sleep_here, {3!r})]
await asyncio.sleep(0)
"""


def test_a_kernel_that_ends_takes_its_engines_along(tmp_path: Path) -> None:
    """Restarted, killed, shut down: with running processes, threads and coroutines of engines left open."""
    with notebook(tmp_path) as kernel:
        for end in ("restart", "kill", "shut down"):
            kernel.run(FIRST_CELL)
            paths = [tmp_path / f"{end}-{part}" for part in range(4)]
            assert kernel.run(LEFT_OPEN.format(*map(str, paths))).error == ""
            eventually(partial(_all_there, paths))
            workers = set(kernel.workers())
            assert len(workers) >= 2
            if end != "shut down":
                kernel.restart(now=end == "kill")
                eventually(partial(_are_gone, workers, kernel), 5.0, "the workers of the kernel before are gone")


def _all_there(paths: list[Path]) -> bool:
    return all(path.exists() for path in paths)


def _are_gone(workers: set[int], kernel: Notebook) -> bool:
    return not workers & set(kernel.workers())


def test_every_block_of_the_page_runs_in_a_notebook(kernel: Notebook) -> None:
    examples = examples_in(PAGE, (REPOSITORY / PAGE).read_text(encoding="utf-8"))
    assert len(examples) > 5
    kernel.run("%reset -f")
    for example in examples:
        cell = kernel.run(example.code)
        assert (cell.error, cell.err) == ("", ""), f"{example}\n{example.code}\n{cell.traceback}"
