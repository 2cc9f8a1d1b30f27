"""Shapes: recorded messages, published without kombu's publish path where kombu would add nothing.

kombu needs a greenlet and 0.1 ms for a message. What it puts around a body and headers depends on the
other options alone, such as queue and priority. So the first message with some options is published by
kombu, and is the template of later ones if filling it in gives the same message byte for byte.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from celery.utils import uuid
from kombu import Producer
from kombu.exceptions import OperationalError
from kombu.utils.json import dumps

from tomskit.celery._client.publishing import LoopProducer, Sender
from tomskit.celery._client.recording import AT_ONCE, as_bytes, publish
from tomskit.celery._client.templates import is_known
from tomskit.celery._internals.celery_app import changes_of
from tomskit.celery._internals.redis_connections import Command
from tomskit.celery._running.greenlets import GreenletCoroutine

if TYPE_CHECKING:
    from tomskit.celery._app import AsyncApp
    from tomskit.sqlalchemy.rows import OutboxRow

__all__ = ("Shapes",)

_MOST: Final = 200
"""How many are kept. Options that differ each time, such as an expiry, are kombu's."""

_DECLARING: Final = frozenset({"LLEN", "SADD"})
"""The commands with which kombu declares a queue, before its first message."""

_TRIES: Final = 3
"""How many messages with the same options may be unfit."""


class Shapes:
    """What kombu puts around messages, in an event loop.

    Args:
        app: Whose messages they are.
        producer: Publishes them.
    """

    def __init__(self, app: AsyncApp, producer: LoopProducer) -> None:
        self._app = app
        self._producer = producer
        self._known: dict[str, _Shape] = {}
        self._failures: Counter[str] = Counter()
        self._settings: dict[str, object] | None = None
        self._publish: object = None

    async def publish(self, rows: Sequence[OutboxRow]) -> list[Exception | None]:
        """Publish recorded messages; returns the error of each, in their order."""
        self._forget_if_changed()
        messages = [_Recorded(row) for row in rows]
        shapes = [self._known.get(message.options) for message in messages]
        pushes: dict[str, list[bytes]] = {}
        for shape, message in zip(shapes, messages, strict=True):
            if shape is None:
                # All of them by kombu, as they are to come in their order.
                return await self._publish_by_kombu(rows, messages)
            pushes.setdefault(shape.key, []).append(shape.filled(message).encode())
        errors = await self._producer.push_each(pushes, AT_ONCE)
        return [errors.get(shape.key) for shape in shapes if shape is not None]

    def _forget_if_changed(self) -> None:
        # A library for tracing may replace the method.
        found: object = Producer.publish
        settings = changes_of(self._app)
        if (
            self._settings != settings
            or self._publish is not found
            or len(self._known) + len(self._failures) >= _MOST
        ):
            self._settings, self._publish = settings.copy(), found
            self._known.clear()
            self._failures.clear()

    async def _publish_by_kombu(
        self, rows: Sequence[OutboxRow], messages: Sequence[_Recorded]
    ) -> list[Exception | None]:
        errors: list[Exception | None] = [None] * len(rows)
        first, others = _first_of_each_queue(rows)
        for some in (first, others):
            senders = [Sender(self._app, self._producer) for _ in some]
            outcomes = await asyncio.gather(
                *(
                    GreenletCoroutine(partial(publish, self._app, rows[index]), owner=sender)
                    for index, sender in zip(some, senders, strict=True)
                ),
                return_exceptions=True,
            )
            away: OperationalError | None = None
            for index, outcome, sender in zip(some, outcomes, senders, strict=True):
                if isinstance(outcome, BaseException) and not isinstance(outcome, Exception):
                    raise outcome
                errors[index] = outcome
                if outcome is None:
                    self._learn(messages[index], sender.commands)
                elif isinstance(outcome, OperationalError):
                    away = outcome
            if away is not None and some is first:
                for index in others:
                    errors[index] = away
                break
        return errors

    def _learn(self, message: _Recorded, commands: Sequence[Command]) -> None:
        options = message.options
        if options in self._known or self._failures[options] >= _TRIES:
            return
        # A library for tracing may have replaced the method, and wants to see each message.
        shape = _shape(message, commands) if is_known(self._publish) else None
        if shape is None:
            self._failures[options] += 1
        else:
            self._known[options] = shape


def _first_of_each_queue(rows: Sequence[OutboxRow]) -> tuple[list[int], list[int]]:
    """Where the first messages of all queues stand, and all others.

    What declares a queue takes longer, and others to the same queue would overtake it.
    """
    seen: set[str] = set()
    first: list[int] = []
    others: list[int] = []
    for index, row in enumerate(rows):
        # The queue is what the text of the options ends with.
        queue = row["options"].rpartition('"declare"')[2]
        (others if queue in seen else first).append(index)
        seen.add(queue)
    return first, others


class _Recorded:
    """A recorded message, taken apart.

    Attributes:
        options: All but headers and the correlation id, as text.
    """

    __slots__ = ("body", "correlation_id", "headers", "options")

    def __init__(self, row: OutboxRow) -> None:
        options: dict[str, Any] = json.loads(row["options"])
        self.body = base64.b64encode(as_bytes(row["body"])).decode("ascii")
        self.headers: object = options.pop("headers")
        self.correlation_id: object = options.pop("correlation_id", None)
        self.options = json.dumps(options)


class _Shape:
    """A message in a list in Redis, but for what differs."""

    def __init__(self, key: str, message: Mapping[str, Any]) -> None:
        self.key = key
        self._message = message
        self._properties: Mapping[str, Any] = message["properties"]

    def filled(self, message: _Recorded, tag: str | None = None) -> str:
        properties = {
            **self._properties,
            "correlation_id": message.correlation_id,
            "delivery_tag": tag or uuid(),
        }
        varying = {"body": message.body, "headers": message.headers, "properties": properties}
        return dumps({**self._message, **varying})


def _shape(message: _Recorded, commands: Sequence[Command]) -> _Shape | None:
    match commands:
        case [*declaring, ("LPUSH", str(key), str(text))] if all(
            command[0] in _DECLARING for command in declaring
        ):
            sent = json.loads(text)
            shape = _Shape(key, sent)
            tag: str = sent["properties"]["delivery_tag"]
            return shape if shape.filled(message, tag) == text else None
        case _:
            return None
