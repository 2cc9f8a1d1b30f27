"""kombu's channels on Redis, waiting for answers in the loop instead of in the socket.

The worker talks to the broker in blocking calls, and while it waits for an answer no coroutine runs:
for a fraction of a millisecond each time, and for ever when the broker hangs. With a channel of this
kind the worker waits through the loop.
"""

from __future__ import annotations

import select
from collections.abc import Collection
from contextlib import AbstractContextManager
from functools import cache
from typing import TYPE_CHECKING, Protocol, cast

import redis
from kombu import Connection
from kombu.asynchronous import get_event_loop
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

        def append(self, message: Message, delivery_tag: str) -> None: ...
        def ack(self, delivery_tag: str) -> None: ...

    class _Channel:
        """As before."""

        pool: object
        connection: _KombuTransport | None
        connection_errors: tuple[type[Exception], ...]

        def __init__(self, *args: object, **kwargs: object) -> None: ...
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
    """Remembers what could not be told to Redis any more."""

    @override
    def append(self, message: Message, delivery_tag: str) -> None:
        try:
            super().append(message, delivery_tag)
        except self.channel.connection_errors:
            # Redis has handed it out, and does not know to whom.
            self.channel.unrecorded[delivery_tag] = message
            raise

    @override
    def ack(self, delivery_tag: str) -> None:
        try:
            super().ack(delivery_tag)
        except self.channel.connection_errors:
            self.channel.unacknowledged.add(delivery_tag)
            raise


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
        super().__init__(*args, **kwargs)

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
        self._acknowledged = channel.unacknowledged
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
            kombu_channel.qos.ack(tag)
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
