"""What a notebook shows of an engine, a task and a snapshot: short HTML that stands by itself.

Guarantees
    No script, no style sheet, nothing from elsewhere. Every text is escaped: names and errors are user data. Text has
    the colour of the page, light or dark. Nothing here waits, and nothing raises: what cannot be shown (user code in a
    repr) is its class's name. Callers: any thread. Imported when something is shown.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable
from html import escape
from typing import TYPE_CHECKING, Any

from ._records import one_line
from ._snapshot import take_snapshot
from .errors import EngineClosed, EngineForked

if TYPE_CHECKING:
    from ._blocking_calls import BlockingCalls
    from ._records import TaskInfo
    from ._snapshot import Snapshot
    from ._submit import Submitter
    from ._task import Task

__all__ = ["html_of_engine", "html_of_snapshot", "html_of_task"]

_MOST_WORKERS = 12  #: that are shown
_COLOURS = {
    "running": "#2f80ed", "busy": "#2f80ed", "completed": "#27a05a", "idle": "#27a05a", "failed": "#d9463e",
    "abandoned": "#d9463e", "cancelled": "#d08a1d", "draining": "#d08a1d", "stopped": "#d08a1d",
}  # fmt: skip
_LINE = "border-bottom:1px solid rgba(128,128,128,.35)"
#: Of a Snapshot, what is shown where it is not zero.
_COUNTS = (
    "queue_depth", "retries", "timeouts", "crashes", "abandoned", "late", "given_back", "recycled", "memory_exceeded",
    "malformed", "start_failures", "stalls", "decode_timeouts", "decode_refusals", "stuck_decoders", "shared",
)  # fmt: skip


def html_of_engine(engine: Submitter | BlockingCalls, inner: Submitter) -> str:
    """Show what ``engine`` is, with the options of a view, and what it does now if it has started."""

    def build() -> str:
        title = repr(engine)[1:-1]
        try:
            return _title(title) + _body_of(take_snapshot(inner._core))
        except EngineForked:
            return _title(title, "the engine of the process that this one was forked from")
        except EngineClosed:
            return _title(title)

    return _safely(engine, build)


def html_of_snapshot(snapshot: Snapshot) -> str:
    """Show the counts of each lane, the workers, and what else is not zero."""
    return _safely(snapshot, lambda: _title("Snapshot", f"engine {snapshot.phase}") + _body_of(snapshot))


def html_of_task(task: Task[Any]) -> str:
    """Show what ``task`` is, how far it is, and how it failed."""
    return _safely(task, lambda: _of_info(task.info()))


def _of_info(info: TaskInfo) -> str:
    rows: list[tuple[str, object]] = [("lane", info.lane.value), ("submitted", _clock_of(info.created_at))]
    if info.started_at is not None:
        rows.append(("waited", _seconds(info.started_at - info.created_at)))
        if info.completed_at is not None:
            rows.append(("took", _seconds(info.completed_at - info.started_at)))
    if info.worker is not None:
        rows.append(("worker", info.worker))
    if info.attempt > 1:
        rows.append(("attempts", info.attempt))
    if info.progress is not None:
        of = "" if info.progress.total is None else f" of {info.progress.total}"
        rows.append(("progress", one_line(f"{info.progress.done}{of} {info.progress.message}", 200)))
    if info.error is not None:
        rows.append(("error", info.error))
    elif info.last_error is not None:
        rows.append(("last error", info.last_error))
    return _title(f"Task {info.id}", info.name) + _table(
        [], [("state", _Dotted(info.state.value)), *rows], is_text=True
    )


def _body_of(snapshot: Snapshot) -> str:
    states = ("pending", "running", "completed", "failed", "cancelled", "slots")
    lanes = [(lane.value, *[getattr(part, name) for name in states]) for lane, part in snapshot.lanes.items()]
    text = _table(["lane", *states], lanes)
    if snapshot.workers:
        rows = [
            (each.name, _Dotted(each.state), "" if each.task_id is None else f"{each.task_id} {each.task_name}",
             each.tasks_done, _megabytes(each.rss_bytes), _seconds(each.cpu_seconds))
            for each in snapshot.workers[:_MOST_WORKERS]
        ]  # fmt: skip
        text += _table(["worker", "state", "task", "done", "memory", "cpu"], rows)
    told = [f"{name.replace('_', ' ')} {count}" for name in _COUNTS if (count := getattr(snapshot, name))]
    if len(snapshot.workers) > _MOST_WORKERS:
        told.insert(0, f"{len(snapshot.workers) - _MOST_WORKERS} more workers")
    if snapshot.last_start_error is not None:
        told.append(f"the last start failed: {one_line(snapshot.last_start_error, 300)}")
    return text + (f"<div>{escape(', '.join(told))}</div>" if told else "")


# -- parts ------------------------------------------------------------------------------------------------------------


class _Dotted(str):
    """A state, shown with a dot of its colour."""

    __slots__ = ()


def _title(title: str, more: str = "") -> str:
    return f"<div><b>{escape(one_line(title, 300))}</b> {escape(one_line(more, 300))}</div>"


def _table(head: list[str], rows: Iterable[tuple[object, ...]], *, is_text: bool = False) -> str:
    lines = ["".join(_cell("th", text, is_text or not number) for number, text in enumerate(head))] if head else []
    lines += ["".join(_cell("td", each, is_text or type(each) is not int) for each in row) for row in rows]
    return f'<table style="margin:.3em 0;{_LINE}"><tr>{"</tr><tr>".join(lines)}</tr></table>'


def _cell(kind: str, value: object, is_text: bool) -> str:
    dot = ""
    if type(value) is _Dotted and value in _COLOURS:
        dot = f'<span style="color:{_COLOURS[value]}">&#9679;</span> '
    style = f"text-align:{'left' if is_text else 'right'};padding:.1em .7em .1em 0"
    return f'<{kind} style="{style}">{dot}{escape(one_line(str(value), 300))}</{kind}>'


def _clock_of(seconds: float) -> str:
    return f"{datetime.datetime.fromtimestamp(seconds):%H:%M:%S}"


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.3g} s" if seconds < 100 else f"{seconds:,.0f} s"


def _megabytes(size: int | None) -> str:
    return "" if size is None else f"{size / 1e6:,.0f} MB"


def _safely(shown: object, build: Callable[[], str]) -> str:
    try:
        return f"<div>{build()}</div>"
    except Exception:  # user code in a repr, or a process that is another one by now
        return f"<div><b>{escape(type(shown).__name__)}</b></div>"
