"""Conversation and poller: how a channel of the fast path gets its messages from Redis."""

import socket
import threading
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from kombu import Connection, Queue
from kombu.message import Message
from kombu.utils.json import loads

from tests.support.patience import patience, wait_until
from tests.support.servers import RedisServer
from tomskit.celery.fast_redis.parts import connection_class, fast_parts

WORK, OTHER = Queue("work"), Queue("other")


class Reader:
    """Consumes queues on the fast path and keeps what comes."""

    def __init__(self, connection: Connection, *queues: Queue, prefetch: int = 0) -> None:
        self.connection = connection
        self.messages: list[Message] = []
        self.consumer = connection.Consumer(
            queues, on_message=self.messages.append, prefetch_count=prefetch or None
        )
        self.consumer.consume()

    @property
    def channel(self) -> Any:
        return self.consumer.channel

    @property
    def bodies(self) -> list[object]:
        return [message.payload for message in self.messages]

    def drain_until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.connection.drain_events(timeout=patience(10))


@pytest.fixture
def connect(own: RedisServer) -> Iterator[Callable[..., Connection]]:
    made: list[Connection] = []

    def connect(url: str | None = None) -> Connection:
        made.append(connection_class(fast_parts(tasks_run="elsewhere"))(url or own.url()))
        return made[-1]

    yield connect
    for connection in made:
        connection.release()


def send(server: RedisServer, *bodies: str, queue: Queue = WORK) -> None:
    with Connection(server.url()) as connection, connection.Producer() as producer:
        for body in bodies:
            producer.publish(body, routing_key=queue.name, declare=[queue])


def waiting(server: RedisServer, queue: Queue = WORK) -> list[str]:
    """The bodies in the queue, the next one first."""
    with server.client() as client:
        raws = cast("list[str]", client.lrange(queue.name, 0, -1))
    return [b64decode(loads(raw)["body"]).decode() for raw in reversed(raws)]


def recorded(server: RedisServer) -> tuple[int, int]:
    with server.client() as client:
        return client.hlen("unacked"), client.zcard("unacked_index")


def test_waiting_messages_come_in_order_and_are_recorded(
    own: RedisServer, connect: Callable[..., Connection]
) -> None:
    send(own, "1", "2", "3")
    reader = Reader(connect(), WORK)

    reader.drain_until(lambda: len(reader.messages) == 3)

    assert reader.bodies == ["1", "2", "3"]
    assert recorded(own) == (3, 3)
    assert waiting(own) == []


def test_redis_says_when_a_message_has_come(
    own: RedisServer, connect: Callable[..., Connection]
) -> None:
    connection = connect()
    reader = Reader(connection, WORK)
    # Were it not told, it would look again after an hour, and the test be ended.
    reader.channel.brpop_timeout = 3600
    with pytest.raises(socket.timeout):
        connection.drain_events(timeout=0.1)

    send(own, "1")
    reader.drain_until(lambda: len(reader.messages) == 1)

    assert reader.bodies == ["1"]


def test_no_more_is_taken_than_may_be(own: RedisServer, connect: Callable[..., Connection]) -> None:
    send(own, "1", "2", "3")
    reader = Reader(connect(), WORK, prefetch=2)
    reader.drain_until(lambda: len(reader.messages) == 2)
    with pytest.raises(socket.timeout):
        reader.connection.drain_events(timeout=0.1)
    assert waiting(own) == ["3"]

    reader.messages[0].ack()
    reader.drain_until(lambda: len(reader.messages) == 3)

    assert reader.bodies == ["1", "2", "3"]


def test_a_fetch_takes_fewer_where_messages_take_long_to_deliver(
    own: RedisServer, connect: Callable[..., Connection]
) -> None:
    send(own, *map(str, range(100)))
    reader = Reader(connect(), WORK)
    # As on a busy machine. What ends meanwhile is acknowledged after all of a fetch.

    def take(message: Message) -> None:
        reader.messages.append(message)
        time.sleep(0.02)

    reader.consumer.on_message = take
    portions: list[int] = []

    while len(reader.messages) < 100:
        before = len(reader.messages)
        reader.connection.drain_events(timeout=patience(10))
        portions.append(len(reader.messages) - before)

    assert max(portions) <= 4
    assert [int(str(body)) for body in reader.bodies] == list(range(100))


