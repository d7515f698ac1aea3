"""The engine in IPython's terminal."""

from pathlib import Path

from tests.integration.test_where_from import DEFINITIONS, prompt
from tests.support import eventually

SCRIPT = """
from engine import Engine
WITHIN = 5
def within(): return WITHIN
with Engine(processes=1) as mine:
    print("<" "of the script", mine.run(within), ">")
"""
MODULE = "def of_module():\n    return {}\n"


def test_ipython_runs_what_is_typed_and_survives_ctrl_c(tmp_path: Path) -> None:
    """E85: with its own await, its Ctrl-C, its %run, a module that is edited, and an engine left open at the end."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    module = tmp_path / "edited_module.py"
    module.write_text(MODULE.format(1))
    options = ["--simple-prompt", "--no-banner", "--no-confirm-exit", "--HistoryManager.enabled=False"]
    with prompt("-m", "IPython", *options, "--colors=NoColor", IPYTHONDIR=str(tmp_path / "ipython")) as python:
        python.wait_for(r"In \[1\]: ")
        for line in filter(None, DEFINITIONS.splitlines()):
            python.type(line)
            if line.startswith("def "):
                python.type("")
        python.type("engine = BlockingEngine(processes=2).start()")
        assert python.ask("engine.run(work, 1), list(engine.map(work, range(2)))") == "(11, [1, 11])"
        python.type("OFFSET = 2")
        assert python.ask("engine.run(work, 1)") == "12"
        path = tmp_path / "blocking"
        python.type(f"engine.run(sleep, {str(path)!r})")
        eventually(path.exists)
        python.press_ctrl_c()
        python.wait_for("KeyboardInterrupt")
        assert python.ask("engine.run(work, 1), engine.snapshot().phase") == "(12, 'running')"
        python.type(f"%run {script}")
        python.wait_for("<of the script 5 >")
        assert python.ask("engine.run(within)") == "5"
        python.type("import importlib, pathlib, sys")
        python.type(f"sys.path.insert(0, {str(tmp_path)!r}); sys.dont_write_bytecode = True")
        python.type("import edited_module; engine.restart_workers()")
        assert python.ask("engine.run(edited_module.of_module)") == "1"
        module.write_text(MODULE.format("22"))
        python.type("importlib.reload(edited_module); engine.restart_workers()")
        assert python.ask("engine.run(edited_module.of_module)") == "22"
        python.type("home = await Engine(processes=1).start()")
        assert (
            python.ask("await home.run(work, 1), [each async for each in home.map(work, range(2))]") == "(12, [2, 12])"
        )
        path = tmp_path / "awaited"
        python.type(f"await home.run(sleep, {str(path)!r})")
        eventually(path.exists)
        python.press_ctrl_c()
        python.wait_for("KeyboardInterrupt: ")
        assert python.ask("home.cancel(name='sleep')") == "1"  # IPython breaks the loop off, and cancels nothing
        assert python.ask("await home.run(work, 1), home.snapshot().phase") == "(12, 'running')"
        assert python.leave().count("Traceback") == 0
