"""``redis_client``: the client of the running event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol, cast
from weakref import WeakKeyDictionary

from redis.asyncio import (
    BlockingConnectionPool,
    Connection,
    Redis,
    RedisCluster,
    Sentinel,
    SSLConnection,
)
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from typing_extensions import override

from tomskit.errors import NotInitializedError
from tomskit.redis.config import RedisConfig
from tomskit.urls import HostPort, parse_nodes

__all__ = ("RedisClients", "clients", "redis_client")

logger: Final = logging.getLogger(__name__)

_DEFAULT_SENTINEL_PORT: Final = 26379
_PATIENCE: Final = 20.0
"""Seconds that a command waits for a free connection before that is worth a warning."""

_Close = Callable[[], Awaitable[None]]


class RedisClients:
    """The redis.asyncio clients of this process, one for each event loop that runs tasks."""

    def __init__(self) -> None:
        self._open: WeakKeyDictionary[
            asyncio.AbstractEventLoop, tuple[Redis | RedisCluster, list[_Close]]
        ] = WeakKeyDictionary()

    def current(self) -> Redis | RedisCluster:
        """The client of the running event loop.

        Raises:
            NotInitializedError: None was opened for this loop.
        """
        try:
            return self._open[asyncio.get_running_loop()][0]
        except RuntimeError:
            reason = "redis_client was used outside of an event loop."
        except KeyError:
            reason = "redis_client was not initialised for this event loop."
        raise NotInitializedError(
            f"{reason} In a worker the app opens it before the first task; in an AsyncTaskRunner "
            "pass use_redis=True; elsewhere call AsyncRuntime.init(app), or in a loop of your "
            "own: provider = RedisProvider(RedisConfig()); await provider.startup()"
        )

    def open(self, config: RedisConfig) -> None:
        """Make a client for the running event loop. It connects when it is first used."""
        self._open[asyncio.get_running_loop()] = _create(config)

    async def close(self) -> None:
        """Close the client of the running event loop and all its connections."""
        _, closers = self._open.pop(asyncio.get_running_loop(), (None, ()))
        for close in closers:
            await close()


clients: Final = RedisClients()


def _create(config: RedisConfig) -> tuple[Redis | RedisCluster, list[_Close]]:
    if config.REDIS_USE_CLUSTER:
        return _create_cluster(config)
    if config.REDIS_USE_SENTINEL:
        return _create_sentinel(config)
    pool = _PatientPool(
        connection_class=SSLConnection if config.REDIS_USE_SSL else Connection,
        host=config.REDIS_HOST,
        port=config.REDIS_PORT,
        db=config.REDIS_DB,
        timeout=_PATIENCE,
        **_connection_options(config),
        **_tls_options(config),
    )
    client = Redis.from_pool(pool)
    return client, [client.aclose]


def _create_cluster(config: RedisConfig) -> tuple[RedisCluster, list[_Close]]:
    here = HostPort(config.REDIS_HOST, config.REDIS_PORT)
    nodes = parse_nodes(config.REDIS_CLUSTER_NODES or "", default_port=config.REDIS_PORT) or [here]
    cluster = _PatientCluster(
        startup_nodes=[ClusterNode(node.host, node.port) for node in nodes],
        ssl=config.REDIS_USE_SSL,
        **_connection_options(config),
        **_tls_options(config),
    )
    return cluster, [cluster.aclose]


def _create_sentinel(config: RedisConfig) -> tuple[Redis, list[_Close]]:
    here = HostPort(config.REDIS_HOST, config.REDIS_PORT)
    nodes = parse_nodes(config.REDIS_SENTINELS or "", default_port=_DEFAULT_SENTINEL_PORT) or [here]
    tls = {"ssl": True, **_tls_options(config)} if config.REDIS_USE_SSL else {}
    # redis-py describes the sentinel client without types.
    create = cast("Callable[..., _SentinelClient]", Sentinel)
    sentinel = create(
        list(map(tuple, nodes)),
        sentinel_kwargs={
            "username": config.REDIS_SENTINEL_USERNAME,
            "password": config.REDIS_SENTINEL_PASSWORD,
            "socket_timeout": config.REDIS_SENTINEL_SOCKET_TIMEOUT,
            **tls,
        },
        db=config.REDIS_DB,
        timeout=_PATIENCE,
        **_connection_options(config),
        **tls,
    )
    # RedisConfig has made sure that there is a name.
    master = sentinel.master_for(
        config.REDIS_SENTINEL_MASTER_NAME or "", connection_pool_class=_PatientSentinelPool
    )
    return master, [master.aclose, *(node.aclose for node in sentinel.sentinels)]


class _SentinelClient(Protocol):
    sentinels: Sequence[Redis]

    def master_for(
        self, service_name: str, /, *, connection_pool_class: type[SentinelConnectionPool]
    ) -> Redis: ...


class _PatientPool(BlockingConnectionPool):
    """Lets a command wait for a free connection as long as it takes, where redis-py's raises.

    How long a task may take at all is the matter of its time limits.
    """

    @override
    async def get_connection(self, *args: Any, **options: Any) -> Connection:
        get = cast(
            "Callable[..., Awaitable[Connection]]",
            super().get_connection,  # pyright: ignore[reportUnknownMemberType]
        )
        waited = 0.0
        while True:
            try:
                return await get(*args, **options)
            except RedisConnectionError as exc:
                if not isinstance(exc.__cause__, TimeoutError):
                    raise
            waited += _PATIENCE
            _warn_of_waiting(waited, self.max_connections)


class _PatientSentinelPool(SentinelConnectionPool, _PatientPool):
    """The same in place of Sentinel's own pool, which does not wait at all."""


