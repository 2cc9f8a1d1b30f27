"""kombu's channel and its acknowledgements, without waiting for Redis."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final

from celery.utils.log import get_logger
from kombu.utils.json import loads
from redis.exceptions import NoPermissionError
from typing_extensions import override

from tomskit.celery._internals.kombu_redis import (
    Client,
    Message,
    acknowledge_in_memory,
    callbacks_of,
    record_in_memory,
    reject_unconsumed,
)
from tomskit.celery._internals.redis_connections import Command
from tomskit.celery.fast_redis.conversation import (
    Conversation,
    ConversingChannel,
    Found,
    raise_error,
)
from tomskit.celery.fast_redis.guarded import (
    ERRORS_OF_DATA,
    GuardedChannel,
    GuardedMessage,
    ReadPayload,
    decoded_json,
    is_object,
    readable,
)
from tomskit.celery.fast_redis.long_messages import LONG, split_body
from tomskit.celery.fast_redis.outstanding import KeepingQoS, give_back_taken
from tomskit.celery.fast_redis.scripts import FORGET

__all__ = ("FastChannel", "FastQoS")

logger: Final = get_logger(__name__)


class _NotedMessage(GuardedMessage):
    """A message whose acknowledgement is mostly only noted, which cannot fail."""

    @override
    def ack_log_error(self, logger: Any, errors: Any, multiple: bool = False) -> None:
        qos, tag = self.channel.qos, self.delivery_tag
        # Without acknowledgements kombu uses a QoS of its own.
        if self._state == "RECEIVED" and isinstance(qos, FastQoS) and tag and qos.note(tag):
            self._state = "ACK"
        else:
            super().ack_log_error(logger, errors, multiple)


class FastChannel(GuardedChannel, ConversingChannel):
    """A channel that takes as many messages at once as it may, and acknowledges many at once.

    Attributes:
        conversation: Exchanges the messages of this channel with Redis.
        recording: Whether a delivered message is still to be recorded in Redis.
    """

    Message: Any = _NotedMessage

    if TYPE_CHECKING:
        qos: FastQoS
    else:

        @cached_property
        def qos(self) -> FastQoS:
            """Its acknowledgements, the same as long as there is the channel; asked for twice a message."""
            return super().qos

    def __init__(self, *args: object, **kwargs: object) -> None:
        self.conversation: Conversation = Conversation(self)
        self.delivered: int = 0
        self.recording: bool = True
        self.checked: bool = False
        self._without_acks: set[str] = set()
        super().__init__(*args, **kwargs)

    @property
    def converses(self) -> bool:
        """Whether the conversation fetches messages, and not kombu's BRPOP."""
        return (
            self.conversation.is_possible
            and self.ack_emulation
            and not self._in_poll
            and self._without_acks.isdisjoint(self.active_queues)
        )

    @property
    @override
    def taken_at(self) -> Sequence[float]:
        return self.conversation.taken_at

    def call_aside(self, function: Callable[[], None]) -> None:
        """Call a function that takes long, and only then return."""
        function()

    @override
    def read_long(self, found: list[tuple[str, bytes]]) -> list[Found]:
        if not [raw for _, raw in found if len(raw) > LONG]:
            return list(found)
        read: list[Found] = []

        def read_all() -> None:
            for queue, raw in found:
                payload = _payload(raw, queue) if len(raw) > LONG else None
                read.append((queue, raw if payload is None else ReadPayload(payload, self)))

        self.call_aside(read_all)
        return read

    @override
    def deliver_recorded(self, found: list[Found]) -> None:
        """Deliver messages, each with the queue that it was in."""
        rest = deque(found)
        callbacks, last, misses = callbacks_of(self), None, self.unfetched.misses_any()
        self.recording, self.checked = False, True
        try:
            while rest:
                queue, raw = rest.popleft()
                if isinstance(raw, ReadPayload):
                    payload: dict[str, Any] | None = raw
                elif (payload := _payload(raw, queue)) is None:
                    logger.critical("Dropped from %s, not a message of kombu: %.4000r", queue, raw)
                    self.qos.forget(raw)
                    continue
                assert payload is not None  # noqa: S101 (as above)
                self.delivered += 1
                if misses:
                    self.unfetched.arrived(payload["properties"]["delivery_tag"])
                if queue != last:
                    self._queue_cycle.rotate(queue)
                    last = queue
                if (deliver := callbacks.get(queue)) is not None:
                    deliver(payload)
                else:
                    reject_unconsumed(self, payload, queue)
        finally:
            # If one of them has raised, the others are given back with all that is unacknowledged.
            for queue, raw in rest:
                payload = raw if isinstance(raw, ReadPayload) else _payload(raw, queue)
                if payload is not None:
                    message = self.Message(payload, channel=self)
                    self.qos.append(message, message.delivery_tag)
            self.recording, self.checked = True, False

    @override
    def basic_consume(self, queue: str, no_ack: bool = False, **kwargs: Any) -> object:
        (self._without_acks.add if no_ack else self._without_acks.discard)(queue)
        self.conversation.wake()
        return super().basic_consume(queue, no_ack=no_ack, **kwargs)

    @override
    def close(self) -> None:
        try:
            # Without acknowledgements kombu uses a QoS of its own and not ours.
            if self.ack_emulation and not self.closed and not self.is_lost:
                try:
                    self.qos.finish()
                except self.connection_errors:
                    # On another connection; those that there are may be silent.
                    self.disconnect()
                    self.qos.finish_anew()
                if self.do_restore:
                    with suppress(*self.connection_errors):
                        give_back_taken(self, self.conversation.taken_at)
        finally:
            try:
                super().close()
            finally:
                # kombu gives back what is unacknowledged when its connections are closed: on another one.
                self.disconnect()

    @override
    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        parameters = super()._connparams(asynchronous)
        if asynchronous:
            # In the older protocol Redis would announce changes on another connection.
            parameters["protocol"] = 3
        return parameters

    @override
    def _flush_brpop_reauth(self) -> None:
        if self.conversation.expects_answers:
            # The answer to AUTH would be read as that of another command.
            self.conversation.reauthenticates = True
        else:
            super()._flush_brpop_reauth()

    @override
    def reauthenticate(self) -> None:
        self._flush_brpop_reauth()


