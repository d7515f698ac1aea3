"""When to stop starting workers, and when to try again; time is an argument."""

__all__ = ["Breaker"]

MAX_FAILURES = 3  #: tries that fail in a row before waiting tasks are failed
PAUSE_SECONDS = 0.1  #: no start so long after the first failure; doubled by each further one
PAUSE_MOST = 5.0  #: the longest pause: so long a task may wait for the next try


class Breaker:
    """Counts tries that failed in a row, and spaces the next ones; see design/0007.

    Workers that start at the same time are one try: ``round`` is stamped on each, and the first failure of a round ends
    it. After a failure one worker starts at a time, until one is ready.
    """

    def __init__(self) -> None:
        self.failures = 0  #: in a row
        self.round = 0  #: the number of the current try
        self._not_before = 0.0

    @property
    def is_open(self) -> bool:
        """Say whether so many tries failed that what waits should hear of it."""
        return self.failures >= MAX_FAILURES

    def pause(self, now: float) -> float:
        """Return the seconds until the next try; 0 for none."""
        return max(0.0, self._not_before - now)

    def may_start(self, now: float, starting: int) -> bool:
        """Say whether one more worker may be started while ``starting`` others are on their way."""
        return not self.failures or (not starting and now >= self._not_before)

    def record_failure(self, now: float, of_round: int, before: int = 0) -> bool:
        """Note a failed start of ``of_round``; True if it is the first one of its round.

        ``before`` counts the failures before a start that only seemed to succeed.
        """
        if of_round != self.round:
            return False
        self.round += 1
        self.failures = max(self.failures, before) + 1
        pause: float = min(PAUSE_MOST, PAUSE_SECONDS * 2 ** min(self.failures - 1, 30))
        self._not_before = now + pause
        return True

    def record_success(self, of_round: int) -> None:
        """Note that a worker is ready: others may start at will, if it was started after the last failure.

        Else it says nothing: descriptors and processes may have run out with it.
        """
        if of_round != self.round:
            return
        self.failures = 0
        self._not_before = 0.0

    def resume(self) -> None:
        """End the pause."""
        self._not_before = 0.0
