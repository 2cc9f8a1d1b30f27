"""What happens to messages between a channel of the fast path and Redis, step by step."""

from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from socket import SHUT_WR
from typing import Any, cast

import pytest
from kombu import Connection, Queue
from kombu.message import Message
from kombu.utils.json import loads
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.support.loops import sockets
from tests.support.patience import patience, slowed, wait_until
from tests.support.proxy import Proxy
from tests.support.servers import RedisServer
from tests.support.servers.redis import call
from tomskit.celery.asyncio_pool.redis_channel import waiting_parts
from tomskit.celery.fast_redis.outstanding import Outstanding
from tomskit.celery.fast_redis.parts import Parts, connection_class, fast_parts, kombu_parts

QUEUE = Queue("work")
ALL_PARTS = {
    "fast": fast_parts(tasks_run="elsewhere"),
    "fast, in the turn": fast_parts(tasks_run="in the turn"),
    "kombu": kombu_parts(),
    "asyncio, fast": waiting_parts(fast=True),
    "asyncio, kombu": waiting_parts(fast=False),
}
SOME = ("fast", "kombu", "asyncio, fast")


@dataclass(frozen=True)
class Broker:
    """A server, and what stands in front of its keys."""

    server: RedisServer
    prefix: str
    port: int | None = None
    timeout: float | None = None

    def connect(self, parts: Parts) -> Connection:
        url = f"redis://{self.server.host}:{self.port or self.server.port}"
        options = {"global_keyprefix": self.prefix, "socket_timeout": self.timeout}
        return connection_class(parts)(url, transport_options=options)

    def waiting(self) -> list[str]:
        """The bodies in the queue, the next one first."""
        with self.server.client() as client:
            raws = cast("list[bytes]", client.lrange(f"{self.prefix}work", 0, -1))
        return [b64decode(loads(raw)["body"]).decode() for raw in reversed(raws)]

    def recorded(self) -> tuple[int, int]:
        """How many messages are recorded as unacknowledged, and how many times of such."""
        with self.server.client() as client:
            return (
                client.hlen(f"{self.prefix}unacked"),
                client.zcard(f"{self.prefix}unacked_index"),
            )

    def take(self) -> bytes:
        """Take the next message as kombu does, before it is recorded."""
        with self.server.client() as client:
            return cast("bytes", client.rpop(f"{self.prefix}work"))


@pytest.fixture(params=["", "mine:"], ids=["", "prefix"])
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    with RedisServer(config=[("appendonly", "yes"), ("appendfsync", "always")]) as running:
        yield Broker(running, request.param)


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


def delivered(connection: Connection, *bodies: str) -> tuple[Any, list[Message]]:
    """A channel that has delivered messages with these bodies, and where it puts what it delivers."""
    got: list[Message] = []
    channel = consume(connection, got.append)
    send(connection, *bodies)
    drain_until(connection, lambda: len(got) == len(bodies))
    return channel, got


def test_a_message_that_is_rejected_comes_again(broker: Broker) -> None:
    got: list[Message] = []

    def on_message(message: Message) -> None:
        got.append(message)
        if len(got) == 1:
            message.reject(requeue=True)
        else:
            message.ack()

    with (
        broker.connect(fast_parts(tasks_run="elsewhere")) as connection,
    ):
        consume(connection, on_message)
        send(connection, "again")
        drain_until(connection, lambda: len(got) == 2)
        connection.release()

        assert broker.recorded() == (0, 0)
        assert [message.payload for message in got] == ["again", "again"]
        assert cast("dict[str, object]", got[1].delivery_info)["redelivered"] is True
        assert broker.waiting() == []


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
    broker: Broker, parts: Parts
) -> None:
    got: list[Message] = []
    assert broker.recorded() == (0, 0)
    before = sockets()
    with broker.connect(parts) as connection:
        consume(connection, got.append)
        send(connection, "one", "two")
        drain_until(connection, lambda: len(got) == 2)

    assert broker.waiting() == ["one", "two"]
    assert sockets() == before


def test_a_fetch_takes_no_more_bytes_than_it_may_beyond_its_first_message(
    broker: Broker,
) -> None:
    got: list[Message] = []

    def on_message(message: Message) -> None:
        got.append(message)
        message.ack()

    with (
        broker.connect(fast_parts(tasks_run="elsewhere", fetch_bytes=3000)) as connection,
        broker.server.client() as client,
    ):
        send(connection, *("x" * 1000 for _ in range(9)))
        size = len(cast("bytes", client.lindex(f"{broker.prefix}work", 0)))
        consume(connection, on_message)
        portions: list[int] = []
        while len(got) < 9:
            before = len(got)
            connection.drain_events(timeout=patience(10))
            portions.append(len(got) - before)
        connection.release()

        assert max(portions) == 1 + 3000 // size
        assert broker.recorded() == (0, 0)


