"""Messages of more than a megabyte are delivered, rejected and dropped as short ones are."""

import logging
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from kombu import Connection, Queue
from kombu.message import Message

from tests.support.patience import patience
from tests.support.servers import RedisServer
from tomskit.celery.asyncio_pool.redis_channel import waiting_parts
from tomskit.celery.fast_redis.parts import Parts, connection_class, fast_parts, kombu_parts

QUEUE = Queue("work")
BODIES: list[object] = [
    "x" * 2_000_000,
    "ü" * 1_500_000,
    {"numbers": list(range(300_000)), "text": '"body": "\\'},
    ["short"],
    [2**70, "y" * 2_000_000],
]
PARTS = {
    "fast": fast_parts(tasks_run="elsewhere"),
    "kombu": kombu_parts(),
    "asyncio": waiting_parts(fast=True),
}


@pytest.fixture(params=PARTS.values(), ids=list(PARTS))
def connection(own: RedisServer, request: pytest.FixtureRequest) -> Iterator[Connection]:
    parts: Parts = request.param
    with connection_class(parts)(f"redis://{own.host}:{own.port}") as made:
        yield made


def send(connection: Connection, *bodies: object, **options: Any) -> None:
    with connection.Producer() as producer:
        for body in bodies:
            producer.publish(body, routing_key=QUEUE.name, declare=[QUEUE], **options)


def drain_until(connection: Connection, condition: Callable[[], bool]) -> None:
    while not condition():
        connection.drain_events(timeout=patience(20))


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_they_arrive_as_they_were_sent(connection: Connection, compression: str | None) -> None:
    got: list[Message] = []
    connection.Consumer([QUEUE], on_message=got.append).consume()

    send(connection, *BODIES, compression=compression)
    drain_until(connection, lambda: len(got) == len(BODIES))

    assert [message.payload for message in got] == BODIES
    for message in got:
        message.ack()


def test_one_that_is_rejected_comes_again(connection: Connection) -> None:
    got: list[Message] = []

    def on_message(message: Message) -> None:
        got.append(message)
        if len(got) == 1:
            message.reject(requeue=True)
        else:
            message.ack()

    connection.Consumer([QUEUE], on_message=on_message).consume()
    send(connection, BODIES[0])
    drain_until(connection, lambda: len(got) == 2)

    assert [message.payload for message in got] == [BODIES[0]] * 2
    assert cast("dict[str, object]", got[1].delivery_info)["redelivered"] is True


def test_what_may_not_be_read_is_not_read(connection: Connection) -> None:
    got: list[Message] = []
    consumer = connection.Consumer([QUEUE], on_message=got.append, accept=["pickle"])
    consumer.consume()

    send(connection, BODIES[0])
    drain_until(connection, lambda: len(got) == 1)
    got[0].accept = {"application/x-python-serialize"}

    with pytest.raises(Exception, match="Refusing to deserialize"):
        got[0].decode()
    got[0].ack()


def test_one_that_is_no_message_is_dropped(
    connection: Connection, own: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    got: list[Message] = []
    connection.Consumer([QUEUE], on_message=got.append).consume()
    with own.client() as client:
        client.lpush("work", '{"body": "' + "x" * 2_000_000)
        client.lpush("work", '{"body": "' + "x" * 2_000_000 + '"}')

    with caplog.at_level(logging.CRITICAL):
        send(connection, "after it")
        drain_until(connection, lambda: len(got) == 1)

    assert [message.payload for message in got] == ["after it"]
    assert caplog.text.count("Dropped") == 2
    got[0].ack()
