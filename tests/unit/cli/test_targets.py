"""What a command works on: a file, or the Jobs of a module; and what is said of one that is of no use."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.cli import main

from .conftest import File

NEW = "from engine.jobs import Jobs\n"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Stand in a directory of its own, and forget the modules that are imported from it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize("action", ["list", "stats", "pause", "prune", "cancel", "show"])
def test_a_look_never_makes_a_file(capsys: pytest.CaptureFixture[str], here: Path, action: str) -> None:
    """E136: a file that is not there is an error, and stays away."""
    more = {"pause": ["q"], "prune": ["--older-than", "1d"], "cancel": ["1"], "show": ["1"]}.get(action, [])
    assert main(["jobs", action, "nowhere.db", *more]) == 1
    assert capsys.readouterr() == (
        "",
        f"engine jobs {action}: expected a file of jobs, or MODULE:JOBS, got 'nowhere.db': No such file or directory\n",
    )  # fmt: skip
    assert os.listdir(here) == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_text("SQLite format 4, or so" * 100), "to be a file of jobs, got: file is not a"),
        (lambda path: path.touch(), "got 'x.db', which is empty"),
        (lambda path: path.mkdir(), "to be a file, got a directory"),
        (lambda path: os.mkfifo(path), "to be a file, got something else"),
        (lambda path: path.symlink_to("x.db"), "Too many levels of symbolic links"),
    ],
)
def test_what_is_no_file_of_jobs_is_told_from_one(
    capsys: pytest.CaptureFixture[str], here: Path, make: Callable[[Path], object], message: str
) -> None:
    """E136: what is no file of jobs is said in one line, and left as it is."""
    path = here / "x.db"
    make(path)
    content = path.read_bytes() if path.is_file() else None
    assert main(["jobs", "list", "x.db"]) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert captured.err.startswith("engine jobs list: expected ")
    assert message in captured.err
    assert content is None or path.read_bytes() == content


def test_a_database_of_another_application_is_left_alone(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    """E136: somebody's own tables."""
    import sqlite3  # not while a store is open in this process

    with sqlite3.connect(here / "x.db") as other:
        other.execute("CREATE TABLE jobs (id INTEGER PRIMARY KEY)")
    other.close()
    before = (here / "x.db").read_bytes()
    assert main(["jobs", "stats", "x.db"]) == 1
    assert "got a database of another application" in capsys.readouterr().err
    assert (here / "x.db").read_bytes() == before