def test_rejected_for_good_it_is_gone(broker: Broker) -> None:
    with (
        broker.connect(fast_parts(tasks_run="elsewhere")) as connection,
    ):
        got: list[Message] = []

        def on_message(message: Message) -> None:
            got.append(message)
            message.reject()

        consume(connection, on_message)
        send(connection, "away")
        drain_until(connection, lambda: len(got) == 1)
        connection.release()

        assert broker.waiting() == []
        assert broker.recorded() == (0, 0)


def test_what_was_fetched_goes_back_in_order_when_one_cannot_be_handled(
    broker: Broker,
) -> None:
    def on_message(message: Message) -> None:
        if message.payload == "2":
            raise RuntimeError("cannot handle it")

    with (
        broker.connect(fast_parts(tasks_run="elsewhere")) as connection,
    ):
        send(connection, "1", "2", "3", "4")
        consume(connection, on_message)
        with pytest.raises(RuntimeError, match="cannot handle it"):
            drain_until(connection, lambda: False)
        assert broker.recorded() == (4, 4)
        connection.release()

        assert broker.waiting() == ["1", "2", "3", "4"]
        assert broker.recorded() == (0, 0)


def test_scripts_that_the_server_has_forgotten_are_sent_again(broker: Broker) -> None:
    got: list[object] = []

    def on_message(message: Message) -> None:
        got.append(message.payload)
        message.ack()

    with (
        broker.connect(fast_parts(tasks_run="elsewhere")) as connection,
        broker.server.client() as client,
    ):
        consume(connection, on_message)
        send(connection, "before")
        drain_until(connection, lambda: got == ["before"])

        client.script_flush()
        send(connection, "after")

        drain_until(connection, lambda: got == ["before", "after"])


def test_messages_of_an_answer_that_was_lost_are_given_back(broker: Broker) -> None:
    parts = waiting_parts(fast=True)
    with (
        broker.connect(parts) as lost,
        broker.connect(parts) as working,
    ):
        send(lost, "1", "2", "3")
        channel = consume(lost, lambda message: pytest.fail(f"{message} came"))
        cast("Any", lost.transport).cycle.on_poll_start()
        wait_until(lambda: broker.recorded() == (3, 3), 10, "Redis took the command")
        channel.client.connection.disconnect()

        outstanding = Outstanding.of(channel)
        assert outstanding is not None
        outstanding.settle(working.default_channel, running=())

        assert sorted(broker.waiting()) == ["1", "2", "3"]
        assert broker.recorded() == (0, 0)


@pytest.fixture(params=[*ALL_PARTS.values()], ids=[*ALL_PARTS])
def parts(request: pytest.FixtureRequest) -> Parts:
    """Those of each pool and path."""
    return cast("Parts", request.param)


def lose(connection: Connection, channel: Any) -> Outstanding:
    """What a channel leaves when its connection is lost, and closed as a worker does."""
    outstanding = Outstanding.of(channel)
    assert outstanding is not None
    channel.abandon()
    connection.collect()
    return outstanding


def notice(connection: Connection) -> None:
    """Run the worker's loop until it notices that its connection is lost."""
    with pytest.raises((RedisConnectionError, OSError)):
        drain_until(connection, lambda: False)


def test_an_acknowledgement_that_redis_did_not_hear_is_made_good(
    broker: Broker, parts: Parts
) -> None:
    with broker.connect(parts) as lost, broker.connect(parts) as working:
        channel, got = delivered(lost, "1")
        broker.server.kill()
        got[0].ack()
        notice(lost)
        outstanding = lose(lost, channel)
        broker.server.start()

        assert broker.recorded() == (1, 1)
        outstanding.settle(working.default_channel, running=())
        assert broker.recorded() == (0, 0)
        assert broker.waiting() == []


def test_tasks_that_end_before_there_is_another_connection_have_ended(
    broker: Broker, parts: Parts
) -> None:
    with broker.connect(parts) as lost, broker.connect(parts) as working:
        channel, got = delivered(lost, "1", "2", "3", "4")
        broker.server.kill()
        notice(lost)
        outstanding = lose(lost, channel)
        got[0].ack()
        got[1].reject()
        got[2].reject(requeue=True)
        broker.server.start()

        outstanding.settle(working.default_channel, running=())
        assert broker.recorded() == (0, 0)
        assert sorted(broker.waiting()) == ["3", "4"]


