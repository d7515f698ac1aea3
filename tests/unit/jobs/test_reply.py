"""The answer of a store: for threads and for loops, whenever it comes and whoever asks."""

import asyncio
import gc
import math
import signal
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest

from engine.jobs._reply import Reply, wake
from tests.support import eventually

T = TypeVar("T")

PATIENCE = 20.0


def settle(reply: Reply[Any], value: object, error: BaseException | None = None) -> None:
    """Do what a store does when the answer is there."""
    wake(reply.settle(value, error))


async def awaited(reply: Reply[int]) -> int:
    """Wait as a coroutine does."""
    return await asyncio.wait_for(_wait(reply), PATIENCE)


async def _wait(reply: Reply[T]) -> T:
    try:
        return await reply
    finally:
        del reply


def waits(reply: Reply[Any], number: int = 1) -> None:
    """Return when so many wait for ``reply``."""
    eventually(lambda: len(reply._waiters) == number, PATIENCE, "somebody to wait")


# -- threads ----------------------------------------------------------------------------------------------------------


def test_an_answer_that_is_there_is_given_at_once_and_each_time() -> None:
    reply = Reply.of([1])
    assert reply.done()
    assert reply.result(0) is reply.result() == [1]
    assert Reply.of(None).result() is None


def test_a_thread_waits_for_the_answer() -> None:
    reply: Reply[int] = Reply()
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(reply.result, PATIENCE) for _ in range(2)] + [pool.submit(reply.result)]
        waits(reply, 3)
        assert not reply.done()
        settle(reply, 7)
        assert [each.result(PATIENCE) for each in waiting] == [7, 7, 7]


def test_an_answer_that_is_late_can_be_asked_for_again() -> None:
    reply: Reply[int] = Reply()
    for timeout in (0, 0.01):
        with pytest.raises(TimeoutError, match="goes on"):
            reply.result(timeout)
    settle(reply, 7)
    assert reply.result(0) == 7


@pytest.mark.parametrize("timeout", [-1, math.nan, math.inf, True, "1", 1e18])
def test_what_is_no_timeout_is_refused(timeout: Any) -> None:
    """T5: also where the answer is there."""
    for reply in (Reply[int](), Reply.of(1), Reply.of(1).within(5)):
        with pytest.raises(ValueError, match="expected timeout to be a finite number of seconds"):
            reply.result(timeout)
        with pytest.raises(ValueError, match="expected timeout to be a finite number of seconds"):
            reply.within(timeout)


def test_an_error_is_raised_to_everyone_who_asks() -> None:
    reply: Reply[int] = Reply()
    error = LookupError("gone")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(reply.result)
        waits(reply)
        settle(reply, None, error)
        assert waiting.exception(PATIENCE) is error
    for _ in range(2):
        with pytest.raises(LookupError, match="gone") as raised:
            reply.result()
        assert raised.value is error


def raises_on_a_thread(reply: Reply[int]) -> None:
    """Ask with result(), from a frame that does not keep the reply either."""
    only = [reply]
    del reply
    with pytest.raises(LookupError):
        only.pop().result()


def raises_on_a_loop(reply: Reply[int]) -> None:
    """Ask as a coroutine does."""
    coroutine = _wait(reply)
    del reply
    with pytest.raises(LookupError):
        asyncio.run(coroutine)


@pytest.mark.parametrize("ask", [raises_on_a_thread, raises_on_a_loop])
@pytest.mark.parametrize(
    "shape", [lambda reply: reply, lambda reply: reply.convert(int), lambda reply: reply.within(9)]
)
def test_an_error_that_was_raised_is_no_reason_to_keep_its_reply(
    ask: Callable[[Reply[int]], None], shape: Callable[[Reply[int]], Reply[int]]
) -> None:
    """R3: else each refused enqueue would wait for the collector, with all that its frames hold."""
    reply = shape(Reply.failed(LookupError("gone")))
    alive = weakref.ref(reply)
    gc.disable()
    try:
        ask(reply)
        del reply
        assert alive() is None
    finally:
        gc.enable()


def test_a_ctrl_c_ends_a_wait_and_not_what_was_asked() -> None:
    """N10: the main thread can wait again."""
    reply: Reply[int] = Reply()
    main = threading.get_ident()

    def press() -> None:
        waits(reply)
        signal.pthread_kill(main, signal.SIGINT)

    with ThreadPoolExecutor(1) as pool:
        pressed = pool.submit(press)
        with pytest.raises(KeyboardInterrupt):
            reply.result(PATIENCE)
        pressed.result(PATIENCE)
    settle(reply, 7)
    assert reply.result(PATIENCE) == 7


# -- loops ------------------------------------------------------------------------------------------------------------


def test_coroutines_of_two_loops_wait_for_one_answer() -> None:
    """N15: each is woken on its own loop."""
    reply: Reply[int] = Reply()

    async def both() -> list[int]:
        return list(await asyncio.gather(awaited(reply), awaited(reply)))

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(asyncio.run, both()) for _ in range(2)]
        waits(reply, 4)
        settle(reply, 7)
        assert [each.result(PATIENCE) for each in running] == [[7, 7]] * 2


