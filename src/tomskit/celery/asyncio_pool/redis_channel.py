"""kombu's channels on Redis: waiting in the loop, and many messages in one go.

The worker talks to the broker in blocking calls, and while it waits for an answer no coroutine runs:
for a fraction of a millisecond each time, and for ever when the broker hangs. With a channel of this
kind the worker waits through the loop.
"""

from __future__ import annotations

import select
import time
from collections import deque
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, cast

import redis
from kombu import Connection
from kombu.asynchronous import get_event_loop
from kombu.transport import virtual
from kombu.utils.json import loads
from typing_extensions import override

from tomskit.celery.asyncio_pool.hub import LoopHub

if TYPE_CHECKING:
    from socket import socket

    from kombu.message import Message

__all__ = ("Outstanding", "wait_in_loop")


_PATIENCE_MS = 5
"""How long the worker waits in the socket. A broker answers within a fraction of a millisecond, and
turns of the loop for each answer cost more than that; one that does not is waited for in the loop."""


if TYPE_CHECKING:

    class _Connection:
        """redis-py's, which is not typed."""

        _sock: socket | None

        def connect(self) -> None: ...
        def send_packed_command(self, *args: object, **kwargs: object) -> None: ...
        def read_response(self, *args: object, **kwargs: object) -> object: ...

    class _QoS:
        """kombu's, of which the stubs know nothing."""

        channel: _WaitingChannel
        unacked_key: str
        unacked_index_key: str

        def __init__(self, *args: object, **kwargs: object) -> None: ...
        def can_consume_max_estimate(self) -> int | None: ...
        def restore_by_tag(self, tag: str) -> None: ...
        def pipe_or_acquire(self) -> AbstractContextManager[_Pipeline]: ...
        def append(self, message: Message, delivery_tag: str) -> None: ...
        def ack(self, delivery_tag: str) -> None: ...

    class _Channel:
        """As before."""

        pool: object
        qos: _WaitingQoS
        closed: bool
        ack_emulation: bool
        active_queues: list[str]
        global_keyprefix: str
        priority_steps: list[int]
        unacked_key: str
        unacked_index_key: str
        _queue_cycle: _Cycle
        connection: _KombuTransport | None
        connection_errors: tuple[type[Exception], ...]

        def __init__(self, *args: object, **kwargs: object) -> None: ...
        def close(self) -> None: ...
        def basic_consume(self, queue: str, no_ack: bool = False, **kwargs: object) -> object: ...
        def _brpop_read(self, **options: object) -> object: ...
        def _q_for_pri(self, queue: str, priority: int) -> str: ...
        def _get_pool(self, asynchronous: bool = False) -> object: ...
        def _create_client(self, asynchronous: bool = False) -> redis.Redis: ...

else:
    _Connection = _Channel = _QoS = object


class _WaitingConnection(_Connection):
    """Waits in the loop for an answer that does not come at once, where the worker waits for it."""

    _asked = False

    @override
    def connect(self) -> None:
        hub = get_event_loop()
        if self._sock is None and isinstance(hub, LoopHub) and hub.can_turn():
            # A connection that was lost is made again in the middle of a read.
            hub.run_in_thread(super().connect)
        else:
            super().connect()

    @override
    def send_packed_command(self, *args: object, **kwargs: object) -> None:
        self._asked = True
        super().send_packed_command(*args, **kwargs)

    @override
    def read_response(self, *args: object, **kwargs: object) -> object:
        if self._asked:
            # What follows the first answer in a pipeline is there with it, or on its way.
            self._asked = False
            hub, sock = get_event_loop(), self._sock
            if isinstance(hub, LoopHub) and hub.can_turn() and sock is not None:
                answer = select.poll()
                answer.register(sock, select.POLLIN)
                if not answer.poll(_PATIENCE_MS):
                    hub.wait_readable(sock.fileno())
        return super().read_response(*args, **kwargs)


class _WaitingQoS(_QoS):
    """Acknowledges the messages of a turn of the worker's loop in one go.

    And remembers what could not be told to Redis any more when the connection was lost.
    """

    def __init__(self, *args: object, **kwargs: object) -> None:
        self.pending: list[str] = []
        self._hub: LoopHub | None = None
        super().__init__(*args, **kwargs)

    @override
    def append(self, message: Message, delivery_tag: str) -> None:
        if self.channel.fetching:
            # It was recorded with the others that were fetched.
            virtual.QoS.append(cast("virtual.QoS", self), message, delivery_tag)
            return
        try:
            super().append(message, delivery_tag)
        except self.channel.connection_errors:
            # Redis has handed it out, and does not know to whom.
            self.channel.unrecorded[delivery_tag] = message
            raise

    @override
    def ack(self, delivery_tag: str) -> None:
        hub = get_event_loop()
        if not isinstance(hub, LoopHub) or not hub.can_turn() or self.channel.closed:
            super().ack(delivery_tag)
            return
        if self._hub is None:
            self._hub = hub
            cast("_Ticking", hub).on_tick.add(self.flush)
        self.pending.append(delivery_tag)
        virtual.QoS.ack(cast("virtual.QoS", self), delivery_tag)

    def flush(self) -> None:
        """Tell Redis what was acknowledged since the last time."""
        if not self.pending:
            return
        tags, self.pending = self.pending, []
        try:
            with self.pipe_or_acquire() as pipe:
                pipe.zrem(self.unacked_index_key, *tags)
                pipe.hdel(self.unacked_key, *tags)
                pipe.execute()
        except self.channel.connection_errors:
            self.channel.unacknowledged.update(tags)
            raise

    def stop_flushing(self) -> None:
        """Tell it the rest, at the end of the channel."""
        if self._hub is not None:
            cast("_Ticking", self._hub).on_tick.discard(self.flush)
        self.flush()


