"""What every durable queue in a file is asked to do: each commit is on the disk before it is answered."""

from stress._peers.contract import Cannot, Peer

__all__ = ["QueuePeer"]


class QueuePeer(Peer):
    """A queue of no-ops in one file. ``open`` comes first and ``shut`` last."""

    async def open(self, path: str) -> None:
        """Open the queue in ``path``, which is made."""
        raise NotImplementedError

    async def shut(self) -> None:
        """Let go of the file."""
        raise NotImplementedError

    async def enqueue(self, jobs: int, callers: int) -> None:
        """Enqueue ``jobs`` no-ops; each of ``callers`` waits for the commit of one before it asks for the next."""
        raise NotImplementedError

    async def enqueue_many(self, jobs: int) -> None:
        """Enqueue ``jobs`` no-ops at once."""
        raise Cannot("enqueues one by one")

    async def work(self, jobs: int) -> None:
        """Run what is in the queue until ``jobs`` have ended and that is recorded."""
        raise NotImplementedError
