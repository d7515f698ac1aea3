"""The start page: what was begun, and when, also while the writer goes on."""

import os
import threading

from engine._wire.page import ALL_ITEMS, ITEM, ITEM_BITS, PAGE_BYTES, StartPage


def make_page() -> StartPage:
    fd = os.memfd_create("test")
    os.ftruncate(fd, PAGE_BYTES)
    page = StartPage(fd)
    os.close(fd)
    return page


def test_a_task_that_has_not_begun_has_no_start() -> None:
    page = make_page()
    assert page.started(1) is None
    page.begin(1, 5.0)
    assert page.started(1) == 5.0
    assert page.started(2) is None
    assert page.last() == 1
    page.close()


def test_the_start_stays_while_the_next_one_is_taken_back() -> None:
    page = make_page()
    assert page.begin(1, 1.0)
    assert page.may_begin(1)
    assert page.begin(2, 2.0)  # the worker says that it begins ...
    page.forbid(4)  # ... and the parent that it may not
    assert not page.may_begin(2)
    assert (page.last(), page.started(1), page.started(2)) == (1, 1.0, None)
    assert not page.begin(3, 3.0)
    assert (page.last(), page.started(1)) == (1, 1.0)
    assert page.begin(5, 5.0)
    assert page.may_begin(5)
    assert (page.last(), page.started(5)) == (5, 5.0)
    page.close()


def test_the_start_of_an_earlier_task_is_not_after_the_next_one() -> None:
    page = make_page()
    for number in range(1, 8):
        page.begin(number, float(number))
    assert page.started(6) == 6.0
    assert page.started(3) == 6.0
    page.close()


def test_a_reader_never_sees_another_tasks_instant_while_the_writer_runs() -> None:
    page = make_page()
    is_over = threading.Event()

    def write() -> None:
        for number in range(3, 600_000, 3):  # numbers need not follow each other: some are taken back
            page.begin(number, float(number))
        is_over.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not is_over.is_set():
        number = page.last()
        at = page.started(number)
        assert number == 0 or (at is not None and at >= number)
    writer.join()
    page.close()


def test_the_items_of_a_chunk_have_all_begun_when_those_of_a_later_one_do() -> None:
    page = make_page()
    assert page.items_begun(5) == 0
    page.numbers[ITEM] = 5 << ITEM_BITS | 3
    assert [page.items_begun(number) for number in (4, 5, 6)] == [ALL_ITEMS, 3, 0]
    page.numbers[ITEM] = 7 << ITEM_BITS | 1
    assert page.items_begun(5) == ALL_ITEMS
    page.close()
