"""A store: a book, whoever holds it, and its clock. ``SQLiteStore`` and ``MemoryStore`` keep this contract."""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from ._book import Book
from ._moment import Moment
from ._records import NewHolder
from ._reply import Reply

__all__ = ["Store"]

T = TypeVar("T")


class Store(Protocol):
    """Where jobs are kept. Every method may be called from any thread, with or without a running loop.

    ``write`` and ``read`` raise StoreClosed after ``close``, and open the store where nobody has. What they answer
    arrives once it is durable (as durable as the store makes anything).
    """

    @property
    def name(self) -> str:
        """Give what people see: the path of the file, or "memory"."""

    def open(self) -> None:
        """Open the store; the first use does it too. Idempotent.

        Raises:
            StoreError: it cannot be opened; the message says why and what to do.
        """

    def close(self) -> None:
        """Finish what was asked, let go of everything. Idempotent. Waits; afterwards ``write`` and ``read`` raise."""

    def now(self) -> Moment:
        """Read the store's clocks."""

    def write(self, operation: Callable[[Book, Moment], T], *, keep: bool = False) -> Reply[T]:
        """Have ``operation`` done on the book, in the order of the calls of one thread.

        It runs on a thread of the store's, perhaps more than once (a transaction that was rolled back), and only its
        last run counts; so it does nothing but call the book. With ``keep`` it is tried again for as long as the
        store is full.

        Raises:
            StoreFull: too many operations wait already (in the reply: there is no room on the disk).
        """

    def read(self, operation: Callable[[Book, Moment], T]) -> Reply[T]:
        """Have ``operation``, which changes nothing, done on the book as it is after all writes that were answered."""

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have ``listener()`` called, on any thread, soon after anybody changed anything; return how to stop it.

        Called once for many changes. It must not wait, and not raise.
        """

    def hold(self, holder: NewHolder, on_lost: Callable[[], None]) -> Reply[int]:
        """Add a holder and keep its lease until ``let_go``; when it is lost ``on_lost()`` is called, on any thread.

        While anyone holds, the store also rescues (``on_rescue`` of its constructor hears of it).
        """

    def let_go(self, holder: int) -> Reply[int]:
        """Stop renewing, and give back what the holder has; return how many jobs that were."""

    def forsake(self, holder: int) -> None:
        """Renew the holder's lease no more, and tell it of no loss: what it has is rescued when the lease is over."""

    def connect(self) -> Any:
        """Open a connection of the caller's own to the same database, for ``options(connection=...)``.

        Raises:
            StoreError: this store has no such thing.
        """

    def write_in(self, connection: Any, operation: Callable[[Book, Moment], T]) -> T:
        """Do ``operation`` on the caller's thread, inside the transaction that is open on ``connection``.

        Raises:
            ValueError: ``connection`` is not from ``connect`` of this store, or has no open transaction.
        """

    def query(self, sql: str, parameters: Any = ()) -> Reply[list[dict[str, Any]]]:
        """Run one read-only statement; return its rows by the names of the columns.

        Raises:
            StoreError: this store has no such thing (in the reply: the statement is wrong, or writes).
        """
