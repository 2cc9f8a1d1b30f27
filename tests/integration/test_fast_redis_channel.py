"""What happens to messages between a channel of the fast path and Redis, step by step."""

from base64 import b64decode
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from kombu import Connection, Queue
from kombu.message import Message
from kombu.utils.json import loads
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.support.loops import sockets
from tests.support.patience import patience, wait_until
from tests.support.servers import RedisServer
from tomskit.celery.asyncio_pool.redis_channel import Outstanding, waiting_parts
from tomskit.celery.fast_redis.parts import Parts, connection_class, fast_parts

QUEUE = Queue("work")


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer(config=[("appendonly", "yes"), ("appendfsync", "always")]) as running:
        yield running


def connect(server: RedisServer, parts: Parts) -> Connection:
    return connection_class(parts)(f"redis://{server.host}:{server.port}")


def send(connection: Connection, *bodies: str) -> None:
    with connection.Producer() as producer:
        for body in bodies:
            producer.publish(body, routing_key=QUEUE.name, declare=[QUEUE])


def consume(connection: Connection, on_message: Callable[[Message], object]) -> Any:
    """The channel on which messages are consumed from now on."""
    consumer = connection.Consumer([QUEUE], on_message=on_message)
    consumer.consume()
    return consumer.channel


def drain_until(connection: Connection, condition: Callable[[], bool]) -> None:
    while not condition():
        connection.drain_events(timeout=patience(10))


def waiting(client: Redis) -> list[str]:
    """The bodies in the queue, the next one first."""
    raws = cast("list[bytes]", client.lrange("work", 0, -1))
    return [b64decode(loads(raw)["body"]).decode() for raw in reversed(raws)]


def recorded(client: Redis) -> tuple[int, int]:
    return client.hlen("unacked"), client.zcard("unacked_index")


def test_a_message_that_is_rejected_comes_again(server: RedisServer) -> None:
    got: list[Message] = []

    def on_message(message: Message) -> None:
        got.append(message)
        if len(got) == 1:
            message.reject(requeue=True)
        else:
            message.ack()

    with (
        connect(server, fast_parts(tasks_run="elsewhere")) as connection,
        server.client() as client,
    ):
        consume(connection, on_message)
        send(connection, "again")
        drain_until(connection, lambda: len(got) == 2)
        connection.release()

        assert recorded(client) == (0, 0)
        assert [message.payload for message in got] == ["again", "again"]
        assert cast("dict[str, object]", got[1].delivery_info)["redelivered"] is True
        assert waiting(client) == []


@pytest.mark.parametrize(
    "parts",
    [
        fast_parts(tasks_run="elsewhere"),
        fast_parts(tasks_run="in the turn"),
        waiting_parts(fast=True),
    ],
    ids=["elsewhere", "in the turn", "asyncio"],
)
def test_a_connection_that_gives_messages_back_when_it_is_closed_leaves_nothing_open(
    server: RedisServer, parts: Parts
) -> None:
    got: list[Message] = []
    with server.client() as client:
        assert recorded(client) == (0, 0)
        before = sockets()
        with connect(server, parts) as connection:
            consume(connection, got.append)
            send(connection, "one", "two")
            drain_until(connection, lambda: len(got) == 2)

        assert waiting(client) == ["one", "two"]
        assert sockets() == before


def test_a_fetch_takes_no_more_bytes_than_it_may_beyond_its_first_message(
    server: RedisServer,
) -> None:
    got: list[Message] = []

    def on_message(message: Message) -> None:
        got.append(message)
        message.ack()

    with (
        connect(server, fast_parts(tasks_run="elsewhere", fetch_bytes=3000)) as connection,
        server.client() as client,
    ):
        send(connection, *("x" * 1000 for _ in range(9)))
        size = len(cast("bytes", client.lindex("work", 0)))
        consume(connection, on_message)
        portions: list[int] = []
        while len(got) < 9:
            before = len(got)
            connection.drain_events(timeout=patience(10))
            portions.append(len(got) - before)
        connection.release()

        assert max(portions) == 1 + 3000 // size
        assert recorded(client) == (0, 0)


