"""``redis_client``: the client of the running event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, Final, TypeVar, cast
from weakref import WeakKeyDictionary

from redis.asyncio import Connection, Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode, ClusterPipeline
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from typing_extensions import deprecated, override

from tomskit._internals.redis import BlockingPool, new_sentinel, says_pool_is_full
from tomskit.errors import NotInitializedError
from tomskit.redis.away import is_distrusted, is_refused
from tomskit.redis.config import RedisConfig
from tomskit.redis.connections import Watched, keepalive_options, parameters_of
from tomskit.redis.login import log_in
from tomskit.urls import HostPort, parse_nodes

__all__ = ("RedisClientWrapper", "RedisClients", "clients", "redis_client")

logger: Final = logging.getLogger(__name__)

T = TypeVar("T")

_DEFAULT_SENTINEL_PORT: Final = 26379
_WARN_AFTER: Final = 20.0
"""Seconds for which a command waits for a free connection before a warning is logged, and again."""

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
    pool = _WaitingPool(
        db=config.REDIS_DB,
        timeout=_WARN_AFTER,
        retry=_retry(),
        redis_connect_func=_login_within(config.REDIS_SOCKET_CONNECT_TIMEOUT),
        **parameters_of(config),
        **_connection_options(config),
        **_tls_options(config),
    )
    client = Redis.from_pool(pool)
    return client, [client.aclose]


def _create_cluster(config: RedisConfig) -> tuple[RedisCluster, list[_Close]]:
    here = HostPort(config.REDIS_HOST, config.REDIS_PORT)
    nodes = parse_nodes(config.REDIS_CLUSTER_NODES or "", default_port=config.REDIS_PORT) or [here]
    cluster = _WaitingCluster(
        startup_nodes=[ClusterNode(node.host, node.port) for node in nodes],
        ssl=config.REDIS_USE_SSL,
        **keepalive_options(config),
        **_connection_options(config),
        **_tls_options(config),
    )
    return cluster, [cluster.aclose]


def _create_sentinel(config: RedisConfig) -> tuple[Redis, list[_Close]]:
    here = HostPort(config.REDIS_HOST, config.REDIS_PORT)
    nodes = parse_nodes(config.REDIS_SENTINELS or "", default_port=_DEFAULT_SENTINEL_PORT) or [here]
    tls = {"ssl": True, **_tls_options(config)} if config.REDIS_USE_SSL else {}
    sentinel = new_sentinel(
        list(map(tuple, nodes)),
        sentinel_kwargs={
            "username": config.REDIS_SENTINEL_USERNAME,
            "password": config.REDIS_SENTINEL_PASSWORD,
            "socket_timeout": config.REDIS_SENTINEL_SOCKET_TIMEOUT,
            "socket_connect_timeout": config.REDIS_SENTINEL_SOCKET_TIMEOUT,
            **tls,
        },
        db=config.REDIS_DB,
        timeout=_WARN_AFTER,
        retry=_retry(),
        redis_connect_func=_login_within(config.REDIS_SOCKET_CONNECT_TIMEOUT),
        **keepalive_options(config),
        **_connection_options(config),
        **tls,
    )
    # RedisConfig refuses to be without this name.
    master = sentinel.master_for(
        config.REDIS_SENTINEL_MASTER_NAME or "", connection_pool_class=_WaitingSentinelPool
    )
    return master, [master.aclose, *(node.aclose for node in sentinel.sentinels)]


class _WaitingPool(BlockingPool):
    """Lets a command wait for a free connection without a limit, where redis-py's pool raises.

    A task's time limits end the wait.
    """

    @override
    async def get_connection(self, *args: Any, **options: Any) -> Connection:
        waited = 0.0
        while True:
            try:
                return await super().get_connection(*args, **options)
            except RedisConnectionError as exc:
                if not says_pool_is_full(exc):
                    raise
            waited += _WARN_AFTER
            _warn_of_waiting(waited, self.max_connections)

    @override
    async def release(self, connection: AbstractConnection) -> None:
        try:
            if isinstance(connection, Watched) and connection.is_demoted:
                connection.is_demoted = False
                await connection.disconnect()
        finally:
            await super().release(connection)


class _WaitingSentinelPool(SentinelConnectionPool, _WaitingPool):
    """The same for Sentinel, whose own pool raises at once."""


def _warn_of_waiting(seconds: float, limit: int) -> None:
    logger.warning(
        "A command has been waiting for a Redis connection for %gs: all %d are in use. "
        "REDIS_MAX_CONNECTIONS limits their number.",
        seconds,
        limit,
    )


class _WaitingCluster(RedisCluster):
    """Lets a command or a pipeline wait for a free connection, where RedisCluster raises.

    Runs at most as many of them at once as a node may have connections: a pipeline has at most one of each
    node. Subscriptions, and transactions between WATCH and their execution, are not counted: they take further
    connections, and do not wait.
    """

    def __init__(self, *, max_connections: int, **options: Any) -> None:
        # Some of its parameters have types that redis-py imports conditionally.
        super().__init__(max_connections=max_connections, **options)  # pyright: ignore[reportUnknownMemberType]
        self._limit = max_connections
        self._free = asyncio.Semaphore(max_connections)

    @override
    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        if _has_turn.get():
            return await super().execute_command(*args, **kwargs)
        async with self.turn():
            return await super().execute_command(*args, **kwargs)

    @override
    def pipeline(self, transaction: Any = None, shard_hint: Any = None) -> ClusterPipeline:
        # It refuses what a cluster cannot do.
        super().pipeline(transaction, shard_hint)
        # To type checkers an abstract class: a protocol of redis-py's declares what pipelines do not have.
        waiting: Any = _WaitingClusterPipeline
        made: ClusterPipeline = waiting(self, transaction)
        return made

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[None]:
        """Wait until there is a connection for what is done inside."""
        waited = 0.0
        while True:
            try:
                async with asyncio.timeout(_WARN_AFTER):
                    await self._free.acquire()
                break
            except TimeoutError:
                waited += _WARN_AFTER
                _warn_of_waiting(waited, self._limit)
        try:
            yield
        finally:
            self._free.release()


_has_turn: Final[ContextVar[bool]] = ContextVar("tomskit_has_turn", default=False)
"""Whether a pipeline of a cluster is executed here: what has moved it asks for by commands, when it has given its
connections back."""


class _WaitingClusterPipeline(ClusterPipeline):
    @override
    async def execute(self, *args: Any, **options: Any) -> list[Any]:
        cluster = self.cluster_client
        assert isinstance(cluster, _WaitingCluster)  # noqa: S101 (which alone makes it)
        async with cluster.turn():
            token = _has_turn.set(True)
            try:
                return await super().execute(*args, **options)
            finally:
                _has_turn.reset(token)


class _Final(Exception):  # noqa: N818 (never leaves `_Retry`)
    """Carries an error past redis-py's loop of retries."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


