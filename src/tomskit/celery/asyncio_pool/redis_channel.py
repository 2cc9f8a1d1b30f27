"""kombu's channels on Redis, waiting in the loop.

The worker talks to the broker in blocking calls. While it waits for an answer no coroutine runs: for a
fraction of a millisecond each time, and for ever when the broker hangs. With a channel of this kind
the worker waits through the loop.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final

from celery.utils.log import get_logger
from kombu.asynchronous import get_event_loop
from typing_extensions import override

from tomskit.celery._internals.kombu_redis import (
    Channel,
    Message,
    channels_of,
    restore_message,
    unacknowledged_tags,
)
from tomskit.celery._internals.redis_connections import Command
from tomskit.celery.asyncio_pool.hub import LoopHub
from tomskit.celery.asyncio_pool.loop_socket import LoopSocket
from tomskit.celery.fast_redis.channel import FastChannel, give_back_taken
from tomskit.celery.fast_redis.connections import AwayConnection
from tomskit.celery.fast_redis.guarded import GuardedChannel
from tomskit.celery.fast_redis.parts import Parts, fast_parts
from tomskit.celery.fast_redis.permissions import PermittedQoS
from tomskit.celery.fast_redis.poller import WatchfulPoller

if TYPE_CHECKING:
    import redis

__all__ = ("Outstanding", "abandon_channels", "waiting_parts")

logger: Final = get_logger(__name__)


class _WaitingConnection(AwayConnection):
    """Waits in the loop for an answer that does not come at once."""

    @override
    def connect(self) -> None:
        hub = get_event_loop()
        if self._sock is None and isinstance(hub, LoopHub) and hub.can_turn():
            # A connection that was lost is made again in the middle of a read.
            hub.run_in_thread(super().connect)
        else:
            super().connect()

    @override
    def _connect(self) -> object:
        return LoopSocket(super()._connect())


class _WaitingQoS(PermittedQoS):
    """Keeps what could not be sent to Redis any more when the connection was lost."""

    if TYPE_CHECKING:
        channel: _WaitingChannel

    @override
    def append(self, message: Message, delivery_tag: str) -> None:
        try:
            super().append(message, delivery_tag)
        except self.channel.connection_errors:
            # Redis has handed it out and has no record of it.
            self.channel.unrecorded[delivery_tag] = message
            raise

    @override
    def ack(self, delivery_tag: str) -> None:
        try:
            super().ack(delivery_tag)
        except self.channel.connection_errors:
            self.channel.unacknowledged.add(delivery_tag)
            raise


class _WaitingChannel(GuardedChannel):
    """Uses one client for all commands, where kombu makes one for each (0.1 ms with redis-py 8).

    Messages that it has delivered can be acknowledged and restored after its connection was lost: on
    Redis, a delivery tag does not belong to a connection.
    """

    _client_of_pool: tuple[object, redis.Redis] | None = None
    _last_pool: redis.ConnectionPool | None = None

    def __init__(self, *args: object, **kwargs: object) -> None:
        self.unrecorded: dict[str, Message] = {}
        self.unacknowledged: set[str] = set()
        super().__init__(*args, **kwargs)

    def abandon(self) -> None:
        """Close all connections, as they are lost, and say nothing to Redis when it is closed."""
        # Those of remote control, which the next connection of this worker uses again.
        self.auto_delete_queues.clear()
        self.disconnect()

    @override
    def _get_pool(self, asynchronous: bool = False) -> redis.ConnectionPool:
        if asynchronous:
            return super()._get_pool(asynchronous=True)
        transport = self.connection
        if self._last_pool is None or (transport is not None and transport.client is not None):
            self._last_pool = super()._get_pool()
        # A closed channel of kombu does not know any more where the server is.
        return self._last_pool

    @override
    def _create_client(self, asynchronous: bool = False) -> redis.Redis:
        if asynchronous:
            return super()._create_client(asynchronous=True)
        pool, known = self.pool, self._client_of_pool
        if known is None or known[0] is not pool:
            known = self._client_of_pool = (pool, super()._create_client())
        return known[1]


def abandon_channels(connection: object) -> None:
    """Close what the channels of a lost connection of kombu are connected with."""
    for channel in channels_of(connection):
        if isinstance(channel, _WaitingChannel):
            channel.abandon()


def waiting_parts(*, fast: bool, fetch_bytes: int | None = None) -> Parts:
    """The parts of connections of a worker with the pool.

    Args:
        fast: Whether they take the fast path.
        fetch_bytes: How many bytes a fetch of it takes at most, beyond its first message.
    """
    path = (
        fast_parts(tasks_run="elsewhere", fetch_bytes=fetch_bytes)
        if fast
        else Parts(poller=WatchfulPoller)
    )
    return Parts(
        channel=(*path.channel, _WaitingChannel),
        qos=(*path.qos, _WaitingQoS),
        connection=(_WaitingConnection,),
        poller=path.poller,
        fetch_bytes=path.fetch_bytes,
    )


class Outstanding:
    """Messages that a channel has delivered and nobody has acknowledged when its connection is lost.

    kombu gives such messages back when it closes the channel. Where the broker is away that fails,
    and Redis would deliver them after the visibility timeout, an hour by default. It would also
    deliver tasks again that run meanwhile, or that were acknowledged at the moment of the loss.

    Args:
        channel: It gives nothing back by itself any more.
    """

    def __init__(self, channel: _WaitingChannel) -> None:
        channel.do_restore = False
        self._acknowledged = set(channel.unacknowledged)
        self._unconfirmed: list[Command] = []
        self._taken_at: list[float] = []
        if isinstance(channel, FastChannel) and channel.ack_emulation:
            self._unconfirmed = channel.qos.take_unconfirmed()
            self._taken_at = channel.conversation.taken_at
        self._tags = unacknowledged_tags(channel.qos) - self._acknowledged
        self._unrecorded = channel.unrecorded

    @classmethod
    def of(cls, channel: object) -> Outstanding | None:
        """The messages of a channel; None if another connection cannot give them back, or is to already."""
        return cls(channel) if isinstance(channel, _WaitingChannel) and channel.do_restore else None

    def settle(self, channel: Any, running: Collection[str]) -> None:
        """Acknowledge or give back each of them.

        Args:
            channel: A channel of kombu's whose connection works.
            running: The delivery tags of running tasks, which acknowledge them themselves.
        """
        kombu_channel: Channel = channel
        for tag in self._acknowledged:
            kombu_channel.qos.ack(tag)  # at once: this is not the worker's own thread
        if isinstance(kombu_channel, FastChannel):
            kombu_channel.qos.execute(self._unconfirmed)
        back, gone = 0, 0
        with kombu_channel.conn_or_acquire() as client:
            for tag in self._tags - set(running):
                if client.hget(kombu_channel.unacked_key, tag) is not None:
                    kombu_channel.qos.restore_by_tag(tag)
                    back += 1
                else:
                    gone += 1
        if back:
            logger.info(
                "%d messages that waited for a slot were given back with the lost connection; they are "
                "delivered again",
                back,
            )
        if gone:
            logger.warning(
                "%d messages that waited for a slot are gone: the broker has no record of them any more. "
                "It was emptied, or has delivered them to another worker (visibility timeout).",
                gone,
            )
        give_back_taken(kombu_channel, self._taken_at, running=running)
        for tag, message in self._unrecorded.items():
            with kombu_channel.conn_or_acquire() as client:
                if client.hget(kombu_channel.unacked_key, tag) is not None:
                    kombu_channel.qos.restore_by_tag(tag)
                    continue
                restore_message(kombu_channel, message, client)
