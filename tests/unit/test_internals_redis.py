"""What tomskit relies on in redis-py beyond its documentation."""

import asyncio
from collections.abc import Callable

import pytest
from redis.asyncio import Connection
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError

from tomskit._internals.redis import BlockingPool, new_sentinel, says_pool_is_full


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
