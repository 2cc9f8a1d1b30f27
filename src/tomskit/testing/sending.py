"""``sent(app)``: what would be published, without a broker."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from celery.backends.base import DisabledBackend
from kombu import Connection, Producer
from kombu.compression import decompress
from kombu.serialization import dumps, loads
from typing_extensions import override

from tomskit.celery._tasks.signature_checks import codec_of
from tomskit.celery.app import AsyncCelery

__all__ = ("SentTask", "sent")


@dataclass(frozen=True)
class SentTask:
    """A task that would have been sent.

    Attributes:
        name: The task's name.
        id: The task's id.
        args: The positional arguments, as the function would get them.
        kwargs: The keyword arguments, as the function would get them.
        queue: Where it would go: the routing key, which for ordinary queues is the queue's name.
        exchange: The exchange; empty for ordinary queues.
        priority: The message's priority.
        eta: The earliest time at which it would run.
        expires: The time after which it would not run any more.
        headers: The headers of the message.
        embedded: What the message carries along: links, and the rest of a chain or chord.
    """

    name: str
    id: str
    args: tuple[object, ...]
    kwargs: Mapping[str, object]
    queue: str
    exchange: str
    priority: int | None
    eta: datetime | None
    expires: datetime | None
    headers: Mapping[str, object]
    embedded: Mapping[str, object]


@contextmanager
def sent(app: AsyncCelery) -> Generator[list[SentTask]]:
    """Catch the tasks that are sent meanwhile, by any thread or event loop, instead of sending them.

    Everything before the broker happens as ever: arguments are checked and encoded, routes are
    followed, and the signals of publishing are sent. Results of these tasks never come.

    Args:
        app: The app whose tasks are caught.

    Yields:
        The tasks that were sent, in their order; it grows meanwhile.
    """
    caught: list[SentTask] = []
    recorder = _Recorder(app, caught)
    backend = _NoResults(app=app)
    before = app.recorder, app.pool_backend
    app.recorder, app.pool_backend = recorder, lambda _: backend
    try:
        yield caught
    finally:
        app.recorder, app.pool_backend = before


class _Recorder(Producer):
    """Takes the place of what publishes: notes each message in the form in which it would arrive."""

    def __init__(self, app: AsyncCelery, caught: list[SentTask]) -> None:
        super().__init__(Connection("memory://"), auto_declare=False)
        self._app = app
        self._caught = caught

    @override
    def publish(
        self,
        body: Any,
        routing_key: str | None = None,
        *_: Any,
        exchange: Any = None,
        headers: Mapping[str, Any] | None = None,
        serializer: str | None = None,
        priority: int | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        **__: Any,
    ) -> None:
        headers = dict(headers or {})
        if content_type is None:
            content_type, content_encoding, body = dumps(body, serializer)
        # What was sent on commit is encoded already, and compressed.
        compression = headers.get("compression")
        data = decompress(body, compression) if compression else body
        encoding = content_encoding or "utf-8"
        args, kwargs, embedded = loads(data, content_type, encoding, accept={content_type})
        name = str(headers["task"])
        args, kwargs = tuple(args), dict(kwargs)
        codec = codec_of(self._app.tasks.get(name))
        # What another app's worker does with the arguments is not known here.
        loaded = (args, kwargs) if codec is None else codec.load(args, kwargs)
        self._caught.append(
            SentTask(
                name=name,
                id=str(headers["id"]),
                args=tuple(loaded[0]),
                kwargs=loaded[1],
                queue=routing_key or "",
                exchange=getattr(exchange, "name", exchange) or "",
                priority=priority,
                eta=_time(headers.get("eta")),
                expires=_time(headers.get("expires")),
                headers=headers,
                embedded=embedded,
            )
        )


class _NoResults(DisabledBackend):
    """Says that there are no results, except to a chord, whose header is sent nevertheless."""

    @override
    def ensure_chords_allowed(self) -> None: ...

    @override
    def apply_chord(self, *_: object, **__: object) -> None: ...


def _time(text: object) -> datetime | None:
    if isinstance(text, datetime):
        return text
    return None if text is None else datetime.fromisoformat(str(text))
