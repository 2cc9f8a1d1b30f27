"""redis_client on a network that goes silent."""

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from redis.exceptions import ReadOnlyError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tests.support.patience import patience, wait_until
from tests.support.proxy import Proxy
from tests.support.servers import RedisServer
from tests.support.servers.redis import fresh_redis_db
from tomskit.redis import RedisConfig, RedisProvider
from tomskit.redis.redis_pool import redis_client

SECONDS = 2.0


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[Proxy]:
    with Proxy(redis_server.host, redis_server.port) as made:
        yield made


@pytest.fixture
def config(proxy: Proxy, redis_server: RedisServer) -> RedisConfig:
    return RedisConfig(
        REDIS_HOST=proxy.host,
        REDIS_PORT=proxy.port,
        REDIS_DB=fresh_redis_db(redis_server).broker_db,
        REDIS_SOCKET_TIMEOUT=SECONDS,
        REDIS_SOCKET_CONNECT_TIMEOUT=SECONDS,
    )


async def opened(config: RedisConfig) -> RedisProvider:
    provider = RedisProvider(config)
    await provider.startup()
    return provider


def test_a_command_on_a_connection_that_has_gone_silent_is_tried_on_another(
    proxy: Proxy, config: RedisConfig
) -> None:
    async def main() -> object:
        provider = await opened(config)
        await redis_client.set("key", "value")
        proxy.freeze()
        async with asyncio.timeout(patience(30)):
            found = await redis_client.get("key")
        await provider.shutdown()
        return found

    assert asyncio.run(main()) == "value"


def test_a_server_that_accepts_and_does_not_answer_is_given_up(
    proxy: Proxy, config: RedisConfig
) -> None:
    """Although answers to commands have no limit."""

    async def main() -> None:
        provider = await opened(config.model_copy(update={"REDIS_SOCKET_TIMEOUT": None}))
        async with asyncio.timeout(patience(60)):
            with pytest.raises(RedisTimeoutError, match="accepted the connection"):
                await redis_client.get("key")
            proxy.heal()
            await redis_client.set("key", "value")
        await provider.shutdown()

    proxy.accept_silently()
    asyncio.run(main())


def test_it_connects_when_the_server_answers_again(proxy: Proxy, config: RedisConfig) -> None:
    async def main() -> object:
        provider = await opened(config)
        setting = asyncio.ensure_future(redis_client.set("key", "value"))
        await asyncio.to_thread(wait_until, lambda: proxy.accepted > 0, 30, "it connects")
        proxy.heal()
        async with asyncio.timeout(patience(30)):
            await setting
            found = await redis_client.get("key")
        await provider.shutdown()
        return found

    proxy.accept_silently()

    assert asyncio.run(main()) == "value"


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="of Linux")
def test_the_system_probes_its_connections(config: RedisConfig) -> None:
    async def main() -> list[int]:
        provider = await opened(config)
        await redis_client.set("key", "value")
        pool: Any = redis_client.connection_pool
        connection = await pool.get_connection()
        sock: socket.socket = connection._writer.get_extra_info("socket")
        found = [
            sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
            *(
                sock.getsockopt(socket.IPPROTO_TCP, option)
                for option in (
                    socket.TCP_KEEPIDLE,
                    socket.TCP_KEEPINTVL,
                    socket.TCP_KEEPCNT,
                    socket.TCP_USER_TIMEOUT,
                )
            ),
        ]
        await pool.release(connection)
        await provider.shutdown()
        return found

    assert asyncio.run(main()) == [1, 30, 5, 3, 45_000]


@pytest.mark.parametrize("in_a_pipeline", [False, True])
def test_a_server_that_became_a_replica_is_left_for_the_one_that_has_its_name(
    proxy: Proxy, config: RedisConfig, redis_server: RedisServer, in_a_pipeline: bool
) -> None:
    """Its connections stay open, and redis-py would use them for ever."""

    async def increase() -> object:
        if not in_a_pipeline:
            return await redis_client.incr("key")
        untyped: Any = redis_client
        async with untyped.pipeline(transaction=False) as pipe:
            pipe.ping()
            pipe.incr("key")
            pipe.ping()
            return (await pipe.execute())[1]

    async def main(replica: RedisServer, master: RedisServer) -> object:
        proxy.redirect(replica.host, replica.port)
        provider = await opened(config)
        try:
            with pytest.raises(ReadOnlyError):
                await increase()
            proxy.lead_to(master.host, master.port)
            return await increase()
        finally:
            await provider.shutdown()

    master = f"{redis_server.host} {redis_server.port}"
    with RedisServer(config=[("databases", "2000"), ("replicaof", master)]) as replica:
        assert asyncio.run(main(replica, redis_server)) == 1
