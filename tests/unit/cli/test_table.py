"""Tables that fit a terminal, whatever is in them."""

import hypothesis.strategies as st
from hypothesis import given

from engine.cli.table import Column, cells, fitted, table_lines

COLUMNS = (Column("id", is_number=True), Column("name", least=6, keeps_end=True), Column("what", least=6))


def test_a_table_is_as_wide_as_what_is_in_it() -> None:
    assert list(table_lines(COLUMNS, [["7", "app.send", "done"], ["1,000", "a", ""]], 80)) == [
        "   id  name      what",
        "    7  app.send  done",
        "1,000  a",
    ]


def test_a_column_that_holds_nothing_is_left_out() -> None:
    assert list(table_lines(COLUMNS, [["7", "app.send", ""]], 80)) == ["id  name", " 7  app.send"]


def test_where_there_is_no_room_texts_are_cut_and_numbers_are_not() -> None:
    lines = list(table_lines(COLUMNS, [["123,456", "package.module.function", "it went wrong somehow"]], 30))
    assert lines == ["     id  name       what", "123,456  ...nction  it went..."]


def test_wide_characters_take_two_columns_and_accents_none() -> None:
    assert (cells("名前"), cells("e\u0301"), fitted("名前です", 6), fitted("名前です", 6, keeps_end=True)) == (
        4, 1, "名...", "...す",
    )  # fmt: skip


@given(st.lists(st.tuples(st.text(), st.text(), st.text()), max_size=5), st.integers(1, 100))
def test_no_line_is_wider_than_the_terminal_nor_moves_its_cursor(rows: list[tuple[str, str, str]], width: int) -> None:
    """E135: whatever text is in a table, a line of it is a line."""
    lines = list(table_lines(COLUMNS, rows, width))
    assert len(lines) == len(rows) + 1
    assert all(cells(line) <= width and line.isprintable() for line in lines)
