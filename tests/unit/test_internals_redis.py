"""What tomskit relies on in redis-py beyond its documentation."""

import asyncio
import contextlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Connection, UnixDomainSocketConnection
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError

from tomskit._internals.redis import BlockingPool, SocketConnection, new_sentinel, says_pool_is_full


class _SentinelPool(SentinelConnectionPool, BlockingPool):
    """As the pool of `redis_client` is made."""


def test_a_full_pool_says_so() -> None:
    async def connect_twice() -> RedisConnectionError:
        pool = BlockingPool(connection_class=Connection, max_connections=1, timeout=0.01)
        _occupy(pool)
        with pytest.raises(RedisConnectionError) as caught:
            await pool.get_connection()
        return caught.value

    assert says_pool_is_full(asyncio.run(connect_twice()))


def test_a_server_that_is_away_is_no_full_pool() -> None:
    async def connect(closed_port: int = 1) -> RedisConnectionError:
        pool = BlockingPool(host="127.0.0.1", port=closed_port, max_connections=1)
        with pytest.raises(RedisConnectionError) as caught:
            await pool.get_connection()
        return caught.value

    assert not says_pool_is_full(asyncio.run(connect()))


def test_a_pool_of_sentinel_can_wait_as_well() -> None:
    async def connect_twice() -> RedisConnectionError:
        sentinel = new_sentinel([("127.0.0.1", 1)], max_connections=1, timeout=0.01)
        pool = sentinel.master_for("name", connection_pool_class=_SentinelPool).connection_pool
        assert isinstance(pool, _SentinelPool)
        _occupy(pool)
        with pytest.raises(RedisConnectionError) as caught:
            await pool.get_connection()
        return caught.value

    assert says_pool_is_full(asyncio.run(connect_twice()))


def test_every_sentinel_has_a_client_that_can_be_closed() -> None:
    """``Sentinel``."""

    async def close_all() -> int:
        sentinel = new_sentinel([("127.0.0.1", 1), ("127.0.0.1", 2)])
        for client in sentinel.sentinels:
            await client.aclose()
        return len(sentinel.sentinels)

    assert asyncio.run(close_all()) == 2


def _occupy(pool: BlockingPool) -> None:
    # It has no types, and connects to nothing yet.
    take: Callable[[], object] = pool.get_available_connection
    take()


def test_a_connection_by_a_unix_socket_logs_in_once_it_is_connected(tmp_path: Path) -> None:
    """``UnixDomainSocketConnection._connect``, which logs in, and ``_reader`` and ``_writer``."""
    path = "s"  # short, as it has to be
    logged_in: list[bool] = []

    async def log_in(connection: SocketConnection) -> None:
        logged_in.append(connection.is_connected)

    async def connect() -> None:
        server = await asyncio.start_unix_server(lambda _, writer: writer.close(), path)
        async with server:
            connection: Any = SocketConnection(
                path=path, redis_connect_func=log_in, socket_timeout=5
            )
            await connection.connect()
            await connection.disconnect()

    with contextlib.chdir(tmp_path):
        asyncio.run(connect())
    assert logged_in == [True]
    assert inspect.iscoroutinefunction(vars(UnixDomainSocketConnection)["_connect"])
    for name in ("_reader", "_writer", "on_connect"):
        assert name in vars(UnixDomainSocketConnection)["_connect"].__code__.co_names
