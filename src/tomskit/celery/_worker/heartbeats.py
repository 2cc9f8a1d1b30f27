"""Heartbeats of a worker whose broker is away: each is tried once.

Celery's worker tries to send one again and again until the broker is back, in the thread that consumes messages,
and does nothing else meanwhile: it neither makes its connection anew nor ends on SIGTERM.
"""

from __future__ import annotations

from typing import Any

from celery.events import EventDispatcher
from typing_extensions import override

__all__ = ("send_heartbeats_as_celery", "send_heartbeats_once")


class _Dispatcher(EventDispatcher):
    """Keeps what cannot be sent, as Celery's does with all other events."""

    @override
    def send(self, type: str, *args: Any, retry: bool = False, **fields: Any) -> Any:
        return super().send(type, *args, **fields)


def send_heartbeats_once(app: Any) -> None:
    """Let workers of an app try to send each heartbeat once."""
    app.events.dispatcher_cls = _Dispatcher
    _forget(app, "Dispatcher")


def send_heartbeats_as_celery(app: Any) -> None:
    """Undo `send_heartbeats_once`."""
    _forget(app, "Dispatcher", "dispatcher_cls")


def _forget(app: Any, *names: str) -> None:
    events: object = app.events
    for name in names:
        vars(events).pop(name, None)
