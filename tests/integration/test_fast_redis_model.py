"""Messages on the fast path and on kombu's own transport, against a model of where each of them is."""

from __future__ import annotations

import time
from base64 import b64decode
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from kombu import Connection, Queue
from kombu.message import Message
from kombu.utils.json import loads
from typing_extensions import override

from tests.support.patience import patience, wait_until
from tests.support.servers import RedisServer
from tomskit.celery.asyncio_pool.redis_channel import waiting_parts
from tomskit.celery.fast_redis.parts import Parts, connection_class, fast_parts

QUEUES = [Queue("one"), Queue("two")]
PRIORITIES = (0, 3, 6, 9)
PREFETCH = 4
SECONDS = 10.0

KINDS: dict[str, Parts] = {
    "elsewhere": fast_parts(tasks_run="elsewhere"),
    "turn": fast_parts(tasks_run="in the turn"),
    "asyncio": waiting_parts(fast=True),
    "kombu": Parts(),
}


@dataclass
class Consumer:
    """One that lives.

    Attributes:
        held: What it was given, and has neither acknowledged nor given back.
        untold: What it has acknowledged, rejected or given back since its last turn.
    """

    kind: str
    connection: Connection
    channel: Any
    held: list[Message] = field(default_factory=list[Message])
    untold: set[str] = field(default_factory=set[str])
    got: list[Message] = field(default_factory=list[Message])

    @property
    def room(self) -> int:
        return PREFETCH - len(self.held)