def test_rejected_for_good_it_is_gone(server: RedisServer) -> None:
    with (
        connect(server, fast_parts(tasks_run="elsewhere")) as connection,
        server.client() as client,
    ):
        got: list[Message] = []

        def on_message(message: Message) -> None:
            got.append(message)
            message.reject()

        consume(connection, on_message)
        send(connection, "away")
        drain_until(connection, lambda: len(got) == 1)
        connection.release()

        assert waiting(client) == []
        assert recorded(client) == (0, 0)


def test_what_was_fetched_goes_back_in_order_when_one_cannot_be_handled(
    server: RedisServer,
) -> None:
    def on_message(message: Message) -> None:
        if message.payload == "2":
            raise RuntimeError("cannot handle it")

    with (
        connect(server, fast_parts(tasks_run="elsewhere")) as connection,
        server.client() as client,
    ):
        send(connection, "1", "2", "3", "4")
        consume(connection, on_message)
        with pytest.raises(RuntimeError, match="cannot handle it"):
            drain_until(connection, lambda: False)
        assert recorded(client) == (4, 4)
        connection.release()

        assert waiting(client) == ["1", "2", "3", "4"]
        assert recorded(client) == (0, 0)


def test_scripts_that_the_server_has_forgotten_are_sent_again(server: RedisServer) -> None:
    got: list[object] = []

    def on_message(message: Message) -> None:
        got.append(message.payload)
        message.ack()

    with (
        connect(server, fast_parts(tasks_run="elsewhere")) as connection,
        server.client() as client,
    ):
        consume(connection, on_message)
        send(connection, "before")
        drain_until(connection, lambda: got == ["before"])

        client.script_flush()
        send(connection, "after")

        drain_until(connection, lambda: got == ["before", "after"])


def test_messages_of_an_answer_that_was_lost_are_given_back(server: RedisServer) -> None:
    parts = waiting_parts(fast=True)
    with (
        connect(server, parts) as lost,
        connect(server, parts) as working,
        server.client() as client,
    ):
        send(lost, "1", "2", "3")
        channel = consume(lost, lambda message: pytest.fail(f"{message} came"))
        cast("Any", lost.transport).cycle.on_poll_start()
        wait_until(lambda: recorded(client) == (3, 3), 10, "Redis took the command")
        channel.client.connection.disconnect()

        outstanding = Outstanding.of(channel)
        assert outstanding is not None
        outstanding.settle(working.default_channel, running=())

        assert sorted(waiting(client)) == ["1", "2", "3"]
        assert recorded(client) == (0, 0)


@pytest.mark.parametrize("fast", [True, False])
def test_an_acknowledgement_that_redis_did_not_hear_is_made_good(
    server: RedisServer, fast: bool
) -> None:
    got: list[Message] = []
    parts = waiting_parts(fast=fast)
    with connect(server, parts) as lost, connect(server, parts) as working:
        channel = consume(lost, got.append)
        send(lost, "1")
        drain_until(lost, lambda: len(got) == 1)
        server.kill()
        if fast:
            got[0].ack()
            with pytest.raises((RedisConnectionError, OSError)):
                drain_until(lost, lambda: False)
        else:
            with pytest.raises((RedisConnectionError, OSError)):
                got[0].ack()
        outstanding = Outstanding.of(channel)
        assert outstanding is not None
        server.start()

        with server.client() as client:
            assert recorded(client) == (1, 1)
            outstanding.settle(working.default_channel, running=())
            assert recorded(client) == (0, 0)
            assert waiting(client) == []


def test_a_message_that_was_handed_out_and_not_recorded_goes_back(server: RedisServer) -> None:
    parts = waiting_parts(fast=False)
    with connect(server, parts) as lost, connect(server, parts) as working:
        channel = consume(lost, lambda message: pytest.fail(f"{message} came"))
        send(lost, "1")
        with server.client() as client:
            raw = cast("bytes", client.rpop("work"))
        server.kill()
        with pytest.raises((RedisConnectionError, OSError)):
            cast("Any", lost.transport)._deliver(loads(raw), "work")
        outstanding = Outstanding.of(channel)
        assert outstanding is not None
        server.start()

        with server.client() as client:
            outstanding.settle(working.default_channel, running=())
            assert waiting(client) == ["1"]
            assert recorded(client) == (0, 0)