class _Ticking(Protocol):
    on_tick: set[Callable[[], None]]


_FETCH = """
-- Takes up to ARGV[2] messages from the lists ARGV[5...], and records them as kombu does.
-- KEYS[1]: times by tag. ARGV: now, how many, messages by tag, lists for each priority, lists.
local left, width, out = tonumber(ARGV[2]), tonumber(ARGV[4]), {}
for first = 5, #ARGV, width do
    local empty = 0
    while left > 0 and empty < width do
        empty = 0
        for place = first, first + width - 1 do
            local raw = left > 0 and redis.call('RPOP', ARGV[place])
            if raw then
                local ok, message = pcall(cjson.decode, raw)
                local properties = ok and message['properties']
                if not properties or not properties['delivery_tag'] then
                    redis.call('RPUSH', ARGV[place], raw)
                    return out
                end
                local tag, info = properties['delivery_tag'], properties['delivery_info']
                redis.call('ZADD', KEYS[1], ARGV[1], tag)
                redis.call('HSET', ARGV[3], tag, '[' .. raw .. ',' ..
                    cjson.encode(info['exchange'] or '') .. ',' ..
                    cjson.encode(info['routing_key'] or '') .. ']')
                out[#out + 1] = (place - 5) % width
                out[#out + 1] = raw
                left = left - 1
            else
                empty = empty + 1
            end
        end
    end
end
return out
"""

_FETCH_AT_ONCE = 100
"""Messages. More make a turn longer, and bring little: what one call costs is shared by then."""


class _WaitingChannel(_Channel):
    """Makes a client for all its commands, where kombu makes one for each (0.1 ms with redis-py 8).

    And what it has delivered it can acknowledge and restore also after its connection was lost: a
    delivery tag on Redis is not a matter of the connection.
    """

    _client_of_pool: tuple[object, redis.Redis] | None = None
    _last_pool: object = None

    def __init__(self, *args: object, **kwargs: object) -> None:
        self.unrecorded: dict[str, Message] = {}
        self.unacknowledged: set[str] = set()
        self.fetching: bool = False
        self._acknowledging: set[str] = set()
        self._fetch: Callable[..., list[Any]] | None = None
        super().__init__(*args, **kwargs)

    @override
    def basic_consume(self, queue: str, no_ack: bool = False, **kwargs: object) -> object:
        if not no_ack:
            self._acknowledging.add(queue)
        return super().basic_consume(queue, no_ack=no_ack, **kwargs)

    @override
    def _brpop_read(self, **options: object) -> object:
        delivered = super()._brpop_read(**options)
        self._fetch_more()
        return delivered

    def _fetch_more(self) -> None:
        """After one message that has come, take those behind it as well, as many as may be."""
        qos = self.qos
        queues = [queue for queue in self.active_queues if queue in self._acknowledging]
        # Where prefetching is disabled, Celery has put a rule of its own in this place.
        if not queues or not self.ack_emulation or "can_consume" in vars(qos):
            return
        credit = qos.can_consume_max_estimate()
        count = _FETCH_AT_ONCE if credit is None else min(credit, _FETCH_AT_ONCE)
        if count <= 0:
            return
        order = [q for q in self._queue_cycle.consume(len(self.active_queues)) if q in queues]
        lists = [
            self.global_keyprefix + self._q_for_pri(queue, priority)
            for priority in self.priority_steps
            for queue in order
        ]
        client = self._create_client()
        if self._fetch is None:
            self._fetch = cast("_Scripting", client).register_script(_FETCH)
        # kombu's client puts the prefix before the first key, and before nothing else of a script.
        answer = self._fetch(
            keys=[self.unacked_index_key],
            args=[
                time.time(),
                count,
                self.global_keyprefix + self.unacked_key,
                len(order),
                *lists,
            ],
            client=client,
        )
        fetched: deque[tuple[int, dict[str, Any]]] = deque(
            (place, loads(raw)) for place, raw in zip(answer[::2], answer[1::2], strict=True)
        )
        self.fetching = True
        try:
            while fetched:
                place, payload = fetched.popleft()
                cast("_Delivering", self.connection)._deliver(payload, order[place])  # noqa: SLF001
        except BaseException:
            for _, payload in fetched:
                qos.restore_by_tag(payload["properties"]["delivery_tag"])
            raise
        finally:
            self.fetching = False

    @override
    def close(self) -> None:
        try:
            self.qos.stop_flushing()
        finally:
            super().close()

    @override
    def _get_pool(self, asynchronous: bool = False) -> object:
        if asynchronous:
            return super()._get_pool(asynchronous=True)
        transport = self.connection
        if self._last_pool is None or (transport is not None and transport.client is not None):
            self._last_pool = super()._get_pool()
        # Once closed, kombu's does not know any more where the server is.
        return self._last_pool

    @override
    def _create_client(self, asynchronous: bool = False) -> redis.Redis:
        if asynchronous:
            return super()._create_client(asynchronous=True)
        pool, known = self.pool, self._client_of_pool
        if known is None or known[0] is not pool:
            known = self._client_of_pool = (pool, super()._create_client())
        return known[1]


