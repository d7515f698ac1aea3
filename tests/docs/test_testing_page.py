"""The examples of docs/TESTING.md that are for pytest, in a run of pytest."""

import os
import subprocess
import sys
from pathlib import Path

import engine
from tests.docs.test_examples import EXAMPLES


def test_pytest_runs_the_examples_that_are_for_it(tmp_path: Path) -> None:
    files = {
        example.code.partition("\n")[0].removeprefix("# "): example.code
        for example in EXAMPLES
        if example.page == "docs/TESTING.md" and example.code.startswith("# ")
    }
    assert set(files) == {"conftest.py", "test_orders.py"}
    for name, code in files.items():
        (tmp_path / name).write_text(code)
    path = os.pathsep.join(filter(None, [str(Path(engine.__path__[0]).parent), os.environ.get("PYTHONPATH")]))
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--strict-markers", "-W", "error", str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "3 passed" in run.stdout
