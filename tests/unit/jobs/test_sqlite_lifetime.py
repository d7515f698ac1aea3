"""The stores of a process during its forks."""

import threading
from collections.abc import Callable
from typing import Any, cast

from engine.jobs._sqlite import lifetime

PATIENCE = 20.0


class Witness:
    """Stands for a store among those that a fork waits for; says which thread goes on with it, and when."""

    def __init__(self) -> None:
        self.gone_on: list[str] = []
        self.when_first: Callable[[], object] = lambda: None

    def _before_fork(self, seconds: float) -> Callable[[], None]:
        name = threading.current_thread().name

        def go_on() -> None:
            self.gone_on.append(name)
            if len(self.gone_on) == 1:
                self.when_first()

        return go_on

    def close(self) -> None: ...


def test_a_thread_that_forks_lets_only_its_own_stores_go_on() -> None:
    """E182: another begins its fork as soon as the first store's lock is free, and before the first fork is over."""
    store = Witness()
    lifetime.remember(cast(Any, store))
    is_ready, may_end = threading.Event(), threading.Event()

    def fork() -> None:
        lifetime._before_fork()
        is_ready.set()
        may_end.wait(PATIENCE)
        lifetime._after_fork_in_parent()

    other = threading.Thread(target=fork, name="other")

    def begin_other() -> None:
        other.start()
        assert is_ready.wait(PATIENCE)

    store.when_first = begin_other
    lifetime._before_fork()
    lifetime._after_fork_in_parent()
    before_its_end = list(store.gone_on)
    may_end.set()
    other.join(PATIENCE)
    assert before_its_end == [threading.current_thread().name]
    assert store.gone_on == [threading.current_thread().name, "other"]
