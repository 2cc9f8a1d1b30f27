"""The result backend, where tasks are sent in an event loop, which it must not block."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from celery.backends.base import Backend
from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.utils.log import get_logger

from tomskit.celery._app import AsyncApp
from tomskit.celery._client.recording import recording_here
from tomskit.celery._client.threads import in_thread
from tomskit.celery._client.waiting import waiting
from tomskit.celery._internals.celery_backend import STORING_CHORDS, SUBSCRIBING
from tomskit.celery._running.event_loop import loop_runs_here
from tomskit.celery._running.places import here
from tomskit.redis.away import ServerAwayError

__all__ = ("keep_quiet", "without_subscribing")

logger: Final = get_logger(__name__)

_storing_chord: Final = ContextVar("storing_chord", default=False)
"""Whether Celery stores a chord. It makes a result of the members for that and drops it, and a process that
subscribes to them would stay so for ever: nobody asks that result."""


_making_set: Final = ContextVar("tomskit_making_set", default=False)
"""Whether results are put into a set in an event loop, whose thread Celery would subscribe in."""


@contextmanager
def without_subscribing() -> Generator[None]:
    """Do not subscribe to results in the thread of a running event loop. Elsewhere this does nothing."""
    token = _making_set.set(loop_runs_here())
    try:
        yield
    finally:
        _making_set.reset(token)


def keep_quiet(app: AsyncApp, backend: Backend) -> Backend:
    """Keep `backend` from blocking the thread of an event loop in which a task is sent."""
    for name in SUBSCRIBING:
        setattr(backend, name, _Method(app, backend, name, in_thread=False))
    for name in STORING_CHORDS:
        setattr(backend, name, _Method(app, backend, name, in_thread=True))
    return backend


class _Method:
    """Replaces a method of a result backend that Celery calls when it sends a task."""

    def __init__(self, app: AsyncApp, backend: Backend, name: str, *, in_thread: bool) -> None:
        self._app = app
        self._celerys: Callable[..., object] = getattr(backend, name)
        self._name = name
        self._in_thread = in_thread

    def __call__(self, *args: Any, **kwargs: Any) -> object:
        is_quiet = recording_here.get() is not None or _storing_chord.get() or _making_set.get()
        if is_quiet and not self._in_thread:
            # Nobody waits for the result, or not before the message is published.
            return args[0] if args else None
        place = here()
        if place is None or place.producer_for(self._app) is None:
            if self._in_thread:
                return self._store(*args, **kwargs)
            call = self._subscribe if self._name == "on_task_call" else self._celerys
            return call(*args, **kwargs)
        if self._in_thread:
            # Each thread has a backend of its own: Celery's are not made to be shared.
            return place.wait_to_the_end(
                in_thread(lambda: getattr(self._app.backend, self._name)(*args, **kwargs))
            )
        return args[0] if args else None

    def _subscribe(self, *args: Any, **kwargs: Any) -> object:
        try:
            # Who sends a task does not wait for the results' server: the broker may be there.
            with waiting(0):
                return self._celerys(*args, **kwargs)
        except (ServerAwayError, CeleryTimeoutError) as exc:
            # Whoever waits for the result tries again.
            logger.debug("Not subscribed before the task is sent: %s", exc)
            return None

    def _store(self, *args: Any, **kwargs: Any) -> object:
        token = _storing_chord.set(True)
        try:
            return self._celerys(*args, **kwargs)
        finally:
            _storing_chord.reset(token)
