"""Starts workers over loky; when to start and when to give up is the native lane's."""

from multiprocessing import current_process
from typing import Any

from ..._mailbox import Mailbox
from .._process.starter import NotAllowed, Starter
from .._process.worker import Worker
from .worker import LokyWorker

__all__ = ["LokyStarter"]


class LokyStarter(Starter):
    """Home loop only; what blocks is left to each worker's keeper."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._home = Mailbox(self._loop)

    def _new_worker(self) -> Worker:
        if current_process().daemon:
            raise NotAllowed(
                f"expected a process that multiprocessing lets have children, got {current_process().name}, which is"
                ' daemonic; start it with daemon=False, or use process_backend="native"'
            )
        setup, env = self._prepare()
        return LokyWorker(self._next_name(), setup, env, self._home, self._claim_lock)