def test_module_and_jobs_name_the_same_file(file: File, capsys: pytest.CaptureFixture[str], here: Path) -> None:
    file.add(3)
    (here / "shop.py").write_text(f"{NEW}class Site:\n    jobs = Jobs({str(file.path)!r})\n")
    assert main(["jobs", "list", "shop:Site.jobs"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_a_file_that_is_called_like_a_module_is_a_file(file: File, capsys: pytest.CaptureFixture[str]) -> None:
    file.add()
    file.store.close()
    os.rename(file.path, "shop:jobs")
    assert main(["jobs", "list", "shop:jobs"]) == 0
    assert "app.send" in capsys.readouterr().out


BROKEN = {
    "nowhere": ("nowhere:jobs", "", "expected a module called nowhere, got none called nowhere in "),
    "package": ("nowhere.shop:jobs", "", "expected a module called nowhere.shop, got none called nowhere in "),
    "part": ("shop.part:jobs", NEW, "expected a module called shop.part, got none called shop.part in "),
    "attribute": ("shop:jobs", f"{NEW}mine = Jobs('x.db')\n",
                  "expected shop to have jobs, got nothing of that name; its Jobs are called mine\n"),
    "deeper": ("shop:jobs.x.y", f"{NEW}jobs = Jobs('x.db')\n",
               "expected shop to have jobs.x.y, got nothing of that name\n"),
    "other": ("shop:jobs", "jobs = 7\n", "expected shop:jobs to be a Jobs, got int\n"),
}  # fmt: skip


@pytest.mark.parametrize("command", [["jobs", "list"], ["worker"]])
@pytest.mark.parametrize(("target", "code", "message"), BROKEN.values(), ids=list(BROKEN))
def test_what_is_no_jobs_of_a_module_is_one_line(
    capsys: pytest.CaptureFixture[str], here: Path, command: list[str], target: str, code: str, message: str
) -> None:
    """E139: a name that leads nowhere."""
    (here / "shop.py").write_text(code)
    assert main([*command, target]) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert captured.err.startswith(f"engine {' '.join(command)}: {message}")
    assert os.listdir(here) in (["shop.py"], ["__pycache__", "shop.py"], ["shop.py", "__pycache__"])


RAISES = {
    "raises": ("def f():\n    1 / 0\nf()\n", ["in <module>", "in f", "ZeroDivisionError"]),
    "misses": ("import shop_of_nobody\n", ["in <module>", "No module named 'shop_of_nobody'"]),
    "exits": ("import sys\nsys.exit('bye')\n", ["in <module>", "SystemExit: bye"]),
    "syntax": ("def f(:\n", ["shop.py\", line 1", "SyntaxError"]),
}  # fmt: skip


@pytest.mark.parametrize(("code", "told"), RAISES.values(), ids=list(RAISES))
def test_what_a_module_raises_is_shown_with_its_traceback(
    capsys: pytest.CaptureFixture[str], here: Path, code: str, told: list[str]
) -> None:
    """E139: an error of the user's own module begins in that module, without our frames."""
    (here / "shop.py").write_text(code)
    assert main(["worker", "shop:jobs"]) == 1
    error = capsys.readouterr().err
    assert all(text in error for text in told)
    assert "importlib" not in error
    assert "target.py" not in error
    assert error.splitlines()[-1].startswith("engine worker: expected shop to import, got the ")


def test_a_worker_wants_a_module(capsys: pytest.CaptureFixture[str]) -> None:
    for target in ("jobs.db", "", "a:b:c", "a b:c", "a:"):
        assert main(["worker", target]) == 2
        assert f"expected MODULE:JOBS such as app:jobs, got {target!r}" in capsys.readouterr().err


def test_check_says_what_is_wrong_and_runs_nothing(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    (here / "shop.py").write_text(
        f"{NEW}jobs = Jobs('x.db', routes={{'report.*': 'slow'}})\n"
        "@jobs.task(lane='loop')\ndef send(to: str) -> None: ...\n"
    )
    assert main(["worker", "shop:jobs", "--check"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    errors = captured.err.splitlines()
    assert errors[0] == "error    task 'shop.send' is a plain function on the lane 'loop', which it would hold up"
    assert errors[1] == "         -> say lane='thread', or make it a coroutine function"
    assert errors[2].startswith("warning  the route 'report.*' is taken by no task")
    assert main(["worker", "shop:jobs"]) == 1
    error = capsys.readouterr().err.splitlines()
    assert error[:2] == errors[:2]
    assert error[2:] == ["engine worker: expected shop:jobs to be in order, got the errors above; nothing was run"]
    assert not (here / "x.db").exists()


def test_check_looks_into_a_file_that_is_there(file: File, capsys: pytest.CaptureFixture[str], here: Path) -> None:
    source = f"{NEW}jobs = Jobs({str(file.path)!r})\n@jobs.task(name='app.send')\ndef send(to: str) -> None: ...\n"
    for name in ("shop", "again"):
        (here / f"{name}.py").write_text(source)
    file.add()
    assert main(["worker", "shop:jobs", "--check"]) == 0
    assert capsys.readouterr() == (f"{file.path}: 1 task, 0 schedules, nothing wrong was found\n", "")
    file.add(name="\x1b[2J")
    assert main(["worker", "again:jobs", "--check"]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "1 are of tasks that nobody has registered here: '\\x1b[2J' (1)" in captured.err


@pytest.mark.parametrize(
    ("target", "remedy"),
    [
        ("adv.py:jobs", "; say adv:jobs\n"),
        ("./adv.py:jobs", "; say adv:jobs\n"),
        ("shop/adv.py", "; say shop.adv:jobs\n"),
        ("../adv.py:jobs", "'../adv.py:jobs'\n"),
    ],
)
def test_the_path_of_a_module_says_what_to_type(
    capsys: pytest.CaptureFixture[str], here: Path, target: str, remedy: str
) -> None:
    """E163: ``engine worker adv.py:jobs``."""
    (here / "adv.py").write_text(NEW + "jobs = Jobs('x.db')\n")
    assert main(["worker", target]) in (1, 2)
    assert capsys.readouterr().err.endswith(remedy)


def test_a_file_in_a_directory_that_is_not_there_says_how_to_make_that(
    capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    """E163: a command has no arguments of SQLiteStore."""
    assert main(["demo", "--jobs", "no where/x.db"]) == 1
    assert capsys.readouterr().err.endswith(f"got none; make it: mkdir -p '{here}/no where'\n")


def written(here: Path, text: str) -> None:
    (here / "shop.py").write_text(NEW + text)


TASK = "@jobs.task(name='send', queue='mail')\ndef send(): ...\n"


@pytest.mark.parametrize(
    ("text", "more", "code", "said"),
    [
        ("jobs = Jobs('nowhere/jobs.db')\n", [], 1, "nowhere to exist, got none; make it, or say"),
        ("jobs = Jobs('shop.py/jobs.db')\n", [], 1, "Not a directory"),
        ("from engine.jobs import MemoryStore\njobs = Jobs(MemoryStore())\n", [], 0, "nobody else can enqueue any"),
        ("jobs = Jobs('jobs.db', queues=['mail'])\n", ["--queues", "mial"], 2, "one of the declared queues ('mail')"),
        ("jobs = Jobs('jobs.db')\n", ["--queues", "mial"], 0, "the queue 'mial' is that of no task"),
    ],
)
def test_a_check_finds_what_a_worker_would_trip_over(
    capsys: pytest.CaptureFixture[str], here: Path, text: str, more: list[str], code: int, said: str
) -> None:
    """E172: a directory that is not there, jobs in memory, queues on the command line; and it makes no file."""
    written(here, text + TASK)
    assert main(["worker", "shop:jobs", "--check", *more]) == code
    out, err = capsys.readouterr()
    assert said in err
    assert "nothing wrong" not in out
    assert not list(here.rglob("jobs.db"))


def test_a_check_finds_a_jobs_whose_tasks_nobody_imports(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    """E172: its worker would run nothing, and say nothing."""
    written(here, "jobs = Jobs('jobs.db')\n")
    assert main(["worker", "shop:jobs", "--check"]) == 0
    assert "no task is registered, so no job can run" in capsys.readouterr().err
    written(
        here,
        "from engine.jobs import SQLiteStore\njobs = Jobs(SQLiteStore('a/b/jobs.db', make_directory=True))\n" + TASK,
    )
    del sys.modules["shop"]
    assert main(["worker", "shop:jobs", "--check"]) == 0
    assert "nothing wrong was found" in capsys.readouterr().out
    assert not (here / "a").exists()


@pytest.mark.parametrize(
    ("target", "code", "said"),
    [
        ("./shop:jobs", 2, "; say shop:jobs"),
        ("pkg/tasks:jobs", 2, "; say pkg.tasks:jobs"),
        ("shop:Jobs", 1, "expected shop:Jobs to be a Jobs, got type; its Jobs are called jobs"),
        ("shop:jobs.tasks", 1, "to be a Jobs, got mappingproxy; its Jobs are called jobs"),
    ],
)
def test_who_misses_the_jobs_of_a_module_is_told_how_to_name_it(
    capsys: pytest.CaptureFixture[str], here: Path, target: str, code: int, said: str
) -> None:
    """E172: a path in place of a module, the class in place of the object."""
    written(here, "jobs = Jobs('jobs.db')\n")
    assert main(["worker", target, "--check"]) == code
    assert said in capsys.readouterr().err
