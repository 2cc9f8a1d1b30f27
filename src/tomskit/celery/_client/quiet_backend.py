"""The result backend, for code that sends tasks in an event loop."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar, cast

from tomskit.celery._client.publishing import sender_here
from tomskit.celery._client.threads import in_thread
from tomskit.celery._running.greenlets import wait_to_the_end

if TYPE_CHECKING:
    from celery.backends.base import Backend

    from tomskit.celery._app import AsyncApp

__all__ = ("spare_the_loop",)

T = TypeVar("T")


def spare_the_loop(app: AsyncApp, backend: Backend) -> Backend:
    """Keep a backend from waiting for its server in the thread of a loop, where tasks are sent.

    It subscribes to results when they are sent. In a loop those who wait for them do.
    """
    _replace(backend, "on_task_call", app, _do_nothing)
    _replace(backend, "add_pending_result", app, _do_nothing)
    for name in ("apply_chord", "set_chord_size"):
        _replace(backend, name, app, partial(_call_in_thread, app, name))
    return backend


def _replace(backend: Backend, name: str, app: AsyncApp, in_sender: Callable[..., object]) -> None:
    theirs = cast("Callable[..., object]", getattr(backend, name))

    def method(*args: object, **kwargs: object) -> object:
        return (theirs if sender_here(app) is None else in_sender)(*args, **kwargs)

    setattr(backend, name, method)


def _do_nothing(result: object, *_: object, **__: object) -> object:
    return result


def _call_in_thread(app: AsyncApp, name: str, *args: object, **kwargs: object) -> object:
    def call() -> object:
        return cast("Callable[..., object]", getattr(app.backend, name))(*args, **kwargs)

    return wait_to_the_end(in_thread(call))