class _Pipeline(Protocol):
    def zrem(self, key: str, *members: str) -> object: ...
    def hdel(self, key: str, *fields: str) -> object: ...
    def execute(self) -> object: ...


class _Scripting(Protocol):
    def register_script(self, script: str, /) -> Callable[..., list[Any]]: ...


class _Delivering(Protocol):
    def _deliver(self, message: object, queue: str) -> None: ...


class _KombuTransport(Protocol):
    driver_type: str
    client: object
    Channel: type


def wait_in_loop(connection: Connection) -> Connection:
    """Let the channels of a connection that is not open yet wait in the loop, if they can."""
    transport = cast("_KombuTransport", connection.transport)
    if transport.driver_type == "redis":
        transport.Channel = _waiting_channel(transport.Channel)
    return connection


@cache
def _waiting_channel(channel: type) -> type:
    return type(
        channel.__name__,
        (_WaitingChannel, channel),
        {
            "QoS": type("QoS", (_WaitingQoS, cast("_Classes", channel).QoS), {}),
            "connection_class": _waiting_connection(cast("_Classes", channel).connection_class),
            "connection_class_ssl": _waiting_connection(
                cast("_Classes", channel).connection_class_ssl
            ),
        },
    )


class _Classes(Protocol):
    QoS: type
    connection_class: type
    connection_class_ssl: type


@cache
def _waiting_connection(connection: type) -> type:
    return type(connection.__name__, (_WaitingConnection, connection), {})


class Outstanding:
    """What a channel has delivered, and nobody has acknowledged, when its connection is lost.

    kombu gives such messages back when it closes the channel. Where the broker is away that fails,
    and Redis would deliver them after the visibility timeout, an hour by default. It would also
    deliver tasks again that run meanwhile, or that had been acknowledged in the moment of the loss.

    Args:
        channel: It will not give anything back by itself any more.
    """

    def __init__(self, channel: _WaitingChannel) -> None:
        kombu_channel = cast("_KombuChannel", channel)
        kombu_channel.do_restore = False
        qos = kombu_channel.qos
        self._tags = set(qos._delivered) - qos._dirty - channel.unacknowledged  # noqa: SLF001
        self._acknowledged = channel.unacknowledged | set(channel.qos.pending)
        channel.qos.pending = []
        self._unrecorded = channel.unrecorded

    @classmethod
    def of(cls, channel: object) -> Outstanding | None:
        """What a channel leaves; None of one that cannot give it back from another connection."""
        return cls(channel) if isinstance(channel, _WaitingChannel) else None

    def settle(self, channel: object, running: Collection[str]) -> None:
        """Acknowledge and give back what there is.

        Args:
            channel: One of a connection that works.
            running: The delivery tags of running tasks, which acknowledge them themselves.
        """
        kombu_channel = cast("_KombuChannel", channel)
        for tag in self._acknowledged:
            kombu_channel.qos.ack(tag)  # at once: this is not the worker's own thread
        for tag in self._tags - set(running):
            kombu_channel.qos.restore_by_tag(tag)
        for tag, message in self._unrecorded.items():
            with kombu_channel.conn_or_acquire() as client:
                if client.hexists(kombu_channel.unacked_key, tag):
                    kombu_channel.qos.restore_by_tag(tag)
                    continue
                kombu_channel._do_restore_message(  # noqa: SLF001
                    cast("_Raw", message)._raw,  # noqa: SLF001
                    message.delivery_info["exchange"],
                    message.delivery_info["routing_key"],
                    client,
                )


class _Cycle(Protocol):
    def consume(self, n: int) -> list[str]: ...


class _Raw(Protocol):
    _raw: dict[str, object]


class _KombuQoS(Protocol):
    _delivered: dict[str, Message]
    _dirty: set[str]

    def ack(self, tag: str) -> None: ...
    def restore_by_tag(self, tag: str) -> None: ...


class _KombuChannel(Protocol):
    do_restore: bool
    qos: _KombuQoS
    unacked_key: str

    def conn_or_acquire(self) -> AbstractContextManager[redis.Redis]: ...
    def _do_restore_message(
        self, payload: dict[str, object], exchange: object, routing_key: object, client: object
    ) -> None: ...