async def test_a_thread_with_a_running_loop_may_not_wait_in_it() -> None:
    reply: Reply[int] = Reply()
    with pytest.raises(RuntimeError, match="await the reply"):
        reply.result(PATIENCE)
    settle(reply, 7)
    assert reply.result() == 7  # nothing is held up now


async def test_an_error_is_raised_to_a_coroutine() -> None:
    reply: Reply[int] = Reply()
    waiter = asyncio.ensure_future(awaited(reply))
    await asyncio.sleep(0)
    settle(reply, None, LookupError("gone"))
    with pytest.raises(LookupError, match="gone"):
        await waiter
    with pytest.raises(LookupError, match="gone"):
        await Reply.failed(LookupError("gone"))


async def test_a_coroutine_that_waits_no_more_is_no_harm_to_the_others() -> None:
    reply: Reply[int] = Reply()
    first, second = (asyncio.ensure_future(awaited(reply)) for _ in range(2))
    while len(reply._waiters) < 2:
        await asyncio.sleep(0)
    first.cancel()
    waiters = reply.settle(7)
    await asyncio.wait([first])
    wake(waiters)
    assert first.cancelled()
    assert await second == 7


def test_a_loop_that_was_closed_is_no_harm_to_the_others() -> None:
    reply: Reply[int] = Reply()
    loop = asyncio.new_event_loop()
    task = loop.create_task(awaited(reply))
    while not reply._waiters:
        loop.run_until_complete(asyncio.sleep(0))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(reply.result, PATIENCE)
        waits(reply, 2)
        waiters = reply.settle(7)
        task.cancel()
        loop.run_until_complete(asyncio.wait([task]))
        loop.close()
        wake(waiters)
        assert waiting.result(PATIENCE) == 7


async def test_a_loop_is_woken_once_for_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """J14: of a thousand answers that one commit gives, each loop hears once."""
    loop = asyncio.get_running_loop()
    replies: list[Reply[int]] = [Reply() for _ in range(5)]
    tasks = [asyncio.ensure_future(awaited(reply)) for reply in replies]
    while not all(reply._waiters for reply in replies):
        await asyncio.sleep(0)
    calls: list[object] = []

    def call(*args: Any) -> Any:
        calls.append(args)
        return call_soon_threadsafe(*args)

    call_soon_threadsafe = loop.call_soon_threadsafe
    monkeypatch.setattr(loop, "call_soon_threadsafe", call)
    wake([waiter for number, reply in enumerate(replies) for waiter in reply.settle(number)])
    assert await asyncio.gather(*tasks) == [0, 1, 2, 3, 4]
    assert len(calls) == 1


def test_nobody_misses_an_answer_that_comes_as_they_ask() -> None:
    """J14: who comes a moment late is told at once, who came before is woken."""
    with ThreadPoolExecutor(3) as pool:
        for number in range(200):
            reply: Reply[int] = Reply()
            together = threading.Barrier(3)

            def ask(reply: Reply[int] = reply, together: threading.Barrier = together) -> int:
                together.wait(PATIENCE)
                return reply.result(PATIENCE)

            asking = [pool.submit(ask) for _ in range(2)]
            together.wait(PATIENCE)
            settle(reply, number)
            assert [each.result(PATIENCE) for each in asking] == [number, number]


# -- with a limit -----------------------------------------------------------------------------------------------------


async def test_a_limit_is_that_of_each_who_asks() -> None:
    reply: Reply[int] = Reply()
    limited = reply.within(0.01)
    assert reply.within(None) is reply
    for _ in range(2):
        with pytest.raises(TimeoutError, match="goes on"):
            await limited
    assert not limited.done()
    patient = asyncio.ensure_future(_wait(reply.within(PATIENCE)))
    await asyncio.sleep(0)
    settle(reply, 7)
    assert [await patient, await limited, limited.result(), await reply.within(0)] == [7] * 4


def test_of_two_limits_the_shorter_one_holds() -> None:
    reply: Reply[int] = Reply()
    for timeout, limit in ((None, 0.01), (0.01, 1e9), (1e9, 0.01)):
        with pytest.raises(TimeoutError, match=r"0\.01"):
            reply.within(limit).result(timeout)
    settle(reply, 7)
    assert reply.within(0).result() == 7


async def test_an_answer_that_is_a_timeout_error_is_raised_as_it_is() -> None:
    error = TimeoutError("of the store")
    with pytest.raises(TimeoutError, match="of the store"):
        await Reply.failed(error).within(PATIENCE)


async def test_a_coroutine_with_a_limit_can_be_cancelled() -> None:
    reply: Reply[int] = Reply()
    waiter = asyncio.ensure_future(_wait(reply.within(PATIENCE)))
    while not reply._waiters:
        await asyncio.sleep(0)
    waiter.cancel()
    await asyncio.wait([waiter])
    assert waiter.cancelled()
    settle(reply, 7)
    assert await reply.within(PATIENCE) == 7


