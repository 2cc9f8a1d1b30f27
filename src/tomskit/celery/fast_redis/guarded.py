"""GuardedChannel: messages that cannot be read end neither the channel nor the worker."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from functools import partial
from queue import Empty
from socket import AF_INET, SHUT_WR, SOCK_STREAM, fromfd
from typing import Any, Final

import redis
from celery.utils.log import get_logger
from celery.utils.saferepr import saferepr
from kombu.transport import virtual
from typing_extensions import override

from tomskit.celery._internals.kombu import Consumer, consumer_of, fill_message
from tomskit.celery._internals.kombu_redis import (
    Client,
    asked_connection_of,
    replace_callback,
)
from tomskit.celery._internals.redis_connections import Connection, socket_of
from tomskit.celery.fast_redis.long_messages import decode_base64
from tomskit.celery.fast_redis.outstanding import KeepingChannel
from tomskit.celery.fast_redis.payloads import ERRORS_OF_DATA, decoded_json, readable

__all__ = ("GuardedChannel", "GuardedMessage", "ReadPayload")

logger: Final = get_logger(__name__)

_SILENCE: Final = 2.0
"""How many seconds late the answer to BRPOP is when other connections are no longer trusted. A false alarm
costs that they are made again."""

_LAST_ANSWER: Final = 1.0
"""How many seconds to wait for Redis to close a connection of which it has been told that it ends."""


class GuardedMessage(virtual.Message):
    """kombu's message. Its body may be undecodable, which is left to the consumer to report.

    Attributes:
        ready: What its body says in JSON, where that is known already.
    """

    ready: object | None = None

    channel: Any
    errors: list[Any] | None
    _decoded_cache: object
    _state: str

    def __init__(self, payload: dict[str, Any], channel: Any = None, **options: Any) -> None:
        if channel is not None and channel.checked and fill_message(self, payload, channel):
            return
        try:
            super().__init__(payload, channel=channel, **options)
        except ERRORS_OF_DATA:
            self.errors = [sys.exc_info()]
            super().__init__({**payload, "body": ""}, channel=channel, **options)
            self._raw = payload

    @override
    def decode(self) -> object:
        """The body; by orjson, which takes a tenth of the time, where it reads it as kombu does."""
        body: object = self._decoded_cache
        if not body:
            if self.is_json() and (self.accept is None or self.content_type in self.accept):
                body = decoded_json(self.body) if self.ready is None else self.ready
            if body is None:
                body = super().decode()
            self._decoded_cache = body
        return body

    def is_json(self) -> bool:
        """Whether its body is JSON."""
        return self.content_type == "application/json" and self.content_encoding == "utf-8"


class ReadPayload(dict[str, Any]):
    """A long message as it was in its queue, of which all is read already. Any thread may make it.

    Args:
        payload: What was in the queue, after `readable`.
        channel: The channel that delivers it.

    Attributes:
        message: What is delivered; None if it is of a kind that is read later.
    """

    def __init__(self, payload: dict[str, Any], channel: GuardedChannel) -> None:
        super().__init__(payload)
        message: Any = channel.Message.__new__(channel.Message)
        self.message: Any = None
        if fill_message(message, payload, channel, decode_base64):
            self.message = message
            if message.is_json():
                message.ready = decoded_json(message.body)


class GuardedChannel(KeepingChannel):
    """Drops messages that kombu cannot read, with a line in the log; each is logged once.

    With kombu they end the worker. Where they are recorded as unacknowledged they are delivered
    again then, and end the next worker as well.

    Attributes:
        connection_class_socket: What connections by a Unix socket are of, as kombu's ``connection_class``.
        checked: Whether what is delivered has been through `readable`.
        asked_at: When BRPOP was sent last, by ``time.monotonic()``.
    """

    Message: Any = GuardedMessage
    connection_class_socket: type[object] = redis.UnixDomainSocketConnection

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.checked: bool = False
        self.asked_at: float = 0.0
        self._left_at: float | None = None
        self._consumer_error: Exception | None = None
        self.handlers: dict[str, Callable[[], object]] = {
            kind: partial(self._read, read) for kind, read in self.handlers.items()
        }

    @override
    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        parameters = super()._connparams(asynchronous)
        known: type[object] = parameters["connection_class"]
        if issubclass(known, redis.UnixDomainSocketConnection):
            # kombu takes redis-py's own class, or puts one in front of it that tells the poller; and no time-out.
            mine = self.connection_class_socket
            bases: tuple[type[object], ...] = (mine,) if issubclass(mine, known) else (known, mine)
            parameters["connection_class"] = type(known.__name__, bases, {})
            parameters["socket_connect_timeout"] = self.socket_connect_timeout
        return parameters

    @override
    def basic_consume(self, queue: str, no_ack: bool = False, **kwargs: Any) -> object:
        tag = super().basic_consume(queue, no_ack=no_ack, **kwargs)
        callback = kwargs.get("callback")
        if callback is not None:
            deliver = partial(self._deliver, callback, consumer_of(callback), queue, no_ack)
            replace_callback(self, queue, deliver)
        return tag

    @override
    def conn_or_acquire(self, client: Client | None = None) -> AbstractContextManager[Client]:
        if client is None:
            self._leave_silent_ones()
        return super().conn_or_acquire(client)

    def _leave_silent_ones(self) -> None:
        """Close the connections that nobody uses, once, where Redis owes the answer to BRPOP.

        They are most likely as dead as the one that waits for it, and each would take a whole time-out more
        before the worker knows that it has to connect again.
        """
        asked_at, pool = self.asked_at, self._pool
        if (
            pool is not None
            and asked_at != self._left_at
            and asked_connection_of(self) is not None
            and time.monotonic() - asked_at > self.brpop_timeout + _SILENCE
        ):
            self._left_at = asked_at
            pool.disconnect(inuse_connections=False)

    @override
    def abandon(self) -> None:
        if self.is_lost:
            self._read_last_answer()
        super().abandon()

    def _read_last_answer(self) -> None:
        """Read the answer to BRPOP, with a message that is in no queue any more, and has no record.

        Another connection may have been lost, that of remote control for instance, while Redis answers.
        """
        asked = asked_connection_of(self)
        if asked is None:
            return
        with suppress(Empty, *self.connection_errors):
            _end_writing(asked)
            # It closes the connection then, and sends nothing more. Until that, it might.
            if asked.can_read(_LAST_ANSWER):
                self.handlers["BRPOP"]()

    def _read(self, read: Callable[[], object]) -> object:
        """Read an answer of Redis, which has messages, by a method of kombu's."""
        try:
            return read()
        except ERRORS_OF_DATA as exc:
            if exc is self._consumer_error:
                raise
            logger.critical("Dropped a message that is not one of kombu's: %r", exc)
            return None

    def _deliver(
        self,
        callback: Callable[[object], object],
        consumer: Consumer | None,
        queue: str,
        no_ack: bool,
        raw: Any,
    ) -> None:
        """Hand a message to the consumer of its queue."""
        try:
            message: Any = raw.message if isinstance(raw, ReadPayload) else None
            if message is None:
                message = self.Message(raw if self.checked else readable(raw, queue), channel=self)
            if self.is_lost:
                self.unrecorded[message.delivery_tag] = message
                return
            if not no_ack:
                self.qos.append(message, message.delivery_tag)
        except ERRORS_OF_DATA as exc:
            logger.critical(
                "Dropped a message from %s that is not one of kombu's: %r. It is %s",
                queue,
                exc,
                saferepr(raw, maxlen=1000),
            )
            return
        try:
            if consumer is None or (handle := consumer.on_message) is None or message.errors:
                callback(message)
            else:
                # What the callback would do.
                message.accept = consumer.accept
                handle(message)
        except ERRORS_OF_DATA as exc:
            if not no_ack:
                # Only the consumer knows whether the message is to be rejected.
                self._consumer_error = exc
                raise
            logger.critical("Dropped a message, as its consumer raised:", exc_info=exc)


def _end_writing(connection: Connection) -> None:
    """Tell the server that nothing more comes; what it sends can still be read.

    Raises:
        OSError: The connection is closed.
    """
    used = socket_of(connection)
    if used is not None:
        # Not of the socket itself: one of TLS could not read any more.
        with fromfd(used.fileno(), AF_INET, SOCK_STREAM) as same:
            same.shutdown(SHUT_WR)
