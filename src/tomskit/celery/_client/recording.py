"""Recording: messages that Celery makes and publishes, kept in place of being published.

A recorded message is as complete as one that the broker gets: it was serialised, compressed and routed,
and all signals and packages have seen it. `publish` gives it to the broker, later and elsewhere.
"""

from __future__ import annotations

import os
import time
from base64 import b32hexencode, b64decode, b64encode
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

from kombu import Connection, Exchange, Producer, Queue
from kombu.compression import compress
from kombu.entity import binding
from kombu.serialization import dumps as serialize
from kombu.utils.encoding import str_to_bytes
from kombu.utils.json import dumps, loads
from typing_extensions import override

from tomskit.celery._app import AsyncApp
from tomskit.celery._client.origin import origin_of
from tomskit.celery._internals.celery_messages import lock_free_dispatcher
from tomskit.celery._internals.kombu import as_library_errors
from tomskit.errors import ConfigurationError
from tomskit.sqlalchemy.rows import OutboxRow

__all__ = (
    "AT_ONCE",
    "Recording",
    "as_bytes",
    "as_text",
    "new_id",
    "publish",
    "recording_here",
)

R = TypeVar("R")

AT_ONCE: Final[Mapping[str, object]] = {
    "max_retries": 2,
    "interval_start": 0,
    "interval_step": 0.2,
    "interval_max": 0.2,
}
"""Retries for a connection that the broker has closed meanwhile."""

_OF_THE_PUBLISHER: Final = ("producer", "connection", "retry", "retry_policy")
"""Options of calls that say how to publish at once."""

recording_here: Final[ContextVar[Recording | None]] = ContextVar("tomskit_recording", default=None)
"""What keeps the messages that are sent in a context; None where they are published."""


class Recording:
    """The messages of an app that one call makes.

    Attributes:
        messages: What was sent, in order.
        producer: What Celery sends with.
    """

    def __init__(self, app: AsyncApp) -> None:
        self._app = app
        self.messages: list[OutboxRow] = []
        self.producer = _RecordingProducer(app, self.messages)

    def records(self, app: object) -> bool:
        """Whether it keeps the messages of `app`."""
        return app is self._app

    def run(self, call: Callable[[], R]) -> R:
        """Call something that sends tasks."""
        token = recording_here.set(self)
        try:
            return call()
        finally:
            recording_here.reset(token)

    def send(
        self, app: AsyncApp, send_task: Callable[..., R], args: tuple[Any, ...], options: Any
    ) -> R:
        """Let Celery make one message.

        Args:
            app: Whose message it is.
            send_task: Celery's.
            args: Of `send_task`.
            options: Keyword arguments of `send_task`.
        """
        if app is not self._app:
            token = recording_here.set(None)
            try:
                return send_task(*args, **options)
            finally:
                recording_here.reset(token)
        for name in _OF_THE_PUBLISHER:
            if options.get(name) is not None and options[name] is not self.producer:
                raise ConfigurationError(
                    f"The option {name!r} cannot be given to a call on commit: the message is written "
                    "into the database and published after the commit, with retries until the broker "
                    f"has it. Leave {name!r} out, or send with delay."
                )
        options["producer"] = self.producer
        if app.conf.task_send_sent_event:
            options.setdefault("event_dispatcher", lock_free_dispatcher(app))
        return send_task(*args, **options)


