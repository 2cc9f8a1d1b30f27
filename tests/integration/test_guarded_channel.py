"""What a channel does with messages that kombu, or their consumer, cannot read."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from kombu import Connection, Queue
from kombu.message import Message
from redis import Redis

from tests.support.hostile import call
from tests.support.patience import patience
from tests.support.proxy import Proxy
from tests.support.servers import RedisServer
from tests.support.servers.redis import fresh_redis_db
from tomskit.celery.fast_redis.parts import Parts, connection_class, kombu_parts

QUEUE = Queue("work")


@pytest.fixture
def connection(url: str, parts: Parts) -> Iterator[Connection]:
    with connection_class(parts)(url) as connection:
        yield connection


@pytest.fixture
def client(url: str) -> Iterator[Redis]:
    untyped: Any = Redis
    with untyped.from_url(url) as client:
        yield client


def consume(connection: Connection, on_message: object, *, no_ack: bool = False) -> None:
    connection.Consumer([QUEUE], on_message=on_message, no_ack=no_ack).consume()


def drain_for_ever(connection: Connection) -> None:
    while True:
        connection.drain_events(timeout=patience(10))


def recorded(client: Redis) -> tuple[int, int]:
    return client.hlen("unacked"), client.zcard("unacked_index")


def test_a_tag_that_is_not_utf_8_leaves_no_record(connection: Connection, client: Redis) -> None:
    good = call()
    hostile = json.dumps(call()).encode().replace(b'"delivery_tag": "', b'"delivery_tag": "\xff')
    client.lpush("work", hostile, json.dumps(good))
    tags: list[object] = []

    def on_message(message: Message) -> None:
        tags.append(message.delivery_tag)
        message.ack()

    consume(connection, on_message)
    while good["properties"]["delivery_tag"] not in tags:
        connection.drain_events(timeout=patience(10))
    connection.close()

    assert recorded(client) == (0, 0)


def test_an_error_of_a_consumer_that_acknowledges_is_raised(
    connection: Connection, client: Redis
) -> None:
    client.lpush("work", json.dumps(call()))

    def on_message(message: Message) -> None:
        raise KeyError("mine")

    consume(connection, on_message)

    with pytest.raises(KeyError, match="mine"):
        drain_for_ever(connection)


def test_a_message_that_a_consumer_without_acknowledgements_fails_with_is_dropped(
    connection: Connection, client: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    client.lpush("work", *(json.dumps(call()) for _ in range(2)))
    came: list[Message] = []

    def on_message(message: Message) -> None:
        came.append(message)
        raise KeyError("mine")

    consume(connection, on_message, no_ack=True)
    while len(came) < 2:
        connection.drain_events(timeout=patience(10))

    lines = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert len(lines) == 2


def test_a_worker_that_is_killed_while_it_gives_back_keeps_nobody_from_it_for_long(
    connection: Connection, client: Redis
) -> None:
    channel: Any = connection.default_channel
    asked: list[float] = []

    def look(*_: object) -> None:
        asked.append(client.pttl("unacked_mutex"))

    client.zadd("unacked_index", {"tag": 0})
    channel.qos.restore_by_tag = look
    channel.qos.restore_visible(interval=1)
    assert len(asked) == 1
    assert 0 < asked[0] <= 10_000


def test_how_long_it_keeps_others_from_it_can_be_set(url: str, parts: Parts, client: Redis) -> None:
    options = {"unacked_mutex_expire": 77}
    asked: list[float] = []

    def look(*_: object) -> None:
        asked.append(client.pttl("unacked_mutex"))

    client.zadd("unacked_index", {"tag": 0})
    with connection_class(parts)(url, transport_options=options) as connection:
        channel: Any = connection.default_channel
        channel.qos.restore_by_tag = look
        channel.qos.restore_visible(interval=1)
    assert len(asked) == 1
    assert 10_000 < asked[0] <= 77_000


def test_where_brpop_is_not_answered_other_connections_are_not_trusted(
    redis_server: RedisServer, client: Redis
) -> None:
    db = fresh_redis_db(redis_server)
    with (
        Proxy(redis_server.host, redis_server.port) as proxy,
        connection_class(kombu_parts())(
            f"redis://{proxy.host}:{proxy.port}/{db.broker_db}",
            # Long, as it must not end the test before it fails.
            transport_options={"socket_timeout": patience(20)},
        ) as connection,
        redis_server.client(db.broker_db) as broker,
    ):
        held: list[Message] = []
        consume(connection, held.append)
        broker.lpush("work", json.dumps(call()))
        while not held:
            connection.drain_events(timeout=patience(10))
        with pytest.raises(TimeoutError):  # it has asked for the next one
            connection.drain_events(timeout=0.2)
        proxy.freeze()
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=4)
        held[0].ack()
        assert recorded(broker) == (0, 0)
        proxy.kill()  # closing would wait for the answer to BRPOP
