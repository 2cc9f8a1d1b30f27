"""Connections of ``redis_client`` to one server: by TCP, with TLS, or by a Unix socket."""

from __future__ import annotations

import socket
from typing import Any, Final

from redis.asyncio import Connection, SSLConnection
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ReadOnlyError
from typing_extensions import override

from tomskit._internals.redis import SocketConnection
from tomskit.addresses import is_socket
from tomskit.redis.config import RedisConfig

__all__ = ("Watched", "keepalive_options", "parameters_of")

_DEAD_AFTER: Final = 45
"""Seconds without any sign of life of the other side; 30 of them without a question."""

_PROBES: Final = {
    getattr(socket, name): value
    for name, value in {
        "TCP_KEEPIDLE": 30,
        "TCP_KEEPINTVL": 5,
        "TCP_KEEPCNT": 3,
        # No probes are sent while the answer to a command is due.
        "TCP_USER_TIMEOUT": 1000 * _DEAD_AFTER,
    }.items()
    if hasattr(socket, name)  # some systems lack some
}


class Watched(AbstractConnection):
    """Notes that its server has become a replica.

    Such a server leaves connections open, and another one may have its name by now.
    """

    is_demoted: bool = False

    @override
    async def read_response(self, *args: Any, **options: Any) -> Any:
        untyped: Any = super()
        try:
            return await untyped.read_response(*args, **options)
        except ReadOnlyError:
            self.is_demoted = True
            raise


class _WatchedTCP(Watched, Connection):
    """By TCP."""


class _WatchedSSL(Watched, SSLConnection):
    """With TLS."""


class _WatchedSocket(Watched, SocketConnection):
    """By a Unix socket."""


def parameters_of(config: RedisConfig) -> dict[str, Any]:
    """What a pool of redis-py is told of the server: where it is, and the class of connections."""
    if is_socket(config.REDIS_HOST):
        # The other side is in this machine: the system tells at once that it has ended.
        return {"connection_class": _WatchedSocket, "path": config.REDIS_HOST}
    return {
        "connection_class": _WatchedSSL if config.REDIS_USE_SSL else _WatchedTCP,
        "host": config.REDIS_HOST,
        "port": config.REDIS_PORT,
        **keepalive_options(config),
    }


def keepalive_options(config: RedisConfig) -> dict[str, Any]:
    """What redis-py is told of probes."""
    return {
        "socket_keepalive": config.REDIS_SOCKET_KEEPALIVE,
        "socket_keepalive_options": _PROBES if config.REDIS_SOCKET_KEEPALIVE else {},
    }