def test_tasks_that_end_on_the_next_connection_have_ended(broker: Broker, parts: Parts) -> None:
    again: list[Message] = []
    with broker.connect(parts) as lost, broker.connect(parts) as working:
        channel, got = delivered(lost, "1", "2", "3")
        broker.server.kill()
        notice(lost)
        outstanding = lose(lost, channel)
        broker.server.start()
        following = consume(working, again.append)
        outstanding.settle(following, running=[str(one.delivery_tag) for one in got])
        assert broker.recorded() == (3, 3)

        got[0].ack()
        got[1].reject(requeue=True)
        drain_until(working, lambda: len(again) == 1)
        assert again[0].payload == got[1].payload
        # Once more: what it leaves goes to the one after it.
        broker.server.kill()
        notice(working)
        outstanding = lose(working, following)
        got[2].ack()
        again[0].ack()
        broker.server.start()
        with broker.connect(parts) as last:
            outstanding.settle(last.default_channel, running=())

        assert broker.recorded() == (0, 0)
        assert broker.waiting() == []


def test_tasks_that_never_end_are_given_back_when_the_worker_stops(
    broker: Broker, parts: Parts
) -> None:
    """Also if there was one more connection meanwhile, and not what another worker has got since."""
    with broker.connect(parts) as first, broker.connect(parts) as second:
        channel, got = delivered(first, "1", "2", "3", "4")
        running = [str(one.delivery_tag) for one in got[:3]]
        broker.server.kill()
        notice(first)
        outstanding = lose(first, channel)
        broker.server.start()
        following = second.default_channel
        outstanding.settle(following, running=running)
        got[0].ack()
        outstanding = lose(second, following)
        with broker.connect(parts) as third:
            outstanding.settle(third.default_channel, running=running[1:])
            assert broker.waiting() == ["4"]
            with broker.connect(parts) as other:
                elsewhere: list[Message] = []
                consume(other, elsewhere.append)
                drain_until(other, lambda: len(elsewhere) == 1)
                third.release()

                assert sorted(broker.waiting()) == ["2", "3"]
                assert broker.recorded() == (1, 1)


@pytest.mark.parametrize("requeue", [True, False])
def test_what_redis_refuses_for_a_moment_is_told_in_the_next_turn(
    broker: Broker, requeue: bool
) -> None:
    """Nothing else tells that a connection of kombu's path was lost, on which nobody waits."""
    with broker.connect(kombu_parts()) as connection, broker.server.client() as client:
        channel, got = delivered(connection, "1", "2")
        call(client, "REPLICAOF", "127.0.0.1", "1")
        got[0].ack()
        got[1].reject(requeue=requeue)
        assert broker.recorded() == (2, 2)
        call(client, "REPLICAOF", "NO", "ONE")

        if requeue:
            drain_until(connection, lambda: len(got) == 3)
            assert got[2].payload == "2"
            got[2].ack()
        else:
            channel.connection.cycle.on_poll_start()

        assert broker.recorded() == (0, 0)
        assert broker.waiting() == []


def test_what_redis_goes_on_refusing_is_a_lost_connection(broker: Broker) -> None:
    with broker.connect(kombu_parts()) as connection, broker.server.client() as client:
        channel, got = delivered(connection, "1")
        call(client, "REPLICAOF", "127.0.0.1", "1")
        got[0].ack()
        with pytest.raises(RedisConnectionError, match="read only replica"):
            channel.connection.cycle.on_poll_start()
        call(client, "REPLICAOF", "NO", "ONE")
        assert broker.recorded() == (1, 1)

    assert broker.recorded() == (0, 0)
    assert broker.waiting() == []


@pytest.mark.parametrize("broker", ["mine:"], ids=["prefix"], indirect=True)
@pytest.mark.parametrize("parts", [ALL_PARTS[one] for one in SOME], ids=SOME, indirect=True)
def test_what_is_told_when_a_connection_is_closed_is_told_again_on_a_new_one(
    broker: Broker, parts: Parts
) -> None:
    got: list[Message] = []
    with Proxy(broker.server.host, broker.server.port) as proxy:
        near = replace(broker, port=proxy.port, timeout=slowed(3.0))
        with near.connect(parts) as connection:
            consume(connection, got.append)
            send(connection, "1", "2", "3")
            drain_until(connection, lambda: len(got) == 3)
            # Those that there are answer no more.
            proxy.freeze()
            got[0].ack()
            got[1].reject()

    assert sorted(broker.waiting()) == ["3"]
    assert broker.recorded() == (0, 0)