def _warn_of_waiting(seconds: float, limit: int) -> None:
    logger.warning(
        "A command has been waiting for a Redis connection for %gs: all %d are in use. "
        "REDIS_MAX_CONNECTIONS is how many there may be.",
        seconds,
        limit,
    )


class _PatientCluster(RedisCluster):
    """Lets a command wait for a free connection, where RedisCluster raises.

    As many commands at once as a node may have connections. Pipelines and subscriptions take
    connections beside them, and do not wait.
    """

    def __init__(self, *, max_connections: int, **options: Any) -> None:
        # It names types that it imports conditionally.
        super().__init__(max_connections=max_connections, **options)  # pyright: ignore[reportUnknownMemberType]
        self._limit = max_connections
        self._turns = asyncio.Semaphore(max_connections)

    @override
    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        waited = 0.0
        while True:
            try:
                async with asyncio.timeout(_PATIENCE):
                    await self._turns.acquire()
                break
            except TimeoutError:
                waited += _PATIENCE
                _warn_of_waiting(waited, self._limit)
        try:
            return await super().execute_command(*args, **kwargs)
        finally:
            self._turns.release()


def _connection_options(config: RedisConfig) -> dict[str, Any]:
    return {
        "username": config.REDIS_USERNAME,
        "password": config.REDIS_PASSWORD,
        "max_connections": config.REDIS_MAX_CONNECTIONS,
        "decode_responses": True,
        # redis-py 8 has 5 seconds, which ends a longer BLPOP, and under Python 3.11 its wait_for
        # loses cancellations: a task would run on over its time limit.
        "socket_timeout": None,
    }


def _tls_options(config: RedisConfig) -> dict[str, Any]:
    return dict(config.REDIS_TLS_OPTIONS) if config.REDIS_USE_SSL else {}


class _CurrentClient:
    """Passes every attribute on to the client of the running event loop."""

    __slots__ = ()

    def __getattr__(self, name: str) -> object:
        return getattr(clients.current(), name)

    @override
    def __repr__(self) -> str:
        try:
            client = clients.current()
        except NotInitializedError:
            return "<redis_client: not initialised>"
        # Not the client's own repr: that of redis-py 6 holds the password.
        kind = RedisCluster if isinstance(client, RedisCluster) else Redis
        return f"<redis_client: {kind.__name__}>"


redis_client: Final[Redis] = cast("Redis", _CurrentClient())
"""The redis.asyncio client of the running task; answers are ``str``."""
