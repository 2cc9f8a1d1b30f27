"""Heartbeats of a worker whose broker is away: each is tried once.

Celery's worker tries to send one again and again until the broker is back, in the thread that consumes messages,
and does nothing else meanwhile: it neither makes its connection anew nor ends on SIGTERM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery.events import EventDispatcher
from typing_extensions import override

from tomskit.celery._internals.celery_worker import send_events_by

if TYPE_CHECKING:
    from celery import Celery

__all__ = ("send_heartbeats_once",)


class _Dispatcher(EventDispatcher):
    """Keeps what cannot be sent, as Celery's does with all other events."""

    @override
    def send(self, type: str, *args: Any, retry: bool = False, **fields: Any) -> Any:
        return super().send(type, *args, **fields)


def send_heartbeats_once(app: Celery) -> None:
    """Let workers of an app try to send each heartbeat once."""
    send_events_by(_Dispatcher, app)
