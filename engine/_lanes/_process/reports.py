"""What workers say on the control socket, passed on: prints and log records."""

import logging
import sys
from typing import Any

from ..._wire.frames import LOG, PRINT

__all__ = ["forward_print", "forward_report", "read_fields"]


def forward_report(kind: int, task_id: int, body: bytes, worker: str, is_tagged: bool) -> None:
    """Pass on a PRINT or LOG of ``worker``; a broken one is dropped."""
    if kind == PRINT:
        tag = f"[{worker} task {task_id}] " if task_id else f"[{worker}] "
        forward_print(body[0], body[1:].decode("utf-8", "replace"), tag if is_tagged else "")
    elif kind == LOG:
        fields = read_fields(body)
        if isinstance(fields, dict):
            _log(fields, task_id or None, worker)


def read_fields(body: bytes) -> Any:
    """Return what a worker sent as JSON; None if it is broken, or was cut."""
    import json  # here: it takes two milliseconds, and most workers log nothing

    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


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
