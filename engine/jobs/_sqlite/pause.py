"""A fork comes: a thread closes its connection, and opens it again afterwards."""

from ..._latch import Latch

__all__ = ["Pause"]


class Pause:
    """One pause of one thread."""

    def __init__(self) -> None:
        self.reached = Latch()  #: set by the thread when it has closed its connection
        self.over = Latch()  #: set by whoever asked
