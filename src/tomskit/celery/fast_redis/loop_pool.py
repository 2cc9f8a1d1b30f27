"""Connections of redis.asyncio to where redis-py's own would go."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final

import redis
import redis.asyncio

from tomskit._internals.redis import SocketConnection
from tomskit.celery._internals.redis_connections import (
    POOLS_OWN,
    LoopPool,
    class_of_connections,
    new_loop_pool,
    new_loop_sentinel_pool,
    parameters_of,
    sentinel_source_of,
    sentinels_of,
)
from tomskit.redis.login import log_in

__all__ = ("close_pool", "loop_pool")

_CLASSES: Final[tuple[tuple[type, type], ...]] = (
    (redis.UnixDomainSocketConnection, SocketConnection),
    (redis.SSLConnection, redis.asyncio.SSLConnection),
    (redis.Connection, redis.asyncio.Connection),
)

_CONNECT_SECONDS: Final = 5.0
"""How long connecting may take where nothing is set, as redis-py's default."""


def loop_pool(pool: redis.ConnectionPool) -> LoopPool:
    """A pool of redis.asyncio whose connections go where those of a pool of redis-py go.

    They wait for answers without limit: the code that reads enforces ``socket_timeout``.
    """
    known = class_of_connections(pool)
    kind = next(mine for theirs, mine in _CLASSES if issubclass(known, theirs))
    parameters = _parameters(pool, kind)
    source = sentinel_source_of(pool)
    if source is None:
        return new_loop_pool(kind, parameters)
    ssl = issubclass(kind, redis.asyncio.SSLConnection)
    return new_loop_sentinel_pool(source, parameters, ssl=ssl)


async def close_pool(pool: LoopPool) -> None:
    """Close the connections of a pool, those to its sentinels as well."""
    await pool.disconnect()
    for sentinel in sentinels_of(pool):
        await sentinel.aclose()


def _parameters(pool: redis.ConnectionPool, kind: type) -> dict[str, Any]:
    taken: set[str] = set()
    for base in kind.__mro__:
        if "__init__" in vars(base):
            init: Callable[..., None] = vars(base)["__init__"]
            taken.update(inspect.signature(init).parameters)
    parameters = {
        name: value
        for name, value in parameters_of(pool).items()
        if name in taken and not name.startswith(POOLS_OWN)
    }
    if parameters.get("socket_connect_timeout") is None:
        # redis-py would take the other one, which is None now.
        parameters["socket_connect_timeout"] = parameters.get("socket_timeout") or _CONNECT_SECONDS
    # With its default redis-py would start a timer for each answer, and a health check would read the
    # answers that another command waits for.
    alike = {"socket_timeout": None, "health_check_interval": 0, "redis_connect_func": log_in}
    return {**parameters, **alike}
