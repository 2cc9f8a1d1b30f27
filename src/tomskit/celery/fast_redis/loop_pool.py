"""Connections of redis.asyncio to where redis-py's own would go."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel

__all__ = ("close_pool", "loop_pool")

_CLASSES: Final[tuple[tuple[type, type], ...]] = (
    (redis.UnixDomainSocketConnection, redis.asyncio.UnixDomainSocketConnection),
    (redis.SSLConnection, redis.asyncio.SSLConnection),
    (redis.Connection, redis.asyncio.Connection),
)

_CONNECT_SECONDS: Final = 5.0
"""How long connecting may take where nothing is set, as redis-py's default."""

_OF_ITS_OWN: Final = ("connection_pool", "maint_notifications", "orig_", "himport_")
"""How the names of what a pool adds to its connections' parameters begin."""


_sentinel: Final = cast("Callable[..., object]", redis.asyncio.sentinel.Sentinel)
_sentinel_pool: Final = cast(
    "Callable[..., redis.asyncio.ConnectionPool]", redis.asyncio.sentinel.SentinelConnectionPool
)


class _Pool(Protocol):
    connection_class: type
    connection_kwargs: dict[str, Any]


class _Manager(Protocol):
    sentinels: list[redis.Redis]
    min_other_sentinels: int
    sentinel_kwargs: dict[str, Any]


class _SentinelPool(Protocol):
    service_name: str
    sentinel_manager: _Manager


def loop_pool(pool: object) -> redis.asyncio.ConnectionPool:
    """A pool of redis.asyncio whose connections go where those of a pool of redis-py go.

    They wait for answers without limit: ``socket_timeout`` is left to whoever reads.
    """
    known = cast("_Pool", pool)
    kind = next(mine for theirs, mine in _CLASSES if issubclass(known.connection_class, theirs))
    if not isinstance(pool, redis.sentinel.SentinelConnectionPool):
        return redis.asyncio.ConnectionPool(connection_class=kind, **_parameters(known, kind))
    found = cast("_SentinelPool", pool)
    manager = found.sentinel_manager
    addresses = [
        (parameters["host"], parameters["port"])
        for sentinel in manager.sentinels
        for parameters in [cast("_Pool", sentinel.connection_pool).connection_kwargs]
    ]
    return _sentinel_pool(
        found.service_name,
        _sentinel(
            addresses,
            min_other_sentinels=manager.min_other_sentinels,
            sentinel_kwargs=manager.sentinel_kwargs,
        ),
        ssl=issubclass(kind, redis.asyncio.SSLConnection),
        **_parameters(known, kind),
    )


async def close_pool(pool: object) -> None:
    """Close the connections of a pool, those to its sentinels as well."""
    await cast("_LoopPool", pool).disconnect()
    if isinstance(pool, redis.asyncio.sentinel.SentinelConnectionPool):
        for sentinel in cast("_LoopSentinels", pool).sentinel_manager.sentinels:
            await sentinel.aclose()


class _LoopPool(Protocol):
    async def disconnect(self) -> None: ...


class _LoopManager(Protocol):
    sentinels: list[redis.asyncio.Redis]


class _LoopSentinels(Protocol):
    sentinel_manager: _LoopManager


def _parameters(pool: _Pool, kind: type) -> dict[str, Any]:
    taken = {
        name
        for base in kind.__mro__
        if "__init__" in vars(base)
        for name in inspect.signature(
            cast("Callable[..., None]", vars(base)["__init__"])
        ).parameters
    }
    parameters = {
        name: value
        for name, value in pool.connection_kwargs.items()
        if name in taken and not name.startswith(_OF_ITS_OWN)
    }
    if parameters.get("socket_connect_timeout") is None:
        # redis-py would take the other one, which is None now.
        parameters["socket_connect_timeout"] = parameters.get("socket_timeout") or _CONNECT_SECONDS
    # redis-py has a default, and looks at the clock for each answer.
    return {**parameters, "socket_timeout": None}
