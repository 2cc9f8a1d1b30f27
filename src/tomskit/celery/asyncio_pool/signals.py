"""Signals that end a worker, handled in its turn and not in the middle of a coroutine."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Final

from tomskit.celery._internals.celery_worker import stop_requested
from tomskit.celery.asyncio_pool.hub import LoopHub

__all__ = ("SignalHandlers",)

_Handler = Callable[[int, FrameType | None], object]

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)


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
                signal.signal(number, current.handler)
        self._deferred.clear()

    def _defer(self, number: int) -> None:
        self._hub.call_in_turn(partial(self._handle, number))

    def _handle(self, number: int) -> None:
        if number == signal.SIGTERM and stop_requested():
            # Celery ignores a second SIGTERM; here it ends the worker at once.
            number = signal.SIGQUIT
        # Not the handler that was installed when the signal arrived: Celery's handlers replace each
        # other, and another signal may have been handled meanwhile.
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