def test_acknowledgements_are_told_together(
    own: RedisServer, connect: Callable[..., Connection]
) -> None:
    send(own, "1", "2", "3")
    reader = Reader(connect(), WORK)
    reader.drain_until(lambda: len(reader.messages) == 3)

    for message in reader.messages:
        message.ack()
    assert recorded(own) == (3, 3)
    send(own, "4")
    reader.drain_until(lambda: len(reader.messages) == 4)

    wait_until(lambda: recorded(own) == (1, 1), 10, "only the last one is recorded")


def test_acknowledgements_are_told_before_the_channel_closes(
    own: RedisServer, connect: Callable[..., Connection]
) -> None:
    send(own, "1", "2")
    reader = Reader(connect(), WORK)
    reader.drain_until(lambda: len(reader.messages) == 2)
    reader.messages[0].ack()

    reader.channel.close()

    # The other one goes back.
    assert recorded(own) == (0, 0)
    assert waiting(own) == ["2"]


def test_acknowledgements_of_another_thread_are_told_at_once(
    own: RedisServer, connect: Callable[..., Connection]
) -> None:
    send(own, "1")
    reader = Reader(connect(), WORK)
    reader.drain_until(lambda: len(reader.messages) == 1)

    thread = threading.Thread(target=reader.messages[0].ack)
    thread.start()
    thread.join()

    assert recorded(own) == (0, 0)


def test_queues_are_taken_from_in_turn(
    own: RedisServer, connect: Callable[..., Connection]
) -> None:
    send(own, "w1", "w2")
    send(own, "o1", "o2", queue=OTHER)
    reader = Reader(connect(), WORK, OTHER)

    reader.drain_until(lambda: len(reader.messages) == 4)

    bodies = [str(body) for body in reader.bodies]
    assert [body[1] for body in bodies] == ["1", "1", "2", "2"]


def test_a_queue_that_is_consumed_later_is_looked_at(
    own: RedisServer, connect: Callable[..., Connection]
) -> None:
    connection = connect()
    reader = Reader(connection, WORK)
    reader.channel.brpop_timeout = 3600
    with pytest.raises(socket.timeout):
        connection.drain_events(timeout=0.1)
    send(own, "o1", queue=OTHER)

    reader.consumer.add_queue(OTHER)
    reader.consumer.consume()
    reader.drain_until(lambda: len(reader.messages) == 1)

    assert reader.bodies == ["o1"]


def test_what_is_no_message_is_dropped_and_logged(
    own: RedisServer, connect: Callable[..., Connection], caplog: pytest.LogCaptureFixture
) -> None:
    with own.client() as client:
        client.lpush("work", "no message")
    send(own, "1")
    reader = Reader(connect(), WORK)

    reader.drain_until(lambda: len(reader.messages) == 1)

    assert reader.bodies == ["1"]
    [line] = [one.getMessage() for one in caplog.records if "no message" in one.getMessage()]
    assert "work" in line


def test_queues_without_acknowledgements_are_read_as_by_kombu(
    own: RedisServer, connect: Callable[..., Connection]
) -> None:
    send(own, "1")
    got: list[Message] = []
    connection = connect()
    consumer = connection.Consumer([WORK], on_message=got.append, no_ack=True)
    consumer.consume()
    assert not cast("Any", consumer.channel).converses

    while not got:
        connection.drain_events(timeout=patience(10))

    assert got[0].payload == "1"
    assert recorded(own) == (0, 0)


def test_a_server_that_cannot_tell_of_changes_is_asked_as_by_kombu(
    own: RedisServer, connect: Callable[..., Connection], caplog: pytest.LogCaptureFixture
) -> None:
    with own.client() as client:
        rules = ("on", ">secret", "~*", "&*", "+@all", "-client|tracking")
        cast("Any", client).execute_command("ACL", "SETUSER", "limited", "reset", *rules)
    send(own, "1")

    reader = Reader(connect(f"redis://limited:secret@{own.host}:{own.port}/0"), WORK)
    reader.drain_until(lambda: len(reader.messages) == 1)

    assert reader.bodies == ["1"]
    assert not reader.channel.converses
    assert "CLIENT TRACKING" in caplog.text