class Transport(RuleBasedStateMachine):
    """Messages are sent, received, ended, given back; consumers die, and others clean up."""

    server: ClassVar[RedisServer]

    def __init__(self) -> None:
        super().__init__()
        self.redis: Any = self.server.client()
        self.redis.flushall()
        self.sender = Connection(f"redis://{self.server.host}:{self.server.port}")
        self.consumers: list[Consumer] = []
        self.priority: dict[str, int] = {}
        self.waiting: set[str] = set()
        """In a queue."""
        self.out: set[str] = set()
        """Taken, by one who lives or who has died."""
        self.perhaps: set[str] = set()
        """Ended by one who has died before Redis was surely told."""
        self.seen: set[str] = set()

    @initialize(kinds=st.lists(st.sampled_from(sorted(KINDS)), min_size=2, max_size=2))
    def begin(self, kinds: list[str]) -> None:
        self.consumers = [self.start(kind) for kind in kinds]

    def start(self, kind: str) -> Consumer:
        url = f"redis://{self.server.host}:{self.server.port}"
        # Else what was not told of would be found by looking every second.
        options = {"polling_interval": 300}
        connection = connection_class(KINDS[kind])(url, transport_options=options)
        consumer = Consumer(kind, connection, connection.default_channel)
        kombu_consumer = connection.Consumer(QUEUES, on_message=consumer.got.append)
        kombu_consumer.qos(prefetch_count=PREFETCH)
        kombu_consumer.consume()
        return consumer

    # -- what happens

    @rule(queue=st.sampled_from(QUEUES), priority=st.sampled_from(PRIORITIES))
    def send(self, queue: Queue, priority: int) -> None:
        body = str(len(self.priority))
        with self.sender.Producer() as producer:
            producer.publish(body, routing_key=queue.name, declare=[queue], priority=priority)
        self.priority[body] = priority
        self.waiting.add(body)

    @rule(index=st.integers(0, 1))
    def receive(self, index: int) -> None:
        consumer = self.consumers[index]
        wanted = min(consumer.room, len(self.waiting))
        end = time.monotonic() + patience(SECONDS)
        self.take_turn(consumer)
        while len(consumer.got) < wanted:
            assert time.monotonic() < end, f"{consumer.kind} was not told of messages"
            try:
                consumer.connection.drain_events(timeout=0.2)
            except TimeoutError:
                continue
        self.take(consumer, wanted)

    def take(self, consumer: Consumer, wanted: int) -> None:
        got, consumer.got[:] = list(consumer.got), []
        bodies = [cast("str", message.payload) for message in got]
        assert len(bodies) == wanted
        for message, body in zip(got, bodies, strict=True):
            assert body in self.waiting, f"{body} was delivered, and somebody has it"
            information = cast("dict[str, object]", message.delivery_info)
            # Nobody is given a message again without being told so.
            assert bool(information.get("redelivered")) is (body in self.seen)
        # What is more urgent comes first.
        priorities = [self.priority[body] for body in bodies]
        assert priorities == sorted(self.priority[body] for body in self.waiting)[:wanted]
        self.waiting.difference_update(bodies)
        self.out.update(bodies)
        self.seen.update(bodies)
        consumer.held += got

    def take_turn(self, consumer: Consumer) -> None:
        """Let it tell Redis what it has to tell."""
        conversation = getattr(consumer.channel, "conversation", None)
        if conversation is not None:
            poller_of(consumer).on_poll_start()
            conversation.finish()
            poller_of(consumer).on_poll_start()
            conversation.finish()
        consumer.untold.clear()

    @precondition(lambda self: any(consumer.held for consumer in self.consumers))
    @rule(data=st.data(), end=st.sampled_from(["ack", "reject", "requeue"]))
    def end(self, data: st.DataObject, end: str) -> None:
        consumer = data.draw(st.sampled_from([one for one in self.consumers if one.held]))
        message = consumer.held.pop(data.draw(st.integers(0, len(consumer.held) - 1)))
        body = cast("str", message.payload)
        if end == "requeue":
            message.requeue()
            self.out.discard(body)
            self.waiting.add(body)
            # It tells Redis in its turn, in which it may get the message again.
            self.receive(self.consumers.index(consumer))
        else:
            (message.ack if end == "ack" else message.reject)()
            consumer.untold.add(body)
            self.out.discard(body)
            self.perhaps.add(body)

    @rule(index=st.integers(0, 1), kind=st.sampled_from(sorted(KINDS)), asked=st.booleans())
    def die(self, index: int, kind: str, asked: bool) -> None:
        """A worker is killed, in the middle of a question to Redis or not."""
        consumer = self.consumers[index]
        conversation = getattr(consumer.channel, "conversation", None)
        if asked and conversation is not None:
            poller_of(consumer).on_poll_start()
        self.kill(consumer)
        self.consumers[index] = self.start(kind)
        # What it may have taken with its last breath.
        self.look_again()

    def kill(self, consumer: Consumer) -> None:
        channel = consumer.channel
        ports = ports_of(channel.pool) | ports_of(channel.async_pool)
        channel.do_restore = False
        channel.qos._delivered.clear()
        channel.pool.disconnect()
        connection = channel.client.connection
        if connection is not None:
            connection.disconnect()
        channel.async_pool.disconnect()
        # Redis has done what it was told when it has noticed that nobody is there.
        wait_until(
            lambda: ports.isdisjoint(
                int(one["addr"].split(":")[1]) for one in self.server.clients()
            ),
            SECONDS,
            "Redis has closed the connections of the dead one",
        )

    def look_again(self) -> None:
        """Let the model follow what the last command of one who died has done."""
        waiting, out = self.found()
        moved = self.waiting - set(waiting)
        assert moved <= set(out)
        self.waiting -= moved
        self.out |= moved
        self.seen |= moved  # Redis says so

    @rule()
    def clean_up(self) -> None:
        """kombu gives back what a dead one had, as it does after the visibility timeout."""
        living = {
            cast("str", message.delivery_tag) for one in self.consumers for message in one.held
        }
        untold = {body for one in self.consumers for body in one.untold}
        with Connection(f"redis://{self.server.host}:{self.server.port}") as connection:
            channel = cast("Any", connection.default_channel)
            for tag, raw in cast("dict[str, str]", self.redis.hgetall("unacked")).items():
                body = body_of(loads(raw)[0])
                if tag in living or body in untold:
                    continue
                channel.qos.restore_by_tag(tag)
                # Acknowledged by a dead one, and Redis was not told: it is to run again.
                self.perhaps.discard(body)
                self.out.discard(body)
                self.waiting.add(body)

    # -- what holds

    def found(self) -> tuple[list[str], list[str]]:
        """The messages in queues, and the unacknowledged ones."""
        waiting = [
            body_of(loads(raw))
            for key in self.redis.scan_iter()
            if not key.startswith(("_kombu", "unacked"))
            for raw in self.redis.lrange(key, 0, -1)
        ]
        recorded = cast("dict[str, str]", self.redis.hgetall("unacked"))
        return waiting, [body_of(loads(raw)[0]) for raw in recorded.values()]

    @invariant()
    def each_message_is_in_one_place(self) -> None:
        waiting, out = self.found()
        counted = Counter(waiting + out)
        assert not [body for body, count in counted.items() if count > 1]
        assert set(waiting) == self.waiting
        # Else it would never be delivered again.
        assert set(self.redis.hkeys("unacked")) <= set(self.redis.zrange("unacked_index", 0, -1))
        assert self.out <= set(out)
        assert set(out) - self.out <= self.perhaps

    @override
    def teardown(self) -> None:
        try:
            for consumer in self.consumers:
                self.take_turn(consumer)
                self.take(consumer, len(consumer.got))
                consumer.connection.release()
                if consumer.kind == "kombu" and consumer.channel._pool is not None:
                    # It gives messages back on a connection that it leaves open.
                    consumer.channel._pool.disconnect()
                bodies = {cast("str", message.payload) for message in consumer.held}
                self.out -= bodies
                self.waiting |= bodies
                consumer.held.clear()
            self.clean_up()
            assert not self.out
            self.each_message_is_in_one_place()
        finally:
            for consumer in self.consumers:
                consumer.connection.release()
            self.sender.release()
            self.redis.close()


def poller_of(consumer: Consumer) -> Any:
    return cast("Any", consumer.connection.transport).cycle


def ports_of(pool: Any) -> set[int]:
    """The ports of a pool's connections on this side."""
    connections = [*pool._available_connections, *pool._in_use_connections]
    return {one._sock.getsockname()[1] for one in connections if one._sock is not None}


def body_of(message: dict[str, Any]) -> str:
    return b64decode(message["body"]).decode()


def test_no_message_is_lost_or_delivered_twice() -> None:
    with RedisServer() as server:
        Transport.server = server
        Transport.TestCase.settings = settings(
            max_examples=30,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        )
        case = Transport.TestCase()
        case.runTest()
