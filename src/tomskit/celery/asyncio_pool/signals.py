"""Signals that end a worker, handled in its turn and not in the middle of a coroutine."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Final, Protocol, cast

from celery.worker import state as worker_state

from tomskit.celery.asyncio_pool.hub import LoopHub

__all__ = ("SignalHandlers", "quit_requested", "stop_requested")

_Handler = Callable[[int, FrameType | None], object]

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)


class _StopRequests(Protocol):
    """Celery's flags: an exit code, 0 among them, or True, asks for it."""

    should_stop: int | None
    should_terminate: int | None


_requests: Final = cast("_StopRequests", worker_state)


def stop_requested() -> bool:
    """Whether the worker is to stop, warm."""
    return _requests.should_stop is not None and _requests.should_stop is not False


def quit_requested() -> bool:
    """Whether the worker is to stop and to cancel what runs."""
    return _requests.should_terminate is not None and _requests.should_terminate is not False


class SignalHandlers:
    """Defers Celery's signal handlers to where the worker waits.

    Python calls a handler wherever the program happens to be, and Celery's do much: that of SIGQUIT
    cancels all tasks and waits for them. In the middle of a coroutine that could only go wrong.
    """

    def __init__(self, hub: LoopHub) -> None:
        self._hub = hub
        self._deferred: dict[int, _Deferred] = {}

    def install(self) -> None:
        """Defer whichever handlers are installed now; from the main thread."""
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if callable(handler) and not isinstance(handler, _Deferred):
                deferred = self._deferred[number] = _Deferred(handler, self._defer)
                signal.signal(number, deferred)

    def remove(self) -> None:
        """Put Celery's own handlers back."""
        for number in self._deferred:
            current = signal.getsignal(number)
            if isinstance(current, _Deferred):
                signal.signal(number, cast("Callable[..., object]", current.handler))
        self._deferred.clear()

    def _defer(self, number: int) -> None:
        self._hub.call_in_turn(partial(self._handle, number))

    def _handle(self, number: int) -> None:
        if number == signal.SIGTERM and stop_requested():
            # Celery ignores it. Who sends it again wants the worker to end now.
            number = signal.SIGQUIT
        # Not the one that was there when the signal came: one that was handled meanwhile may have
        # put another in its place, as Celery's do for the next time.
        deferred = self._deferred.get(number)
        if deferred is None:
            return
        try:
            deferred.handler(number, None)
        finally:
            self.install()


class _Deferred:
    """A signal handler that has another one called later."""

    def __init__(self, handler: _Handler, defer: Callable[[int], None]) -> None:
        self.handler = handler
        self._defer = defer

    def __call__(self, number: int, _: FrameType | None) -> None:
        self._defer(number)
