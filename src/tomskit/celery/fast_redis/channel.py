"""kombu's channel and its acknowledgements, without waiting for Redis."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from celery.utils.log import get_logger
from typing_extensions import override

from tomskit.celery._internals.kombu_redis import callbacks_of, reject_unconsumed
from tomskit.celery.fast_redis.acknowledging import FastQoS, TurnChannel
from tomskit.celery.fast_redis.conversation import Conversation, Found
from tomskit.celery.fast_redis.guarded import GuardedChannel, GuardedMessage, ReadPayload
from tomskit.celery.fast_redis.long_messages import LONG
from tomskit.celery.fast_redis.outstanding import give_back_taken
from tomskit.celery.fast_redis.payloads import payload_of

__all__ = ("FastChannel",)

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


class FastChannel(GuardedChannel, TurnChannel):
    """A channel that takes as many messages at once as it may, and acknowledges many at once."""

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
                payload = payload_of(raw, queue) if len(raw) > LONG else None
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
                elif (payload := payload_of(raw, queue)) is None:
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
                payload = raw if isinstance(raw, ReadPayload) else payload_of(raw, queue)
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
