"""Connections of redis.asyncio to where those of redis-py go, before they connect."""

import asyncio
from typing import Any, cast

import pytest
import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel

from tomskit._internals.redis import SocketConnection
from tomskit.celery.fast_redis.loop_pool import close_pool, loop_pool

ADDRESS: dict[str, Any] = {"host": "127.0.0.1", "port": 1}


def parameters(pool: object) -> dict[str, Any]:
    return cast("dict[str, Any]", cast("Any", pool).connection_kwargs)


@pytest.mark.parametrize(
    ("theirs", "mine", "address"),
    [
        (redis.Connection, redis.asyncio.Connection, ADDRESS),
        (redis.SSLConnection, redis.asyncio.SSLConnection, ADDRESS),
        (redis.UnixDomainSocketConnection, SocketConnection, {"path": "/nowhere"}),
    ],
)
def test_each_kind_of_connection_has_its_own(
    theirs: type, mine: type, address: dict[str, Any]
) -> None:
    pool = loop_pool(redis.ConnectionPool(connection_class=theirs, **address))

    assert cast("Any", pool).connection_class is mine
    for name, value in address.items():
        assert parameters(pool)[name] == value


def test_a_kind_that_was_derived_is_its_bases() -> None:
    class Mine(redis.SSLConnection):
        pass

    pool = loop_pool(redis.ConnectionPool(connection_class=Mine, **ADDRESS))

    assert cast("Any", pool).connection_class is redis.asyncio.SSLConnection


def test_who_logs_in_and_where_is_the_same() -> None:
    pool = loop_pool(
        cast("Any", redis.ConnectionPool).from_url(
            "redis://me:secret@127.0.0.1:1/5", client_name="mine"
        )
    )

    found = parameters(pool)
    assert (found["username"], found["password"], found["db"]) == ("me", "secret", 5)
    assert found["client_name"] == "mine"


def test_answers_are_waited_for_without_limit() -> None:
    pool = loop_pool(redis.ConnectionPool(**ADDRESS, socket_timeout=3))

    assert parameters(pool)["socket_timeout"] is None


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, 5.0),
        ({"socket_timeout": 3}, 3),
        ({"socket_connect_timeout": 2}, 2),
        ({"socket_timeout": 3, "socket_connect_timeout": 2}, 2),
        ({"socket_timeout": None, "socket_connect_timeout": None}, 5.0),
    ],
)
def test_connecting_has_a_limit(limits: dict[str, Any], expected: float) -> None:
    pool = loop_pool(redis.ConnectionPool(**ADDRESS, **limits))

    # redis-py 8 has a default of its own.
    own = parameters(redis.ConnectionPool(**ADDRESS)).get("socket_timeout")
    assert parameters(pool)["socket_connect_timeout"] == (
        expected if limits or own is None else own
    )


def test_connections_can_be_made_of_all_parameters() -> None:
    theirs = redis.ConnectionPool(
        connection_class=redis.SSLConnection,
        **ADDRESS,
        ssl_cert_reqs="none",
        socket_read_size=7,
        health_check_interval=7,
    )

    async def main() -> Any:
        pool: Any = loop_pool(theirs)
        return pool.make_connection()

    connection = asyncio.run(main())

    assert connection._parser._read_size == 7
    # It would read the answers that other commands wait for.
    assert connection.health_check_interval == 0
    assert isinstance(connection, redis.asyncio.SSLConnection)


@pytest.mark.parametrize("ssl", [True, False])
def test_a_pool_of_sentinels_finds_the_same_master(ssl: bool) -> None:
    known = cast("Any", redis.sentinel)
    sentinel = known.Sentinel(
        [("127.0.0.1", 2), ("127.0.0.2", 3)],
        min_other_sentinels=1,
        sentinel_kwargs={"password": "of the sentinels"},
    )
    theirs = known.SentinelConnectionPool("mine", sentinel, password="of the master", db=4, ssl=ssl)

    pool: Any = loop_pool(theirs)

    assert cast("Any", type(pool)) is redis.asyncio.sentinel.SentinelConnectionPool
    assert pool.service_name == "mine"
    manager = pool.sentinel_manager
    assert manager.min_other_sentinels == 1
    found = [parameters(one.connection_pool) for one in manager.sentinels]
    assert [(one["host"], one["port"], one["password"]) for one in found] == [
        ("127.0.0.1", 2, "of the sentinels"),
        ("127.0.0.2", 3, "of the sentinels"),
    ]
    assert (parameters(pool)["password"], parameters(pool)["db"]) == ("of the master", 4)
    kind = pool.connection_class
    assert issubclass(kind, redis.asyncio.SSLConnection) == ssl
    asyncio.run(close_pool(pool))


def test_a_pool_that_was_not_used_can_be_closed() -> None:
    asyncio.run(close_pool(loop_pool(redis.ConnectionPool(**ADDRESS))))
