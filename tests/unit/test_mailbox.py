"""Calls posted to a loop from any thread: in order, once, waking it once per burst."""

import asyncio
import contextvars
import logging
import threading
from typing import Any

import pytest

from engine._mailbox import Mailbox

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")


def in_thread(fn: Any) -> None:
    """Run ``fn`` in a thread to its end."""
    thread = threading.Thread(target=fn)
    thread.start()
    thread.join()


async def test_calls_of_one_thread_run_in_the_order_posted() -> None:
    mailbox = Mailbox(asyncio.get_running_loop())
    seen: list[int] = []
    in_thread(lambda: [mailbox.post(seen.append, n) for n in range(100)])
    assert seen == []
    await asyncio.sleep(0)
    assert seen == list(range(100))


async def test_a_burst_wakes_the_loop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    wakes = []
    mailbox = Mailbox(loop)
    original = loop.call_soon_threadsafe

    def counted(*args: Any, **kwargs: Any) -> asyncio.Handle:
        wakes.append(1)
        return original(*args, **kwargs)

    monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
    seen: list[int] = []
    in_thread(lambda: [mailbox.post(seen.append, n) for n in range(1000)])
    await asyncio.sleep(0)
    assert len(seen) == 1000
    assert len(wakes) == 1


async def test_no_call_of_many_threads_is_lost() -> None:
    mailbox = Mailbox(asyncio.get_running_loop())
    threads, each = 8, 500
    seen: list[tuple[int, int]] = []
    full = asyncio.Event()
    barrier = threading.Barrier(threads)

    def arrived(number: int, n: int) -> None:
        seen.append((number, n))
        if len(seen) == threads * each:
            full.set()

    def post(number: int) -> None:
        barrier.wait()
        for n in range(each):
            mailbox.post(arrived, number, n)

    started = [threading.Thread(target=post, args=(number,)) for number in range(threads)]
    for thread in started:
        thread.start()
    await full.wait()
    for thread in started:
        thread.join()
    for number in range(threads):
        assert [n for who, n in seen if who == number] == list(range(each))


async def test_a_call_posted_from_a_call_runs_too() -> None:
    mailbox = Mailbox(asyncio.get_running_loop())
    done = asyncio.Event()
    mailbox.post(lambda: mailbox.post(done.set))
    await done.wait()


async def test_a_call_that_raises_is_reported_and_the_rest_of_the_burst_runs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    mailbox = Mailbox(asyncio.get_running_loop())
    seen: list[str] = []

    def broken() -> None:
        raise RuntimeError("broken on purpose")

    mailbox.post(broken)
    mailbox.post(seen.append, "after")
    with caplog.at_level(logging.ERROR, "asyncio"):
        await asyncio.sleep(0)
    assert seen == ["after"]
    assert "broken on purpose" in caplog.text


async def test_a_call_runs_in_the_context_it_was_posted_with_and_otherwise_in_an_empty_one() -> None:
    mailbox = Mailbox(asyncio.get_running_loop())
    variable.set("mine")
    seen: list[str] = []

    def look() -> None:
        seen.append(variable.get())

    mailbox.post(look, context=contextvars.copy_context())
    mailbox.post(look)
    for _ in range(2):  # one turn for the burst, one for the call with a context
        await asyncio.sleep(0)
    assert sorted(seen) == ["mine", "none"]


async def test_a_mailbox_knows_whether_its_loop_runs_here() -> None:
    mailbox = Mailbox(asyncio.get_running_loop())
    answers = [mailbox.is_here()]
    in_thread(lambda: answers.append(mailbox.is_here()))
    assert answers == [True, False]


def test_a_closed_loop_takes_no_calls_and_says_so() -> None:
    """Row A1: no "Event loop is closed" trace, whoever posts."""
    loop = asyncio.new_event_loop()
    mailbox = Mailbox(loop)
    loop.close()
    seen: list[int] = []
    assert not mailbox.post(seen.append, 1)
    assert not mailbox.post(seen.append, 2)
    assert seen == []


def test_a_post_that_was_never_drained_does_not_hide_that_the_loop_is_closed() -> None:
    loop = asyncio.new_event_loop()
    mailbox = Mailbox(loop)
    assert mailbox.post(print, "never")
    loop.close()
    assert not mailbox.post(print, "never")
