"""Starts workers over loky; when to start and when to give up is the native lane's."""

from typing import Any

from ..._mailbox import Mailbox
from .._process.starter import Starter
from .._process.worker import Worker
from .worker import LokyWorker

__all__ = ["LokyStarter"]


class LokyStarter(Starter):
    """Home loop only; what blocks is left to each worker's keeper."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._home = Mailbox(self._loop)

    def _new_worker(self) -> Worker:
        setup, env = self._prepare()
        return LokyWorker(self._next_name(), setup, env, self._home, self._claim_lock)
