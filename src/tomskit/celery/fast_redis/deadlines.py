"""Deadlines of connections of an event loop: nothing is waited for that does not come."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from types import TracebackType
from typing import Final, Self, TypeVar

from redis.exceptions import TimeoutError as RedisTimeoutError

from tomskit.celery._internals.redis_connections import LoopConnection, traffic_of

__all__ = ("SECONDS", "Moving", "answered")

R = TypeVar("R")

SECONDS: Final = 10.0
"""How long a server may be silent where nothing is set."""

_LOOKS: Final = 4
"""How often within its time a connection is looked at."""


async def answered(connecting: Awaitable[R], seconds: float) -> R:
    """Wait for a connection, to a server that may accept it and never answer.

    Raises:
        redis.exceptions.TimeoutError: It has not answered for so long.
    """
    try:
        async with asyncio.timeout(seconds):
            return await connecting
    except TimeoutError as exc:
        raise RedisTimeoutError(f"Redis has not answered for {seconds} s") from exc


class Moving:
    """Ends what happens in an ``async with`` block when a connection stands still.

    As long as bytes are sent or received it may take its time, on a slow network for instance.

    Args:
        connection: It is connected.
        seconds: How long it may stand still.

    Raises:
        redis.exceptions.TimeoutError: Nothing has been sent or received for so long.
    """

    def __init__(self, connection: LoopConnection, seconds: float) -> None:
        self._connection = connection
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._timeout = asyncio.timeout(seconds)
        self._seen = traffic_of(connection)
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

    def _look(self) -> None:
        traffic = traffic_of(self._connection)
        if traffic != self._seen and not self._timeout.expired():
            self._seen = traffic
            self._timeout.reschedule(self._loop.time() + self._seconds)
        self._timer = self._loop.call_later(self._seconds / _LOOKS, self._look)
