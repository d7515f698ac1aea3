"""What a fork waits for, and for how long."""

import threading

import pytest

from engine import _forks

STUCK = 30.0


def test_a_fork_waits_for_what_another_thread_does_whole() -> None:
    inside, may_end, forked = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        with _forks.whole():
            inside.set()
            may_end.wait(STUCK)
            assert not forked.is_set()

    def fork() -> None:
        _forks._before_fork()
        forked.set()
        _forks._after_fork_in_parent()

    threads = [threading.Thread(target=work), threading.Thread(target=fork)]
    threads[0].start()
    assert inside.wait(STUCK)
    threads[1].start()
    may_end.set()
    for thread in threads:
        thread.join(STUCK)
    assert forked.is_set()


def test_a_fork_gives_up_waiting_for_a_thread_that_may_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_forks, "PATIENCE", 0.01)
    inside, may_end = threading.Event(), threading.Event()

    def work() -> None:
        with _forks.whole():
            inside.set()
            may_end.wait(STUCK)

    thread = threading.Thread(target=work)
    thread.start()
    assert inside.wait(STUCK)
    _forks._before_fork()
    _forks._after_fork_in_parent()  # what it does not have it does not give back
    with _forks.whole():
        assert not may_end.is_set()
    may_end.set()
    thread.join(STUCK)
    with _forks.whole():  # nor does it keep it
        pass
