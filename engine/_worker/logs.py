"""Log records and warnings of a worker, handed to the parent's logging."""

import logging
from typing import Any

from .voice import Voice

__all__ = ["ParentHandler", "install"]

_FIELDS = ("name", "levelno", "levelname", "pathname", "lineno", "funcName", "created", "threadName", "process")


class ParentHandler(logging.Handler):
    """Sends each record to the parent, which handles it as if it had been logged there."""

    def __init__(self, voice: Voice) -> None:
        super().__init__()
        self._voice = voice

    def emit(self, record: logging.LogRecord) -> None:
        """Send ``record`` with its message and traceback as texts."""
        try:
            fields: dict[str, Any] = {key: getattr(record, key) for key in _FIELDS}
            fields["msg"] = record.getMessage()
            if record.exc_info and not record.exc_text:
                record.exc_text = logging.Formatter().formatException(record.exc_info)
            fields["exc_text"] = record.exc_text
            fields["stack_info"] = record.stack_info
            self._voice.log(fields)
        except Exception:  # as every handler of logging: a bad record must not fail the task
            self.handleError(record)


def install(voice: Voice, levels: dict[str, int]) -> None:
    """Send all records to the parent, and set the levels that its loggers have, so that little travels in vain."""
    logging.captureWarnings(True)
    logging.root.addHandler(ParentHandler(voice))
    for name, level in levels.items():
        logging.getLogger(name or None).setLevel(level)
