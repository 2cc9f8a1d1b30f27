"""redis-py: what it leaves without types, and how its connection pools behave.

`BlockingConnectionPool.get_connection`
    For: waiting longer than the pool's ``timeout`` for a free connection. redis-py documents the
    method, but not that a full pool's ConnectionError has a TimeoutError as its cause.
    When that changes: a command on a full pool raises ConnectionError after the timeout.

`SentinelConnectionPool`, whose methods call ``super()``
    For: a pool of Sentinel's that is a BlockingConnectionPool as well.
    When that changes: making a client with Sentinel raises TypeError, or its commands do not wait.

`UnixDomainSocketConnection._connect`, which logs in, and `_reader` and `_writer`
    For: connections by a Unix socket that log in once, as others do: within a deadline, with the server's error.
    When it is missing: they log in twice, wait for ever for a server that accepts them and does not answer, and
    try again with a wrong password; or raise AttributeError.

`Sentinel`, which has no types
    For: a client of the master, and closing the connections to the sentinels.
    When it is missing: an import of tomskit.redis raises ImportError.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from redis.asyncio import (
    BlockingConnectionPool,
    Connection,
    Redis,
    Sentinel,
    UnixDomainSocketConnection,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from typing_extensions import override

if TYPE_CHECKING:
    from redis.asyncio.sentinel import SentinelConnectionPool

__all__ = (
    "BlockingPool",
    "SentinelClient",
    "SocketConnection",
    "new_sentinel",
    "says_pool_is_full",
)


class SentinelClient(Protocol):
    """``redis.asyncio.Sentinel``."""

    sentinels: Sequence[Redis]

    def master_for(
        self, service_name: str, /, *, connection_pool_class: type[SentinelConnectionPool]
    ) -> Redis: ...


new_sentinel: Final = cast("Callable[..., SentinelClient]", Sentinel)

if TYPE_CHECKING:

    class BlockingPool(BlockingConnectionPool):
        """redis-py's pool whose commands wait for a free connection."""

        @override
        async def get_connection(self, *args: Any, **options: Any) -> Connection: ...

else:
    BlockingPool = BlockingConnectionPool


def says_pool_is_full(error: RedisConnectionError) -> bool:
    """Whether a BlockingPool raised `error` because no connection became free in time."""
    return isinstance(error.__cause__, TimeoutError)


class SocketConnection(UnixDomainSocketConnection):
    """redis-py's, by a Unix socket, which connects as the others do: what is next logs in."""

    path: str

    @override
    async def _connect(self) -> None:
        async with asyncio.timeout(self.socket_connect_timeout):
            self._reader, self._writer = await asyncio.open_unix_connection(self.path)
