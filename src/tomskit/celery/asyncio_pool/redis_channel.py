"""kombu's channels on Redis, waiting in the loop.

The worker talks to the broker in blocking calls, and while it waits for an answer no coroutine runs:
for a fraction of a millisecond each time, and for ever when the broker hangs. With a channel of this
kind the worker waits through the loop.
"""

from __future__ import annotations

import select
from collections.abc import Collection
from typing import TYPE_CHECKING, cast

import redis
from kombu.asynchronous import get_event_loop
from typing_extensions import override

from tomskit.celery._internals import kombu as kombu_types
from tomskit.celery.asyncio_pool.hub import LoopHub
from tomskit.celery.fast_redis.channel import FastChannel
from tomskit.celery.fast_redis.connection import Parts, fast_parts

if TYPE_CHECKING:
    from socket import socket

    from kombu.message import Message

__all__ = ("Outstanding", "waiting_parts")


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
        def can_read(self) -> bool: ...

else:
    _Connection = object


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
                # It may have come with what was read before.
                if not self.can_read() and not answer.poll(_PATIENCE_MS):
                    hub.wait_readable(sock.fileno())
        return super().read_response(*args, **kwargs)


class _WaitingQoS(kombu_types.QoS):
    """Remembers what could not be told to Redis any more when the connection was lost."""

    if TYPE_CHECKING:
        channel: _WaitingChannel

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


class _WaitingChannel(kombu_types.Channel):
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


def waiting_parts(*, fast: bool) -> Parts:
    """What the connections of a worker with the pool are made of.

    Args:
        fast: Whether they take the fast path.
    """
    path = fast_parts(tasks_run="elsewhere") if fast else Parts()
    return Parts(
        channel=(*path.channel, _WaitingChannel),
        qos=(*path.qos, _WaitingQoS),
        connection=(_WaitingConnection,),
        fast=fast,
    )


class Outstanding:
    """What a channel has delivered, and nobody has acknowledged, when its connection is lost.

    kombu gives such messages back when it closes the channel. Where the broker is away that fails,
    and Redis would deliver them after the visibility timeout, an hour by default. It would also
    deliver tasks again that run meanwhile, or that had been acknowledged in the moment of the loss.

    Args:
        channel: It will not give anything back by itself any more.
    """

    def __init__(self, channel: _WaitingChannel) -> None:
        channel.do_restore = False
        qos = cast("kombu_types.QoS", channel.qos)
        self._acknowledged = set(channel.unacknowledged)
        self._taken_at: list[float] = []
        if isinstance(channel, FastChannel) and channel.ack_emulation:
            self._acknowledged |= channel.qos.take_untold()
            self._taken_at = channel.conversation.taken_at
        self._tags = set(qos._delivered) - qos._dirty - self._acknowledged  # noqa: SLF001
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
        kombu_channel = cast("kombu_types.Channel", channel)
        for tag in self._acknowledged:
            kombu_channel.qos.ack(tag)  # at once: this is not the worker's own thread
        for tag in self._tags - set(running):
            kombu_channel.qos.restore_by_tag(tag)
        for time in self._taken_at:
            # Redis has sent them, and they have not come.
            with kombu_channel.conn_or_acquire() as client:
                tags = cast("kombu_types.Ranges", client).zrange(
                    kombu_channel.unacked_index_key, time, time, byscore=True
                )
            for tag in {tag.decode() for tag in tags} - set(running):
                kombu_channel.qos.restore_by_tag(tag)
        for tag, message in self._unrecorded.items():
            with kombu_channel.conn_or_acquire() as client:
                if client.hexists(kombu_channel.unacked_key, tag):
                    kombu_channel.qos.restore_by_tag(tag)
                    continue
                kombu_channel._do_restore_message(  # noqa: SLF001
                    cast("kombu_types.Raw", message)._raw,  # noqa: SLF001
                    message.delivery_info["exchange"],
                    message.delivery_info["routing_key"],
                    client,
                )
