"""How often something may be done."""

from __future__ import annotations

from random import uniform
from typing import Final

__all__ = ("Backoff", "TokenBucket")

# Seconds from a failure to the next attempt: 1, 2, 4 and so on up to this. Up to a quarter less, so that a fleet does not retry
# at once.
MAX_BACKOFF: Final = 30.0
_JITTER: Final = 0.75
# Two to this power is more than the longest delay.
_MAX_DOUBLINGS: Final = 10


class TokenBucket:
    """Allows a burst, and then one more at regular intervals."""

    def __init__(self, capacity: int, interval: float) -> None:
        """Start with a full bucket.

        Args:
            capacity: How many tokens it holds.
            interval: Seconds after which it has one more.
        """
        self._capacity, self._interval = capacity, interval
        """The arguments. Nobody changes them."""
        self._full_at = 0.0
        """When it will be full again, if nobody takes anything. :meth:`take` and :meth:`give_back` change it."""

    def take(self, now: float) -> bool:
        """Take a token.

        Args:
            now: Seconds since the epoch.

        Returns:
            Whether there was one.
        """
        # The clock may have been set back.
        full_at = min(max(self._full_at, now), now + self._capacity * self._interval)
        if full_at > now + (self._capacity - 1) * self._interval:
            return False
        self._full_at = full_at + self._interval
        return True

    def give_back(self) -> None:
        """Put a token back that was taken."""
        self._full_at -= self._interval


class Backoff:
    """Spaces the attempts after failures."""

    def __init__(self) -> None:
        """Start without a failure."""
        self.failures = 0
        """How many attempts have failed since the last one that succeeded. :meth:`fail` and :meth:`succeed` change it."""
        self._retry_at = 0.0
        """When the next attempt may be made. The same methods change it."""

    def fail(self, now: float, retry_after: float = 0) -> None:
        """Count a failure.

        Args:
            now: Seconds since the epoch.
            retry_after: Seconds that the server wants to be left alone. It counts up to 30.
        """
        delay = min(2.0 ** min(self.failures, _MAX_DOUBLINGS), MAX_BACKOFF) * uniform(_JITTER, 1)  # noqa: S311
        self._retry_at = now + max(delay, min(retry_after, MAX_BACKOFF))
        self.failures += 1

    def succeed(self) -> None:
        """Forget all failures."""
        self.failures, self._retry_at = 0, 0.0

    def seconds_left(self, now: float) -> float:
        """Return how long to wait before the next attempt, 0 if it may be made now."""
        left = self._retry_at - now
        return left if 0 < left <= MAX_BACKOFF else 0.0  # the clock may have been set back