def _payload(raw: bytes, queue: str) -> dict[str, Any] | None:
    try:
        message = _decoded_long(raw) if len(raw) > LONG else decoded_json(raw)
        # kombu would replace what is not UTF-8, and then not find the record of such a tag.
        return readable(loads(raw.decode()) if message is None else message, queue)
    except ERRORS_OF_DATA:
        return None


def _decoded_long(raw: bytes) -> object | None:
    parts = split_body(raw)
    if parts is None:
        return decoded_json(raw)
    rest, body = parts
    message = decoded_json(rest)
    if is_object(message):
        message["body"] = body
    return message


class FastQoS(KeepingQoS):
    """Acknowledges, rejects and restores the messages of a turn of the worker in one go.

    Attributes:
        by_turn: Whether it may wait for the end of the turn, as where no task runs in the worker's
            turns. In a pool of threads that is where Celery acknowledges, too.
        at_once: How many messages are fetched together, at most.
    """

    by_turn: ClassVar[bool] = True
    at_once: ClassVar[int] = 100
    """More make a turn longer and save little: the cost of one call is shared by then."""

    if TYPE_CHECKING:
        channel: FastChannel

    def __init__(self, *args: object, **kwargs: object) -> None:
        self._acknowledged: list[str] = []
        self._restoring: list[Command] = []
        # What each answer that is to come confirms.
        self._sent: deque[list[Command]] = deque()
        super().__init__(*args, **kwargs)

    @override
    def append(self, message: Message, delivery_tag: str) -> None:
        if self.channel.recording:
            super().append(message, delivery_tag)
        else:
            record_in_memory(self, message, delivery_tag)

    @override
    def ack(self, delivery_tag: str) -> None:
        if not self.note(delivery_tag):
            super().ack(delivery_tag)

    def note(self, delivery_tag: str) -> bool:
        """Acknowledge a message at the end of the turn; False if that cannot wait so long."""
        if not self._waits_for_turn():
            return False
        self.channel.settling.discard(delivery_tag)
        self._acknowledged.append(delivery_tag)
        acknowledge_in_memory(self, delivery_tag)
        return True

    @override
    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        if not self._waits_for_turn():
            super().reject(delivery_tag, requeue)
            return
        self.channel.settling.discard(delivery_tag)
        if requeue:
            message = self._delivered.get(delivery_tag)
            # Of two messages with one tag the second one takes the place of the first.
            command = None if message is None else self.restoring(message, leftmost=True)
            self._restoring.extend([command] if command else [])
            # Redis does not announce what the same connection has changed.
            self.channel.conversation.wake()
        else:
            self._acknowledged.append(delivery_tag)
        acknowledge_in_memory(self, delivery_tag)

    def forget(self, raw: bytes) -> None:
        """Remove the record of a message that was not delivered."""
        keys = self.channel.unacked_keys
        command: Command = ("EVAL", FORGET, len(keys), *keys, raw)
        if self._waits_for_turn():
            self._restoring.append(command)
        else:
            self.execute([command])

    def _waits_for_turn(self) -> bool:
        channel = self.channel
        return (
            self.by_turn
            and not (channel.closed or channel.is_lost)
            and channel.conversation.thread == threading.get_ident()
        )

    def take_commands(self) -> list[Command]:
        """Take the commands that Redis has not been given yet."""
        commands, self._restoring = self._restoring, []
        tags, self._acknowledged = self._acknowledged, []
        if tags:
            records, times = self.channel.unacked_keys
            # In this order: kombu removes a time without a message when it meets one. A message
            # without a time would stay for ever.
            commands += [("HDEL", records, *tags), ("ZREM", times, *tags)]
        if commands:
            self._sent.append(commands)
        return commands

    def on_answer(self, answer: object) -> None:
        """The last command of `take_commands` was answered."""
        raise_error(answer)
        self._sent.popleft()

    @override
    def take_unconfirmed(self) -> list[Command]:
        self.take_commands()
        commands = [command for sent in self._sent for command in sent]
        self._sent.clear()
        return commands

    def finish(self) -> None:
        """Send all commands, and wait for their answers."""
        self.channel.conversation.finish()
        commands = self.take_unconfirmed()
        try:
            self.execute(commands)
        except self.channel.connection_errors:
            # For another try.
            self._sent.append(commands)
            raise

    def finish_anew(self) -> None:
        """Send on a new connection what the lost one may not have carried to Redis."""
        self.channel.conversation.forget_expected()
        self.finish()

    @override
    def restore_unacked(self, client: Client | None = None) -> None:
        # The last one first, so that they are delivered in their order again.
        messages = list(reversed(self._delivered.values()))
        commands = map(self.restoring, messages)
        try:
            self.execute_large((one for one in commands if one is not None), client)
        except NoPermissionError:
            # Without scripts, in kombu's way.
            super().restore_unacked(client)
        self._delivered.clear()
