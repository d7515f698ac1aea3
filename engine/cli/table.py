"""Tables that fit a terminal, whatever is in them."""

import os
import shutil
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .units import plain

__all__ = ["Column", "cells", "fitted", "output_width", "table_lines"]

_GAP = 2  #: blanks between two columns
_DOTS = "..."
_PIPED_WIDTH = 10_000  #: where nobody says how wide it is, nothing is cut that a reader may look for


@dataclass(frozen=True, slots=True)
class Column:
    """One column, as wide as its widest text where there is room."""

    title: str
    is_number: bool = False  #: to the right, and never cut
    least: int = 8  #: what is left of it where there is little room
    keeps_end: bool = False  #: what is cut off is its beginning: of dotted names and paths the end says most


def output_width() -> int:
    """Return how wide a line of output may be: as the terminal, or ``COLUMNS``; a pipe or a file takes any."""
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    return shutil.get_terminal_size().columns if is_terminal or "COLUMNS" in os.environ else _PIPED_WIDTH


def table_lines(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    """Yield a line of titles and one for each row, none wider than ``width``; a column that holds nothing is left out.

    Texts are made printable here. Where ``width`` is less than all columns need at least, lines are cut.
    """
    shown = [[plain(text) for text in row] for row in rows]
    kept = [index for index in range(len(columns)) if any(row[index] for row in shown)]
    columns = [columns[index] for index in kept]
    shown = [[column.title for column in columns], *([row[index] for index in kept] for row in shown)]
    widths = _widths(columns, shown, width)
    for row in shown:
        parts = [_set(text, column, room) for text, column, room in zip(row, columns, widths, strict=True)]
        yield fitted((" " * _GAP).join(parts).rstrip(), width)


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """Return how wide each column is: its widest text; where that is too much, the widest give way first."""
    widths = [max(cells(row[index]) for row in rows) for index in range(len(columns))]
    least = [
        have if column.is_number else min(have, max(column.least, cells(column.title)))
        for have, column in zip(widths, columns, strict=True)
    ]
    excess = sum(widths) + _GAP * (len(columns) - 1) - width
    while excess > 0:
        index = max(range(len(columns)), key=lambda each: (widths[each] - least[each], widths[each]), default=None)
        if index is None or widths[index] == least[index]:
            break
        taken = min(excess, max((widths[index] - least[index]) // 2, 1))
        widths[index] -= taken
        excess -= taken
    return widths


def _set(text: str, column: Column, room: int) -> str:
    text = fitted(text, room, keeps_end=column.keeps_end)
    padding = " " * (room - cells(text))
    return padding + text if column.is_number else text + padding


def cells(text: str) -> int:
    """Return how many columns of a terminal ``text`` takes, which is printable."""
    if text.isascii():
        return len(text)
    return sum(map(_cells_of, text))


def _cells_of(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def fitted(text: str, room: int, *, keeps_end: bool = False) -> str:
    """Return ``text`` in at most ``room`` columns of a terminal, dots in the place of what is cut off."""
    if cells(text) <= room:
        return text
    if room <= len(_DOTS):
        return _DOTS[:room]
    kept, left = [], room - len(_DOTS)
    for character in reversed(text) if keeps_end else text:
        left -= _cells_of(character)
        if left < 0:
            break
        kept.append(character)
    return _DOTS + "".join(reversed(kept)) if keeps_end else "".join(kept) + _DOTS