class _RecordingProducer(Producer):
    """Keeps what it is to publish. It never connects."""

    def __init__(self, app: AsyncApp, messages: list[OutboxRow]) -> None:
        self._app = app
        self._messages = messages
        super().__init__(
            _connection_of(app), auto_declare=False, serializer=app.conf.task_serializer
        )

    @override
    def publish(self, body: Any, *args: Any, **options: Any) -> None:
        if args:
            raise TypeError("Celery publishes with keyword arguments")
        for name in ("retry", "retry_policy"):
            options.pop(name, None)
        serializer, compression = options.pop("serializer", None), options.pop("compression", None)
        content_type = options.pop("content_type", None)
        content_encoding = options.pop("content_encoding", None)
        exchange, declare = options.pop("exchange", None), options.pop("declare", None)
        headers = dict(options.pop("headers", None) or {})
        if not content_type:
            content_type, content_encoding, body = serialize(
                body, serializer=serializer or self.serializer
            )
        body = str_to_bytes(body)
        if compression:
            body, headers["compression"] = compress(body, compression)
        if isinstance(exchange, Exchange):
            options["delivery_mode"] = options.get("delivery_mode") or exchange.delivery_mode
            exchange = exchange.name
        if isinstance(reply_to := options.get("reply_to"), Queue):
            options["reply_to"] = reply_to.name
        recorded = {
            **{name: value for name, value in options.items() if value is not None},
            "content_type": content_type,
            "content_encoding": content_encoding,
            "headers": headers,
            "exchange": exchange,
            "declare": [_described(self._app, entity) for entity in declare or ()],
        }
        text = as_text(body)
        self._messages.append(OutboxRow(id=new_id(self._app), body=text, options=dumps(recorded)))


def publish(app: AsyncApp, message: OutboxRow) -> None:
    """Publish a recorded message.

    Raises:
        kombu.exceptions.OperationalError: The broker is away.
    """
    options: dict[str, Any] = loads(message["options"])
    declare = [_entity(app, described) for described in options.pop("declare")]
    with app.producer_or_acquire() as producer, as_library_errors(producer.connection):
        producer.publish(
            as_bytes(message["body"]),
            declare=declare,
            retry=True,
            retry_policy=dict(AT_ONCE),
            **options,
        )


_BASE64: Final = "base64:"


def as_text(data: bytes) -> str:
    """Bytes as text that any database and driver carries: as they are, or in base64."""
    if data.isascii() and b"\0" not in data and not data.startswith(_BASE64.encode()):
        return data.decode("ascii")
    return _BASE64 + b64encode(data).decode("ascii")


def as_bytes(text: str) -> bytes:
    """The bytes of which `as_text` has made `text`."""
    encoded = text.removeprefix(_BASE64)
    return text.encode("ascii") if encoded == text else b64decode(encoded)


def _described(app: AsyncApp, entity: Any) -> dict[str, object]:
    if isinstance(entity, Queue):
        configured = dict(app.amqp.queues).get(entity.name)
        return {"queue": entity.name if configured == entity else entity.as_dict(recurse=True)}
    return {"exchange": entity.as_dict(recurse=True)}


def _entity(app: AsyncApp, described: Mapping[str, Any]) -> Queue | Exchange:
    if "exchange" in described:
        return Exchange(**described["exchange"])
    queue = described["queue"]
    if isinstance(queue, str):
        return app.amqp.queues[queue]
    parts: dict[str, Any] = {name: value for name, value in queue.items() if value is not None}
    bindings: list[dict[str, Any]] = parts.pop("bindings", [])
    if "exchange" in parts:
        parts["exchange"] = Exchange(**parts["exchange"])
    return Queue(**parts, bindings=[_binding(**one) for one in bindings])


def _binding(exchange: dict[str, Any], **parts: Any) -> binding:
    return binding(Exchange(**exchange), **parts)


_connections: Final[WeakKeyDictionary[AsyncApp, Connection]] = WeakKeyDictionary()


def _connection_of(app: AsyncApp) -> Connection:
    """A connection that is never opened: it tells which errors are the transport's."""
    known = _connections.get(app)
    if known is None:
        known = _connections[app] = app.connection_for_write()
    return known


def new_id(app: AsyncApp) -> str:
    """An id that sorts by the time at which it was made, in this process in order, and names the origin."""
    random = b32hexencode(os.urandom(10)).decode().lower()
    return f"{time.time_ns():016x}{random}{origin_of(app)}"
