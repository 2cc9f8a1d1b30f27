"""The result backend, kept from blocking an event loop in which tasks are sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery.backends.base import Backend

from tomskit.celery._app import AsyncApp
from tomskit.celery._client.threads import in_thread
from tomskit.celery._running.places import here

__all__ = ("keep_quiet",)

_SUBSCRIBING = ("on_task_call", "add_pending_result")
"""Called when a task was sent. In an event loop those who wait for a result subscribe to it."""

_STORING = ("apply_chord", "set_chord_size")
"""Called before a chord is sent."""


def keep_quiet(app: AsyncApp, backend: Backend) -> Backend:
    """Keep `backend` from blocking the thread of an event loop in which a task is sent."""
    for name in _SUBSCRIBING:
        setattr(backend, name, _Method(app, backend, name, in_thread=False))
    for name in _STORING:
        setattr(backend, name, _Method(app, backend, name, in_thread=True))
    return backend


class _Method:
    """A method of a result backend, as it is called where tasks are sent."""

    def __init__(self, app: AsyncApp, backend: Backend, name: str, *, in_thread: bool) -> None:
        self._app = app
        self._celerys: Callable[..., object] = getattr(backend, name)
        self._name = name
        self._in_thread = in_thread

    def __call__(self, *args: Any, **kwargs: Any) -> object:
        place = here()
        if place is None or place.producer_for(self._app) is None:
            return self._celerys(*args, **kwargs)
        if self._in_thread:
            # Each thread has a backend of its own: Celery's are not made to be shared.
            return place.wait_to_the_end(
                in_thread(lambda: getattr(self._app.backend, self._name)(*args, **kwargs))
            )
        return args[0] if args else None
