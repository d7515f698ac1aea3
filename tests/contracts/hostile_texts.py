"""Ten thousand texts that mean something to SQL, to JSON, to a terminal or to whoever compares texts."""

import random

__all__ = ["HOSTILE_TEXTS"]

_PIECES = (
    "'", '"', "`", ";", "--", "/*", "*/", "%", "_", "\\", "\\'", ")", "(", "?", "?1", ":a", "@a", "$a", "[", "]", "{",
    "' OR 1=1 --", "'; DROP TABLE jobs; --", "x' UNION SELECT sql FROM sqlite_schema --", "NULL", "null", "0", "1e9",
    "pending", "running", "jobs", "ready", " ", "  ", "\t", "\n", "\r\n", "\x1b[31m", "\x7f", "é", "e\u0301", "ß", "İ",
    "\u202e", "\u200b", "\ufeff", "\U0001f600", "\U0010ffff", "a", "A", "$.a", "\"a\"", "\\u0061", "x" * 3000,
)  # fmt: skip
_COUNT = 10_000


def _texts() -> list[str]:
    chooser = random.Random(20260)
    texts = {"".join(chooser.choices(_PIECES, k=chooser.randint(1, 5))) for _ in range(2 * _COUNT)}
    return sorted(texts)[:_COUNT]


HOSTILE_TEXTS = _texts()
