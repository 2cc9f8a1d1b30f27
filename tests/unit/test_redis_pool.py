"""redis_client: the client of the running event loop, before it connects."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis, RedisCluster, SSLConnection
from redis.asyncio.sentinel import SentinelConnectionPool

from tomskit.errors import NotInitializedError
from tomskit.redis import RedisConfig
from tomskit.redis.redis_pool import clients, redis_client

NOBODY: dict[str, Any] = {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": 1}


def opened(**settings: Any) -> Any:
    """The client of a configuration, which is closed by now."""
    # A list of servers says where to connect; a host beside it would have no effect.
    has_list = {"REDIS_CLUSTER_NODES", "REDIS_SENTINELS"} & settings.keys()
    where = {} if has_list else NOBODY

    async def main() -> object:
        clients.open(RedisConfig(**{**where, **settings}))
        client = clients.current()
        await clients.close()
        return client

    return asyncio.run(main())


def parameters(client: Any) -> Any:
    return client.connection_pool.connection_kwargs


def test_outside_of_a_loop_it_says_what_to_do() -> None:
    with pytest.raises(NotInitializedError, match=r"outside of an event loop.*RedisProvider"):
        redis_client.get("key")


def test_in_a_loop_without_one_it_says_what_to_do() -> None:
    async def main() -> None:
        await redis_client.get("key")

    with pytest.raises(
        NotInitializedError, match=r"not initialised for this event loop.*use_redis"
    ):
        asyncio.run(main())


def test_it_is_the_client_of_the_running_loop() -> None:
    async def main() -> object:
        clients.open(RedisConfig(**NOBODY))
        client: Any = clients.current()
        assert redis_client.connection_pool is client.connection_pool
        await clients.close()
        return client

    assert asyncio.run(main()) is not asyncio.run(main())


def test_closing_it_twice_does_nothing() -> None:
    async def main() -> None:
        clients.open(RedisConfig(**NOBODY))
        await clients.close()
        await clients.close()

    asyncio.run(main())


def test_its_repr_names_the_kind_and_no_password() -> None:
    async def main() -> str:
        clients.open(RedisConfig(**NOBODY, REDIS_PASSWORD="secret"))
        text = repr(redis_client)
        await clients.close()
        return text

    assert asyncio.run(main()) == "<redis_client: Redis>"
    assert repr(redis_client) == "<redis_client: not initialised>"


def test_the_configuration_becomes_that_of_its_connections() -> None:
    client = opened(
        REDIS_DB=3, REDIS_USERNAME="me", REDIS_PASSWORD="secret", REDIS_MAX_CONNECTIONS=5
    )

    assert isinstance(client, Redis)
    found = parameters(client)
    assert (found["host"], found["port"], found["db"]) == ("127.0.0.1", 1, 3)
    assert (found["username"], found["password"]) == ("me", "secret")
    assert client.connection_pool.max_connections == 5


def test_answers_are_text_and_are_waited_for_without_limit() -> None:
    found = parameters(opened())

    assert found["decode_responses"] is True
    assert found["socket_timeout"] is None


@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"REDIS_USE_SENTINEL": True, "REDIS_SENTINEL_MASTER_NAME": "m"},
        {"REDIS_USE_CLUSTER": True},
    ],
)
def test_its_sockets_are_as_configured(kind: dict[str, object]) -> None:
    client = opened(
        REDIS_SOCKET_TIMEOUT=2,
        REDIS_SOCKET_CONNECT_TIMEOUT=3,
        REDIS_SOCKET_KEEPALIVE=False,
        REDIS_HEALTH_CHECK_INTERVAL=4,
        **kind,
    )

    cluster = isinstance(client, RedisCluster)
    found = client.connection_kwargs if cluster else parameters(client)
    assert (found["socket_timeout"], found["socket_connect_timeout"]) == (2, 3)
    assert (found["socket_keepalive"], found["socket_keepalive_options"]) == (False, {})
    assert found["health_check_interval"] == 4


@pytest.mark.parametrize("tls", [True, False])
def test_tls_is_used_when_it_is_configured(tls: bool) -> None:
    client = opened(REDIS_USE_SSL=tls)

    assert issubclass(client.connection_pool.connection_class, SSLConnection) == tls


def test_a_cluster_has_its_nodes() -> None:
    client = opened(
        REDIS_USE_CLUSTER=True, REDIS_CLUSTER_NODES="127.0.0.1:2,127.0.0.2", REDIS_PORT=3
    )

    assert isinstance(client, RedisCluster)
    assert sorted(client.nodes_manager.startup_nodes) == ["127.0.0.1:2", "127.0.0.2:3"]


def test_a_cluster_without_nodes_is_found_by_the_host() -> None:
    client = opened(REDIS_USE_CLUSTER=True)

    assert list(client.nodes_manager.startup_nodes) == ["127.0.0.1:1"]


def test_a_cluster_names_its_kind() -> None:
    async def main() -> str:
        clients.open(RedisConfig(**NOBODY, REDIS_USE_CLUSTER=True))
        text = repr(redis_client)
        await clients.close()
        return text

    assert asyncio.run(main()) == "<redis_client: RedisCluster>"


def test_a_sentinel_gives_a_client_of_the_master() -> None:
    client = opened(
        REDIS_USE_SENTINEL=True,
        REDIS_SENTINELS="127.0.0.1:2,127.0.0.2",
        REDIS_SENTINEL_MASTER_NAME="mine",
        REDIS_PASSWORD="of the master",
        REDIS_SENTINEL_PASSWORD="of the sentinels",
    )

    pool = client.connection_pool
    addresses = [
        (one["host"], one["port"], one["password"])
        for one in (parameters(sentinel) for sentinel in pool.sentinel_manager.sentinels)
    ]
    assert issubclass(type(pool), SentinelConnectionPool)
    assert pool.service_name == "mine"
    assert addresses == [
        ("127.0.0.1", 2, "of the sentinels"),
        ("127.0.0.2", 26379, "of the sentinels"),
    ]
    assert parameters(client)["password"] == "of the master"
