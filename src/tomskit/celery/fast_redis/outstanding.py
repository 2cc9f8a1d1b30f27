"""Messages of a channel that Redis could not be told of: they are made good on the next connection.

On Redis a delivery tag does not belong to a connection, so a message that one connection has delivered can be
acknowledged and given back on another one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final

from celery.utils.log import get_logger
from typing_extensions import override

from tomskit.celery._internals.kombu_redis import (
    Channel,
    Message,
    acknowledge_in_memory,
    restore_message,
    unacknowledged_tags,
)
from tomskit.celery._internals.redis_connections import Command
from tomskit.celery.fast_redis.giving_back import RestoringQoS, portions
from tomskit.celery.fast_redis.permissions import PermittedChannel
from tomskit.celery.fast_redis.unfetched import Unfetched, Waiting

__all__ = ("KeepingChannel", "KeepingQoS", "Outstanding", "give_back_taken")

logger: Final = get_logger(__name__)

_SECONDS: Final = 10.0
"""How long a try to fetch a message takes where there is no time-out."""


class KeepingChannel(PermittedChannel):
    """Keeps what it could not tell Redis.

    Attributes:
        unrecorded: Messages that Redis has handed out and has no record of, by tag.
        unacknowledged: The tags of messages that are done with, which Redis does not know.
        rejected: The tags of messages that are to be delivered again, which Redis does not know.
        settling: The tags of messages that are about to be acknowledged or rejected.
        is_lost: Whether its connection is, so that its successor tells Redis what happens to its messages.
        successor: The channel of the next connection, once there is one.
        predecessors: Channels that were lost, of whose messages some are not acknowledged.
        unfetched: What is known of messages that do not arrive, on this connection and earlier ones.
    """

    def __init__(self, *args: object, **kwargs: object) -> None:
        self.unrecorded: dict[str, Message] = {}
        self.unacknowledged: set[str] = set()
        self.rejected: set[str] = set()
        self.settling: set[str] = set()
        self.is_lost: bool = False
        self.successor: KeepingChannel | None = None
        self.predecessors: list[KeepingChannel] = []
        self.unfetched: Unfetched = Unfetched()
        super().__init__(*args, **kwargs)

    @property
    def unacked_keys(self) -> tuple[str, str]:
        """Where messages are recorded: by tag, and the times by tag."""
        prefix = self.global_keyprefix
        return prefix + self.unacked_key, prefix + self.unacked_index_key

    @property
    def taken_at(self) -> Sequence[float]:
        """The times under which Redis has recorded messages that have not arrived."""
        return ()

    def disconnect(self) -> None:
        """Close all connections, as they are lost.

        The next command makes a new one. On one that is dead it would wait until it is clear that it has
        no answer.
        """
        for pool in (self._pool, self._async_pool):
            if pool is not None:
                pool.disconnect()

    def abandon(self) -> None:
        """Close all connections, as they are lost, and say nothing to Redis when it is closed."""
        # Those of remote control, which the next connection of this worker uses again.
        self.auto_delete_queues.clear()
        self.disconnect()

    def tell(self) -> None:
        """Tell Redis what it could not be told.

        Raises:
            Exception: One of `connection_errors`; what is left is kept.
        """
        qos: KeepingQoS = self.qos
        if tags := tuple(self.unacknowledged):
            records, times = self.unacked_keys
            # In this order: kombu removes a time without a message when it meets one.
            qos.execute([("HDEL", records, *tags), ("ZREM", times, *tags)])
            self.unacknowledged.difference_update(tags)
        for some in portions(self.rejected):
            qos.give_back(some, leftmost=True)
            self.rejected.difference_update(some)

    def give_back_due(self) -> None:
        """Give back messages that wait for another try, where it is time for it.

        Raises:
            Exception: One of `connection_errors`; what is left is kept.
        """
        self._give_back_waiting(self.unfetched.due())

    def _give_back_waiting(self, some: Iterable[Waiting]) -> None:
        for one in some:
            # The others of its queue first.
            self.qos.give_back([one.tag], leftmost=True, latest=one.recorded_at, unsent=True)
            self.unfetched.forget(one)

    def hand_over(self) -> None:
        """Leave to the successor, if there is one, what Redis does not know."""
        successor = self.successor
        if successor is None:
            return
        qos: KeepingQoS = successor.qos
        # Tasks may end in one thread while another one makes the next connection.
        with suppress(KeyError):
            while self.unacknowledged:
                qos.acknowledge_other(self.unacknowledged.pop())
        with suppress(KeyError):
            while self.rejected:
                qos.reject_other(self.rejected.pop())

    @override
    def close(self) -> None:
        if not (self.closed or self.is_lost) and (self.unacknowledged or self.rejected):
            try:
                self.tell()
            except self.connection_errors:
                self.disconnect()
                with suppress(*self.connection_errors):
                    self.tell()
        if not (self.closed or self.is_lost) and self.do_restore:
            with suppress(*self.connection_errors):
                self._give_back_waiting(self.unfetched.waiting())
            # As kombu does with the messages of this channel.
            for lost in self.predecessors:
                for some in portions(unacknowledged_tags(lost.qos) - lost.settling):
                    with suppress(*self.connection_errors):
                        self.qos.give_back(some)
        super().close()


class KeepingQoS(RestoringQoS):
    """Acknowledges and rejects also where Redis cannot be told now: that is made good.

    An error would help nobody: kombu logs it and leaves the record of the message. The task of it runs,
    or has run, and would run again when the visibility timeout is over.
    """

    @property
    def _keeper(self) -> KeepingChannel:
        channel: KeepingChannel = self.channel
        return channel

    @override
    def append(self, message: Message, delivery_tag: str) -> None:
        try:
            super().append(message, delivery_tag)
        except self._keeper.connection_errors:
            # Redis has handed it out and has no record of it.
            self._keeper.unrecorded[delivery_tag] = message
            raise

    @override
    def ack(self, delivery_tag: str) -> None:
        channel = self._keeper
        channel.settling.discard(delivery_tag)
        if not channel.is_lost:
            with suppress(*channel.connection_errors):
                super().ack(delivery_tag)
                return
        self._keep(channel.unacknowledged, delivery_tag)

    @override
    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        channel = self._keeper
        channel.settling.discard(delivery_tag)
        if not channel.is_lost:
            with suppress(*channel.connection_errors):
                super().reject(delivery_tag, requeue)
                return
        self._keep(channel.rejected if requeue else channel.unacknowledged, delivery_tag)

    def _keep(self, tags: set[str], tag: str) -> None:
        acknowledge_in_memory(self, tag)
        tags.add(tag)
        self._keeper.hand_over()

    def acknowledge_other(self, tag: str) -> None:
        """Acknowledge, in the next turn, a message that another channel has delivered."""
        self._keeper.unacknowledged.add(tag)
        self._tell_soon()

    def reject_other(self, tag: str) -> None:
        """Give back, in the next turn, a message that another channel has delivered."""
        self._keeper.rejected.add(tag)
        self._tell_soon()

    def _tell_soon(self) -> None:
        channel = self._keeper
        channel.hand_over()
        if channel.closed and not channel.is_lost:
            # It has no more turns: the worker stops.
            with suppress(*channel.connection_errors):
                channel.tell()

    def take_unconfirmed(self) -> list[Command]:
        """Take the commands that Redis may not have read. It is no harm if it has."""
        return []


class Outstanding:
    """Messages that a channel has delivered and nobody has acknowledged when its connection is lost.

    kombu gives such messages back when it closes the channel. Where the broker is away that fails,
    and Redis would deliver them after the visibility timeout, an hour by default. It would also
    deliver tasks again that run meanwhile, or that were acknowledged at the moment of the loss.

    Args:
        channel: It tells Redis nothing by itself any more.
        waiting: The delivery tags of tasks that wait in the pool and run in any case.
    """

    def __init__(self, channel: KeepingChannel, *, waiting: Collection[str] = ()) -> None:
        self._channel = channel
        self._waiting = frozenset(waiting)
        # From here on no task that ends leaves anything elsewhere.
        channel.is_lost, channel.do_restore = True, False
        self._unconfirmed: list[Command] = channel.qos.take_unconfirmed()
        self._taken_at = channel.taken_at

    @classmethod
    def of(cls, channel: object, *, waiting: Collection[str] = ()) -> Outstanding | None:
        """The messages of a channel; None if another connection cannot give them back, or is to already."""
        if (
            not isinstance(channel, KeepingChannel)
            or not channel.ack_emulation
            or not channel.do_restore
        ):
            return None
        return cls(channel, waiting=waiting)

    def settle(self, channel: Any, running: Collection[str]) -> None:
        """Acknowledge or give back each of them.

        Args:
            channel: A channel of this kind whose connection works.
            running: The delivery tags of running tasks, which acknowledge them themselves.

        Raises:
            Exception: One of the channel's `connection_errors`: what is left is settled by another call.
        """
        lost = self._channel
        following: KeepingChannel = channel
        qos: KeepingQoS = following.qos
        # First: a task that ends from here on acknowledges there.
        lost.successor = following
        lost.hand_over()
        following.tell()
        qos.execute(self._unconfirmed)
        self._unconfirmed = []
        others = self._waiting | lost.settling | set(running)
        self._give_back(following, unacknowledged_tags(lost.qos) - others)
        following.predecessors = [
            one
            for one in {*following.predecessors, lost, *lost.predecessors}
            if unacknowledged_tags(one.qos)
        ]
        _give_back_lost(following, self._taken_at, running)
        for tag, message in lost.unrecorded.items():
            with following.conn_or_acquire() as client:
                if client.hget(following.unacked_key, tag) is not None:
                    qos.restore_by_tag(tag)
                    continue
                restore_message(following, message, client)

    def _give_back(self, channel: KeepingChannel, tags: Collection[str]) -> None:
        back, gone = 0, 0
        qos: KeepingQoS = channel.qos
        for some in portions(tags):
            found = qos.give_back(some)
            back += found
            gone += len(some) - found
            # If the connection is lost again, they may have been delivered anew by then.
            for tag in some:
                acknowledge_in_memory(self._channel.qos, tag)
        if back:
            logger.info(
                "The connection to the broker was lost: %d messages that waited for a slot were returned to "
                "their queues, and will be delivered again",
                back,
            )
        if gone:
            logger.warning(
                "%d messages that waited for a slot are gone: the broker has no record of them any more. "
                "It was emptied, or has delivered them to another worker (visibility timeout).",
                gone,
            )


def give_back_taken(channel: Channel, times: Iterable[float]) -> None:
    """Give back messages that Redis has sent and that have not arrived.

    Args:
        channel: Its connection works.
        times: Those under which Redis has recorded them.
    """
    for time in times:
        channel.qos.give_back(_tags_taken(channel, time))


def _tags_taken(channel: Channel, time: float) -> set[str]:
    with channel.conn_or_acquire() as client:
        tags = client.zrange(channel.unacked_index_key, time, time, byscore=True)
    return {tag.decode() for tag in tags}


def _give_back_lost(
    channel: KeepingChannel, times: Iterable[float], running: Collection[str]
) -> None:
    """Give back what was lost with a connection; what is lost again and again is given back later."""
    unfetched = channel.unfetched
    limit = channel.socket_timeout or _SECONDS
    for time in times:
        tags = _tags_taken(channel, time) - set(running)
        pause = unfetched.lost(tags, time, limit)
        if pause is None:
            channel.qos.give_back(tags, unsent=True)
            continue
        [tag] = tags
        [size] = channel.qos.sizes(tags)
        logger.warning(
            "A message of %d bytes has not arrived in %d tries: the connection was lost each time while Redis sent "
            "it, or stood still for %.0f s. It is tried again in %.0f s, after the others of its queue. If "
            "the network is slow, raise CELERY_BROKER_SOCKET_TIMEOUT; if only large messages do not arrive, look "
            "for a hop that drops large packets (MTU), or send a reference to such data. Its delivery tag is %r",
            size,
            unfetched.tries(tag),
            limit,
            pause,
            tag,
        )