# -- listeners --------------------------------------------------------------------------------------------------------


def test_who_would_be_told_is_told_once_or_that_it_is_there_already() -> None:
    reply: Reply[int] = Reply()
    told: list[str] = []
    assert reply.convert(str).tell(lambda: told.append("first"))
    assert reply.tell(lambda: told.append(f"second, of {reply.result(0)}"))
    assert told == []
    settle(reply, 7)
    assert told == ["first", "second, of 7"]
    assert not reply.tell(lambda: told.append("late"))
    assert len(told) == 2


# -- what nobody asked for ---------------------------------------------------------------------------------------------


def test_a_failure_that_nobody_asked_for_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """J15: or a job that was not enqueued would be missed by nobody."""
    reply = Reply.failed(LookupError("gone"))
    assert caplog.text == ""
    del reply
    assert "nobody asked how it went: LookupError: gone" in caplog.text


def test_what_somebody_asked_for_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    reply = Reply.failed(LookupError("gone"))
    with pytest.raises(LookupError):
        reply.result()
    converted = Reply.failed(LookupError("gone")).convert(str)
    with pytest.raises(LookupError):
        converted.result()
    answered, never = Reply.of(7), Reply[int]()
    del reply, converted, answered, never
    assert caplog.text == ""


def test_a_failure_in_another_shape_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    converted = Reply.failed(LookupError("gone")).convert(str)
    del converted
    assert caplog.text.count("nobody asked") == 1


# -- in another shape -------------------------------------------------------------------------------------------------


async def test_an_answer_is_given_in_another_shape() -> None:
    reply: Reply[int] = Reply()
    text = reply.convert(str).convert(lambda it: it + "!")
    assert not text.done()
    with pytest.raises(RuntimeError, match="await"):
        text.result()
    waiter = asyncio.ensure_future(_wait(text))
    await asyncio.sleep(0)
    settle(reply, 7)
    assert await waiter == "7!"
    assert text.done()
    assert text.result() == "7!"
    assert reply.result() == 7


def test_what_cannot_be_shaped_fails_who_asks() -> None:
    text = Reply.of(0).convert(lambda number: 1 / number)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            text.result()


def test_a_reply_shows_how_far_it_is() -> None:
    waiting = Reply[int]()
    failed = Reply.failed(LookupError())
    assert [repr(each) for each in (waiting, Reply.of(1), failed)] == [
        "<Reply waiting>",
        "<Reply done>",
        "<Reply failed>",
    ]
    with pytest.raises(LookupError):
        failed.result()


async def test_waits_that_were_given_up_leave_nothing_behind() -> None:
    """E154: a loop and a thread ask one reply again and again, for a moment each."""
    reply: Reply[int] = Reply()
    converted = reply.convert(str)
    for asked in (reply, converted, converted.within(0.001)):
        waiting = asyncio.ensure_future(_answer(asked))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        with pytest.raises(TimeoutError):
            await asyncio.to_thread(asked.result, 0.0)
    assert not reply._waiters
    wake(reply.settle(1))
    assert await converted == "1"


async def _answer(reply: Reply[Any]) -> Any:
    return await reply


# -- what is said -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape", [lambda reply: reply, lambda reply: reply.convert(int), lambda reply: reply.within(9)]
)
def test_a_reply_that_is_taken_for_its_answer_says_what_to_do(shape: Callable[[Reply[int]], Any]) -> None:
    """E162: the newcomer's first error."""
    reply = shape(Reply.of(1))
    with pytest.raises(AttributeError, match=r"asked for 'id', got a Reply that stands for it; await it, or call .res"):
        reply.id  # noqa: B018  # the access is what is tested
    assert not hasattr(reply, "state")


def test_a_wait_that_is_over_says_why_also_where_nobody_can_say() -> None:
    """E162: a text that does not come, or cannot be had, is no reason to wait or to raise another error."""

    def raises(seconds: float) -> Reply[str]:
        raise OSError("the store is closed")

    waits_for_ever: Reply[int] = Reply()
    for late, message in (
        (lambda seconds: Reply.of(f"not in {seconds}"), "^not in 0.01$"),
        (lambda seconds: Reply.failed(OSError("x")), "expected an answer within 0.01 s, got nothing yet; it goes on"),
        (lambda seconds: Reply[str](), "expected an answer within 0.01 s"),
        (raises, "expected an answer within 0.01 s"),
    ):
        with pytest.raises(TimeoutError, match=message):
            waits_for_ever.within(0.01, late).result()
        with pytest.raises(TimeoutError, match=message):
            waits_for_ever.within(None, late).result(0.01)
        with pytest.raises(TimeoutError, match=message):
            asyncio.run(_wait(waits_for_ever.within(0.01, late)))
