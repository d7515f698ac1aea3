"""What workers say on the control socket, passed on: prints, log records, progress."""

import json
import logging
import sys
from typing import Any

from ..._records import Progress
from ..._wire.frames import LOG, PRINT, PROGRESS
from ..base import Attempt

__all__ = ["forward_print", "forward_report"]


def forward_report(kind: int, task_id: int, body: bytes, attempt: Attempt | None, worker: str) -> None:
    """Pass on one message; a broken one is dropped: the worker may have been killed while it wrote."""
    if kind == PRINT:
        forward_print(body[0], body[1:].decode("utf-8", "replace"), f"[{worker} task {task_id}] " if task_id else f"[{worker}] ")
        return
    try:
        fields = json.loads(body)
    except ValueError:
        return
    if kind == LOG:
        _log(fields, task_id or None, worker)
    elif kind == PROGRESS and attempt is not None:
        attempt.progress = Progress(*fields)


def forward_print(stream: int, text: str, tag: str) -> None:
    """Write ``text`` with ``tag`` before each line, to stdout (1) or stderr (2)."""
    out: Any = sys.stdout if stream == 1 else sys.stderr
    if out is None:
        return
    try:
        out.write("".join([f"{tag}{line}\n" for line in text.splitlines()]))
        out.flush()
    except (OSError, ValueError):  # closed, or full; the worker's words are not worth an error here
        pass


def _log(fields: dict[str, Any], task_id: int | None, worker: str) -> None:
    logger = logging.getLogger(fields.get("name"))
    level = fields.get("levelno", logging.INFO)
    if not logger.isEnabledFor(level):
        return
    record = logging.makeLogRecord({**fields, "levelno": level, "task_id": task_id, "worker": worker, "args": None})
    logger.handle(record)
