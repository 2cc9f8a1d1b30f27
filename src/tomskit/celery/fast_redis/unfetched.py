"""Messages that do not arrive, however often they are fetched: they wait, and others go before them.

A network that loses large packets, or one that is too slow for the time-out, lets all pass but them. A worker that
fetched them at once again would do nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Final, NamedTuple

__all__ = ("Unfetched", "Waiting")

_TRIES: Final = 3
"""How often a message is fetched at once again."""
_LONGEST_SECONDS: Final = 300.0
"""How long one waits for its next try, at most."""
_SUSPECTED_SECONDS: Final = 30.0
"""How long messages are fetched one by one when such a message is in its queue again."""
_MOST: Final = 1000
"""How many are remembered. Others of them may have been delivered to another worker."""


class Waiting(NamedTuple):
    """A message that waits for its next try, recorded as unacknowledged.

    Attributes:
        tag: Its delivery tag.
        recorded_at: The time under which it is recorded.
    """

    tag: str
    recorded_at: float


class Unfetched:
    """What a worker knows of messages that its broker has sent, and that have not arrived."""

    def __init__(self) -> None:
        self._tries: dict[str, int] = {}
        self._suspects: set[str] = set()
        self._suspected_until = 0.0
        self._waiting: dict[Waiting, float] = {}

    def one_by_one(self) -> bool:
        """Whether messages are to be fetched one by one, so that only the one is lost that does not arrive."""
        if self._suspects and time.monotonic() > self._suspected_until:
            # Another worker may have them.
            self._suspects.clear()
        return bool(self._suspects)

    def lost(self, tags: Collection[str], recorded_at: float, seconds: float) -> float | None:
        """Note that messages have not arrived, all of which were fetched together.

        Args:
            tags: Their delivery tags.
            recorded_at: The time under which they are recorded.
            seconds: How long a try takes that is in vain.

        Returns:
            None if they are to be fetched again at once; else the seconds until `due` names the message.
        """
        now = time.monotonic()
        self._suspected_until = now + 2 * _TRIES * seconds
        self._suspects.update(tags)
        if len(tags) != 1:
            return None
        [tag] = tags
        tries = self._tries[tag] = self._tries.pop(tag, 0) + 1
        if len(self._tries) > _MOST:
            del self._tries[next(iter(self._tries))]
        if tries < _TRIES:
            return None
        self._suspects.discard(tag)
        pause = min(2 * seconds * (1 << min(tries - _TRIES, 10)), _LONGEST_SECONDS)
        self._waiting[Waiting(tag, recorded_at)] = now + pause
        return pause

    def tries(self, tag: str) -> int:
        """How often a message was fetched alone and has not arrived."""
        return self._tries.get(tag, 0)

    def misses_any(self) -> bool:
        """Whether there are messages whose arrival is to be noted."""
        return bool(self._tries or self._suspects)

    def arrived(self, tag: str) -> None:
        """Note that a message has arrived."""
        self._suspects.discard(tag)
        self._tries.pop(tag, None)

    def due(self) -> list[Waiting]:
        """The messages that have waited long enough; they wait until `forget` is called."""
        if not self._waiting:
            return []
        now = time.monotonic()
        return [one for one, until in self._waiting.items() if until <= now]

    def waiting(self) -> list[Waiting]:
        """All that wait."""
        return list(self._waiting)

    def forget(self, one: Waiting) -> None:
        """Note that a message has gone back to its queue."""
        self._waiting.pop(one, None)
        self._suspects.add(one.tag)
        self._suspected_until = max(self._suspected_until, time.monotonic() + _SUSPECTED_SECONDS)