class _Retry(Retry):
    """redis-py's, but not of what the next try would meet as well: a wrong password, a certificate."""

    @override
    async def call_with_retry(
        self, do: Callable[[], Awaitable[T]], *rest: Any, **options: Any
    ) -> T:
        async def once() -> T:
            try:
                return await do()
            except RedisConnectionError as exc:
                if is_refused(exc) or is_distrusted(exc):
                    raise _Final(exc) from None
                raise

        try:
            return await super().call_with_retry(once, *rest, **options)
        except _Final as exc:
            raise exc.error from None


def _retry() -> Retry:
    """What redis-py's own client does on a lost connection, and its pools do not by themselves.

    Its cluster client does the like.
    """
    return _Retry(ExponentialWithJitterBackoff(base=1, cap=10), retries=3)


def _connection_options(config: RedisConfig) -> dict[str, Any]:
    return {
        "username": config.REDIS_USERNAME,
        "password": config.REDIS_PASSWORD,
        "max_connections": config.REDIS_MAX_CONNECTIONS,
        "decode_responses": True,
        # The default of redis-py 8, 5 seconds, ends a longer BLPOP. Besides, it makes redis-py use
        # wait_for, which loses cancellations on Python 3.11: a task would exceed its time limit.
        "socket_timeout": config.REDIS_SOCKET_TIMEOUT,
        "socket_connect_timeout": config.REDIS_SOCKET_CONNECT_TIMEOUT,
        "health_check_interval": config.REDIS_HEALTH_CHECK_INTERVAL,
    }


def _login_within(seconds: float) -> Callable[[Connection], Awaitable[None]]:
    """What a connection does when it is there; redis-py's deadline is that of commands."""

    async def login(connection: Connection) -> None:
        try:
            async with asyncio.timeout(seconds):
                await log_in(connection)
        except TimeoutError:
            raise RedisTimeoutError(
                "Redis has accepted the connection and does not answer"
            ) from None

    return login


def _tls_options(config: RedisConfig) -> dict[str, Any]:
    return dict(config.REDIS_TLS_OPTIONS) if config.REDIS_USE_SSL else {}


class _CurrentClient:
    """Gives every attribute of the client of the running event loop."""

    __slots__ = ()

    def __getattr__(self, name: str) -> object:
        return getattr(clients.current(), name)

    @override
    def __repr__(self) -> str:
        try:
            client = clients.current()
        except NotInitializedError:
            return "<redis_client: not initialised>"
        # Not the client's own repr: in redis-py 6 that contains the password.
        kind = RedisCluster if isinstance(client, RedisCluster) else Redis
        return f"<redis_client: {kind.__name__}>"


redis_client: Final[Redis] = cast("Redis", _CurrentClient())
"""The redis.asyncio client of the running task; answers are ``str``."""


class RedisClientWrapper:
    """How toms-fast opens and closes ``redis_client``, for the running event loop."""

    @staticmethod
    @deprecated("Use await RedisProvider(config).startup()")
    def initialize(settings: RedisConfig) -> None:
        """Make the client."""
        clients.open(settings)

    @staticmethod
    @deprecated("Use await RedisProvider(config).shutdown()")
    async def shutdown() -> None:
        """Close it and its connections."""
        await clients.close()
