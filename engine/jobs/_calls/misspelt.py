"""What somebody may have meant by a name that there is not."""

import difflib
from collections.abc import Iterable

__all__ = ["meant"]


def meant(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean ...?" where a name of ``known`` is like ``name``, else nothing."""
    found = difflib.get_close_matches(name[:100], list(known), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""
