"""MainLoop: the worker's own loop as the one that AsyncRuntime runs coroutines on."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Never, TypeVar

from celery import Celery
from typing_extensions import override

from tomskit.celery._running.event_loop import EventLoop
from tomskit.celery._running.places import here
from tomskit.celery.asyncio_pool.hub import LoopHub

__all__ = ("MainLoop",)

R = TypeVar("R")


class MainLoop(EventLoop):
    """The loop that the worker waits in, with an app's resources.

    Threads run coroutines on it as on any other. A task in a greenlet runs its coroutine right
    there, and so does the worker itself, while it has nothing else to do.
    """

    def __init__(self, app: Celery, hub: LoopHub) -> None:
        super().__init__(app, hub.asyncio_loop)
        self._hub = hub

    def start(self) -> None:
        """Open the app's resources."""
        self.inbox.open()
        self._hub.wait(self.resources.start())

    @override
    def give_way(self) -> bool:
        # The worker itself waits in it.
        return False

    @override
    def stop(self) -> None:
        self._hub.wait(self.release())
        self.loop.close()

    @override
    def owns_this_thread(self) -> bool:
        return self._hub.owns_this_thread()

    @override
    def run_in_own_thread(self, coro: Coroutine[object, Never, R]) -> R:
        place = here()
        if place is not None:
            return place.run(coro, self.resources)
        return super().run_in_own_thread(coro)