@pytest.mark.parametrize(
    "parts", [kombu_parts(), waiting_parts(fast=False)], ids=["other", "asyncio"]
)
def test_a_message_that_was_handed_out_and_not_recorded_goes_back(
    broker: Broker, parts: Parts
) -> None:
    with broker.connect(parts) as lost, broker.connect(parts) as working:
        channel = consume(lost, lambda message: pytest.fail(f"{message} came"))
        send(lost, "1")
        raw = broker.take()
        broker.server.kill()
        with pytest.raises((RedisConnectionError, OSError)):
            cast("Any", lost.transport)._deliver(loads(raw), "work")
        outstanding = Outstanding.of(channel)
        assert outstanding is not None
        broker.server.start()

        outstanding.settle(working.default_channel, running=())
        assert broker.waiting() == ["1"]
        assert broker.recorded() == (0, 0)


@pytest.mark.parametrize(
    "parts", [kombu_parts(), waiting_parts(fast=False)], ids=["other", "asyncio"]
)
def test_a_message_that_nobody_has_read_when_another_connection_is_lost_goes_back(
    broker: Broker, parts: Parts
) -> None:
    with broker.connect(parts) as lost, broker.connect(parts) as working:
        channel = consume(lost, lambda message: pytest.fail(f"{message} came"))
        cast("Any", lost.transport).cycle.on_poll_start()
        send(working, "1")
        wait_until(lambda: broker.waiting() == [], 10, "Redis has handed it out")
        outstanding = Outstanding.of(channel)
        assert outstanding is not None
        channel.abandon()

        outstanding.settle(working.default_channel, running=())
        assert broker.waiting() == ["1"]
        assert broker.recorded() == (0, 0)


def test_messages_of_an_answer_after_which_the_connection_is_lost_are_given_back(
    broker: Broker,
) -> None:
    parts = waiting_parts(fast=True)
    with broker.connect(parts) as lost, broker.connect(parts) as working:
        send(lost, "1", "2", "3")
        channel = consume(lost, lambda message: pytest.fail(f"{message} came"))
        cycle = cast("Any", lost.transport).cycle
        cycle.on_poll_start()
        wait_until(lambda: broker.recorded() == (3, 3), 10, "Redis took the command")
        connection = channel.client.connection
        assert connection.can_read(patience(10)), "the answer has arrived"
        # The worker writes before it delivers, and can read what had arrived.
        connection._sock.shutdown(SHUT_WR)
        with pytest.raises((RedisConnectionError, OSError)):
            cycle.on_readable(connection._sock.fileno())

        outstanding = Outstanding.of(channel)
        assert outstanding is not None
        outstanding.settle(working.default_channel, running=())

        assert sorted(broker.waiting()) == ["1", "2", "3"]
        assert broker.recorded() == (0, 0)


def test_what_waits_for_a_slot_is_given_back_once(broker: Broker) -> None:
    parts = waiting_parts(fast=True)
    with broker.connect(parts) as lost, broker.connect(parts) as working:
        channel, got = delivered(lost, "1", "2")
        channel.client.connection.disconnect()

        outstanding = Outstanding.of(channel)
        assert outstanding is not None
        assert Outstanding.of(channel) is None, "it is settled by the first"
        outstanding.settle(working.default_channel, running=[str(got[1].delivery_tag)])

        assert broker.waiting() == ["1"]
        assert broker.recorded() == (1, 1)


def test_a_rejection_that_redis_did_not_hear_is_made_good(broker: Broker) -> None:
    parts = waiting_parts(fast=True)
    with broker.connect(parts) as lost, broker.connect(parts) as working:
        channel, got = delivered(lost, "1", "2")
        broker.server.kill()
        got[0].reject(requeue=True)
        got[1].reject()
        with pytest.raises((RedisConnectionError, OSError)):
            drain_until(lost, lambda: False)
        outstanding = Outstanding.of(channel)
        assert outstanding is not None
        broker.server.start()

        assert broker.recorded() == (2, 2)
        outstanding.settle(working.default_channel, running=())
        assert broker.recorded() == (0, 0)
        assert broker.waiting() == ["1"]


@pytest.mark.parametrize(
    "parts", [fast_parts(tasks_run="elsewhere"), waiting_parts(fast=True)], ids=["other", "asyncio"]
)
def test_what_is_settled_before_a_connection_is_closed_is_settled(
    broker: Broker, parts: Parts
) -> None:
    with broker.connect(parts) as connection:
        channel, got = delivered(connection, "1", "2", "3")
        got[0].ack()
        got[1].reject(requeue=True)
        # Sent, and not answered.
        channel.conversation.turn()
        got[2].ack()
        channel.client.connection.disconnect()

    assert broker.waiting() == ["2"]
    assert broker.recorded() == (0, 0)
