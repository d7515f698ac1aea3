"""What a notebook shows of an engine, a task and a snapshot."""

import dataclasses
import html.parser
import os
import re
import threading
from typing import Any

import pytest

from engine import BlockingEngine, Engine, Retry, Task, TaskState
from engine._html import html_of_task
from tests.support import eventually

NASTY = "<script>alert('1')</script>&\"<img src=http://x>"


class Page(html.parser.HTMLParser):
    """Checks that tags are closed in order and are few, and that nothing comes from elsewhere; collects the text."""

    TAGS = frozenset({"div", "b", "span", "table", "tr", "th", "td"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []
        assert "http" not in re.sub(r">[^<]*<", "><", text)  # in no attribute
        assert len(text) < 10_000

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self.TAGS
        assert {name for name, _ in attrs} <= {"style"}
        assert all("url" not in (value or "") and "background" not in (value or "") for _, value in attrs)
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data + " "


def shown(value: Any) -> str:
    """Give the text that a notebook shows of ``value``."""
    return " ".join(Page(value._repr_html_()).text.split())


def fail() -> None:
    raise ValueError(NASTY)


def test_an_engine_is_shown_at_every_time_of_its_life() -> None:
    engine = Engine(processes=1, name=NASTY)
    assert "not started" in shown(engine)
    assert "with timeout=5.0" in shown(engine.options(timeout=5))
    blocking = BlockingEngine(engine)
    assert "BlockingEngine" in shown(blocking)
    with blocking:
        assert blocking.run(abs, -1) == 1
        for each in (engine, blocking, engine.options(name=NASTY), blocking.options(lane="thread")):
            text = shown(each)
            assert "running" in text
            assert re.search(r"process 0 0 1 0 0 1", text), text
            assert re.search(r"process-1 ● idle 1 [0-9]+ MB", text), text
        assert "<script>alert" in shown(engine.options(name=NASTY))
    assert "closed" in shown(engine)
    assert "closed" in shown(blocking)


def test_a_task_is_shown_at_every_time_of_its_life() -> None:
    go = threading.Event()
    with Engine(processes=1, threads=1) as engine:
        task = engine.options(lane="thread", name=NASTY).submit(go.wait, 30)
        eventually(lambda: task.state is TaskState.RUNNING)
        waiting = engine.options(lane="thread").submit(abs, -1)
        assert f"Task {task.id} {NASTY} state ● running lane thread" in shown(task)
        assert "state pending" in shown(waiting)
        go.set()
        task.result(10)
        assert "state ● completed" in shown(task)
        assert " took " in shown(task)
        failed = engine.options(retry=Retry(max_attempts=2, base_delay=0.001)).submit(fail)
        assert failed.exception(10) is not None
        assert f"attempts 2 error ValueError: {NASTY}" in shown(failed)
        cancelled = engine.submit(abs, -1)
        if cancelled.cancel():
            assert "state ● cancelled" in shown(cancelled)
    assert "state ● failed" in shown(failed)


def test_a_snapshot_is_shown_with_what_is_not_zero() -> None:
    with Engine(processes=1) as engine:
        assert engine.submit(os._exit, 3).exception(10) is not None
        engine.run(abs, -1)
        snapshot = engine.snapshot()
    assert "engine running" in shown(snapshot)
    assert "crashes 1" in shown(snapshot)
    assert "retries" not in shown(snapshot)
    many = dataclasses.replace(snapshot, workers=snapshot.workers[:1] * 50, last_start_error=NASTY)
    assert shown(many).endswith(f"38 more workers, crashes 1, the last start failed: {NASTY}")
    assert shown(many).count("process-") == 12


def test_what_cannot_be_shown_is_its_name() -> None:
    class Hostile:
        def info(self) -> Any:
            raise RuntimeError

    assert html_of_task(Hostile()) == "<div><b>Hostile</b></div>"  # type: ignore[arg-type]  # no task is what is tested

    class Kind(ValueError):
        def __repr__(self) -> str:
            raise RuntimeError

    engine = Engine().options(retry=Retry(on=(Kind,)))
    assert "not started" in shown(engine)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # with threads: it is what is tested
def test_a_forked_child_says_whose_the_engine_is() -> None:
    with Engine(processes=1) as engine:
        engine.run(abs, -1)
        task: Task[Any] = engine.submit(abs, -2)
        assert "running" in shown(engine)  # nothing is imported in the child
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                said = f"{shown(engine)}|{shown(engine.options(timeout=1))}|{shown(task)}"
            except BaseException as error:  # nothing may leave this child
                said = repr(error)
            os.write(write, said.encode())
            os._exit(0)
        os.close(write)
        with open(read, encoding="utf-8") as file:
            said = file.read()
        os.waitpid(pid, 0)
    blocking, view, of_task = said.split("|")
    assert "forked from" in blocking
    assert "forked from" in view
    assert of_task.startswith("Task")
