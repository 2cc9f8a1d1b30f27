"""kombu's channel and its acknowledgements, without waiting for Redis."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from celery.utils.log import get_logger
from kombu.transport import virtual
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads
from typing_extensions import override

from tomskit.celery._internals import kombu as kombu_types
from tomskit.celery.fast_redis.conversation import (
    Command,
    Conversation,
    ConversingChannel,
    raise_error,
)
from tomskit.celery.fast_redis.scripts import RESTORE

if TYPE_CHECKING:
    from kombu.message import Message

__all__ = ("FastChannel", "FastQoS")

logger: Final = get_logger(__name__)


class FastChannel(ConversingChannel):
    """A channel that takes as many messages at once as it may, and acknowledges many at once.

    Attributes:
        conversation: With Redis, about the messages of this channel.
        recording: Whether a message that is delivered now is still to be recorded.
    """

    if TYPE_CHECKING:
        qos: FastQoS

    def __init__(self, *args: object, **kwargs: object) -> None:
        self.conversation: Conversation = Conversation(self)
        self.delivered: int = 0
        self.recording: bool = True
        self._without_acks: set[str] = set()
        super().__init__(*args, **kwargs)

    @property
    def converses(self) -> bool:
        """Whether messages are fetched by the conversation, and not as kombu does it."""
        return (
            self.conversation.is_possible
            and self.ack_emulation
            and not self._in_poll
            and self._without_acks.isdisjoint(self.active_queues)
        )

    @property
    @override
    def unacked_keys(self) -> tuple[str, str]:
        """Where messages are recorded: by tag, and the times by tag."""
        prefix = self.global_keyprefix
        return prefix + self.unacked_key, prefix + self.unacked_index_key

    @override
    def deliver_recorded(self, found: list[tuple[str, object]]) -> None:
        """Deliver messages, each with the queue that it was in."""
        rest = deque(found)
        self.recording = False
        try:
            while rest:
                queue, raw = rest.popleft()
                payload = _payload(raw)
                if payload is None:
                    logger.critical(
                        "Deleted from %s, for it is no message of kombu's: %r", queue, raw
                    )
                    continue
                self.delivered += 1
                self._queue_cycle.rotate(queue)
                self.connection._deliver(payload, queue)  # noqa: SLF001
        finally:
            # Had one of them raised, the others go back with what is unacknowledged.
            for _, raw in rest:
                if (payload := _payload(raw)) is not None:
                    message = self.Message(payload, channel=self)
                    self.qos.append(message, cast("str", message.delivery_tag))
            self.recording = True

    @override
    def basic_consume(self, queue: str, no_ack: bool = False, **kwargs: object) -> object:
        (self._without_acks.add if no_ack else self._without_acks.discard)(queue)
        self.conversation.wake()
        return super().basic_consume(queue, no_ack=no_ack, **kwargs)

    @override
    def close(self) -> None:
        try:
            # Without acknowledgements kombu has a QoS of its own in place of ours.
            if self.ack_emulation and not self.closed:
                self.qos.finish()
        finally:
            super().close()

    @override
    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        parameters = super()._connparams(asynchronous)
        if asynchronous:
            # In the older protocol Redis would tell of changes on another connection.
            parameters["protocol"] = 3
        return parameters


def _payload(raw: object) -> dict[str, Any] | None:
    try:
        payload = loads(bytes_to_str(cast("bytes", raw)))
        return payload if isinstance(payload["properties"]["delivery_tag"], str) else None
    except (KeyError, TypeError, ValueError):
        return None


class FastQoS(kombu_types.QoS):
    """Acknowledges, rejects and restores the messages of a turn of the worker in one go.

    Attributes:
        by_turn: Whether it may wait for the end of the turn: the worker's thread runs no tasks.
        at_once: How many messages are fetched together, at most.
        untold: The tags of messages that were acknowledged, of which Redis may not know.
    """

    by_turn: ClassVar[bool] = False
    at_once: ClassVar[int] = 100
    """More make a turn longer, and bring little: what one call costs is shared by then."""

    if TYPE_CHECKING:
        channel: FastChannel

    def __init__(self, *args: object, **kwargs: object) -> None:
        self.untold: set[str] = set()
        self._acknowledged: list[str] = []
        self._restoring: list[Command] = []
        super().__init__(*args, **kwargs)

    @override
    def append(self, message: Message, delivery_tag: str) -> None:
        if self.channel.recording:
            super().append(message, delivery_tag)
        else:
            virtual.QoS.append(cast("virtual.QoS", self), message, delivery_tag)

    @override
    def ack(self, delivery_tag: str) -> None:
        if not self._waits_for_turn():
            super().ack(delivery_tag)
            return
        self._acknowledged.append(delivery_tag)
        virtual.QoS.ack(cast("virtual.QoS", self), delivery_tag)

    @override
    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        if not self._waits_for_turn():
            super().reject(delivery_tag, requeue)
            return
        if requeue:
            command = self._restore_command(self._delivered[delivery_tag], leftmost=True)
            self._restoring.extend([command] if command else [])
            # Redis does not tell of what the same connection has changed.
            self.channel.conversation.wake()
        else:
            self._acknowledged.append(delivery_tag)
        virtual.QoS.ack(cast("virtual.QoS", self), delivery_tag)

    def _waits_for_turn(self) -> bool:
        channel = self.channel
        return self.by_turn and not channel.closed and channel.conversation.is_in_turn()

    def take_commands(self) -> list[Command]:
        """What Redis is to be told."""
        commands, self._restoring = self._restoring, []
        if self._acknowledged:
            tags, self._acknowledged = self._acknowledged, []
            self.untold.update(tags)
            records, times = self.channel.unacked_keys
            # In this order: a time without a message is removed when it is met, the other way round
            # a message would stay for ever.
            commands += [("HDEL", records, *tags), ("ZREM", times, *tags)]
        return commands

    def on_told(self, answer: object) -> None:
        """The last command of `take_commands` was answered."""
        raise_error(answer)
        self.untold.clear()

    def take_untold(self) -> set[str]:
        """The tags of what was acknowledged, and Redis may not have heard."""
        tags = self.untold.union(self._acknowledged)
        self.untold.clear()
        self._acknowledged.clear()
        return tags

    def finish(self) -> None:
        """Tell Redis all there is, and wait until it has heard."""
        self.channel.conversation.finish()
        commands = self.take_commands()
        if commands:
            self._tell(commands)
            self.untold.clear()

    @override
    def restore_unacked(self, client: object = None) -> None:
        # The last one first, so that they are taken in their order again.
        commands = [
            command
            for message in reversed(self._delivered.values())
            if (command := self._restore_command(message)) is not None
        ]
        if commands:
            self._tell(commands, client)
        self._delivered.clear()

    def _tell(self, commands: list[Command], client: object = None) -> None:
        with self.channel.conn_or_acquire(client) as redis:
            pipeline = cast("kombu_types.Plain", redis).pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            pipeline.execute()

    def _restore_command(self, message: Message, *, leftmost: bool = False) -> Command | None:
        info = cast("dict[str, object]", message.delivery_info)
        pushes = _Pushes(self.channel.global_keyprefix)
        raw = cast("kombu_types.Raw", message)._raw  # noqa: SLF001
        self.channel._do_restore_message(  # noqa: SLF001
            raw, info["exchange"], info["routing_key"], pushes, leftmost
        )
        if not pushes.made:
            # Where it belongs is not known any more: it stays where it is, as unacknowledged.
            return None
        keys, tag = self.channel.unacked_keys, message.delivery_tag
        return ("EVAL", RESTORE, len(keys), *keys, tag, *pushes.made)


class _Pushes:
    """In place of a pipeline: remembers what kombu would push."""

    def __init__(self, prefix: str) -> None:
        self.made: list[str] = []
        self._prefix = prefix

    def lpush(self, key: str, value: str) -> None:
        self.made += ["LPUSH", self._prefix + key, value]

    def rpush(self, key: str, value: str) -> None:
        self.made += ["RPUSH", self._prefix + key, value]
