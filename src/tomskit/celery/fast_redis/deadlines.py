"""Deadlines of connections of an event loop: nothing is waited for that does not come."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from types import TracebackType
from typing import Final, Self, TypeVar

from redis.exceptions import TimeoutError as RedisTimeoutError

from tomskit.celery._internals.redis_connections import LoopConnection, traffic_of

__all__ = ("SECONDS", "Moving", "Pace", "UnansweredError", "answered")

R = TypeVar("R")

SECONDS: Final = 10.0
"""How long a server may be silent where nothing is set."""


class UnansweredError(RedisTimeoutError):
    """A new connection was not made, or not answered, in time."""


_LOOKS: Final = 4
"""How often within its time a connection is looked at."""

_LEAST_BYTES: Final = 1000
"""How much has to come, or to be taken, in such a time. A server that sends a byte each second may be as good as
silent; a line of 20 kB a second brings two hundred times as much."""


class Pace:
    """Tells an answer that comes slowly from one that as good as stands still.

    Args:
        now: The time, by ``time.monotonic()``.
    """

    __slots__ = ("_moved", "_since")

    def __init__(self, now: float) -> None:
        self._since = now
        self._moved = 0

    def moved(self, count: int) -> None:
        """Note that bytes have been sent or received."""
        self._moved += count

    def is_kept(self, now: float, seconds: float) -> bool:
        """Whether enough has moved; asked whenever there is something to wait for.

        Args:
            now: The time.
            seconds: The time in which enough has to move.
        """
        if now - self._since < seconds:
            return True
        moved, self._since, self._moved = self._moved, now, 0
        return moved >= _LEAST_BYTES


async def answered(connecting: Awaitable[R], seconds: float) -> R:
    """Wait for a connection, to a server that may accept it and never answer.

    Raises:
        UnansweredError: It has not answered for so long.
    """
    try:
        async with asyncio.timeout(seconds):
            return await connecting
    except TimeoutError as exc:
        raise UnansweredError(f"Redis has not answered for {seconds} s") from exc
    except RedisTimeoutError as exc:
        raise UnansweredError(*exc.args) from exc


class Moving:
    """Ends what happens in an ``async with`` block when a connection stands still.

    As long as a kilobyte is sent or received in each such time, or an answer is complete, it may take its time,
    on a slow network for instance.

    Args:
        connection: It is connected.
        seconds: How long it may stand still.

    Raises:
        redis.exceptions.TimeoutError: Nothing, or hardly anything, has been sent or received for so long.
    """

    def __init__(self, connection: LoopConnection, seconds: float) -> None:
        self._connection = connection
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._timeout = asyncio.timeout(seconds)
        self._received, self._unsent = traffic_of(connection)
        self._moved = 0
        self._timer = self._loop.call_later(seconds / _LOOKS, self._look)

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        try:
            await self._timeout.__aexit__(kind, exc, traceback)
        except TimeoutError:
            raise RedisTimeoutError(f"Redis has not answered for {self._seconds} s") from exc

    def answered(self) -> None:
        """Note that an answer is complete, however short it is."""
        self._moved += _LEAST_BYTES

    def _look(self) -> None:
        received, unsent = traffic_of(self._connection)
        self._moved += received - self._received + abs(unsent - self._unsent)
        self._received, self._unsent = received, unsent
        if self._moved >= _LEAST_BYTES and not self._timeout.expired():
            self._moved = 0
            self._timeout.reschedule(self._loop.time() + self._seconds)
        self._timer = self._loop.call_later(self._seconds / _LOOKS, self._look)
