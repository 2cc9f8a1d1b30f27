"""Logging in on a new connection of an event loop, and why a server hangs up meanwhile."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, Final

from redis.asyncio import Connection, SSLConnection
from redis.exceptions import ConnectionError as RedisConnectionError

from tomskit.redis.away import is_distrusted, is_refused

__all__ = ("log_in",)

_SECONDS: Final = 1.0
"""How long a server may take to say what it has against the client."""


async def log_in(connection: Connection) -> None:
    """Do what redis-py does on a new connection, with an error that names the reason of a refusal.

    In TLS 1.3 a server refuses a client's certificate, or that it has none, after the client's part of the
    handshake. When it closes the connection then, its reason may be lost: it has not read the client's first
    command, so the operating system resets the connection.

    Raises:
        redis.exceptions.ConnectionError: The connection was lost, or refused.
    """
    # Else the first command would be a health check, with retries of its own, which would go on until a
    # deadline and hide the error.
    checked_every = connection.health_check_interval
    connection.next_health_check = asyncio.get_running_loop().time() + checked_every
    try:
        await connection.on_connect()
    except RedisConnectionError as exc:
        if not isinstance(connection, SSLConnection) or is_refused(exc) or is_distrusted(exc):
            raise
        reason = await _reason_of_refusal(connection)
        if reason is None:
            raise
        where = f"{connection.host}:{connection.port}"
        raise RedisConnectionError(f"{where} has refused the connection: {reason}") from exc


async def _reason_of_refusal(connection: SSLConnection) -> ssl.SSLError | None:
    """What the server says when it is connected to and asked nothing."""
    arguments: Any = connection.ssl_context
    context: ssl.SSLContext = arguments.get()
    try:
        async with asyncio.timeout(_SECONDS):
            reader, writer = await asyncio.open_connection(
                connection.host, connection.port, ssl=context
            )
            try:
                await reader.read(1)
            finally:
                writer.close()
    except ssl.SSLError as exc:
        return exc if is_distrusted(exc) else None
    except OSError:  # a TimeoutError too: it has nothing against the client
        return None
    return None
