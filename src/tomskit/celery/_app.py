"""AsyncApp: what the rooms below the app may ask of it.

They never import `tomskit.celery.app`, which stands on top of them all. This base class has no
behaviour of its own: `AsyncCelery` is the one class that is made of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine
from typing import Never, Protocol, TypeVar

from celery.backends.base import Backend
from kombu import Producer

from tomskit.celery._internals.celery_app import App
from tomskit.celery.config import CeleryConfig
from tomskit.lazily import cached_property
from tomskit.protocols import Runtime
from tomskit.resources import Resources

__all__ = ("AsyncApp", "AsyncSender", "Host")

R = TypeVar("R")


class Host(Protocol):
    """Starts, uses and stops the app's runtime in this process."""

    @property
    def uses_async_runtime(self) -> bool:
        """Whether the runtime is AsyncRuntime, which looks after the app's resources itself."""
        ...

    def start(self) -> None:
        """Get ready in this process; does nothing where that has been done."""

    def stop(self) -> None:
        """Close what `start` opened."""

    def run(self, coro: Coroutine[object, Never, R]) -> R:
        """Run a task's coroutine to its end."""
        ...


class AsyncSender(Protocol):
    """Publishes messages without blocking the running event loop.

    Attributes:
        given_up: Set when a worker ends at once: nothing is retried any more.
    """

    given_up: threading.Event

    async def send(
        self, call: Callable[[], R], *, patient: bool = False, blocks: bool = False
    ) -> R:
        """Call something that sends tasks.

        Args:
            call: Sends them as Celery does.
            patient: Whether to retry until the broker returns.
            blocks: Whether it waits for the broker by itself, so that it needs a thread.
        """
        ...


class AsyncApp(App):
    """What the other rooms may ask an AsyncCelery for.

    Attributes:
        runtime: What runs coroutines.
        pool_backend: Set in a worker: makes the result backend that its tasks and the worker
            use in place of Celery's.
        recorder: Set by `tomskit.testing.sent`: takes messages in place of a broker.
    """

    runtime: Runtime
    recorder: Producer | None = None
    pool_backend: Callable[[Backend], Backend] | None = None

    @property
    def config(self) -> CeleryConfig:
        """The configuration that was applied, or one read from the environment."""
        raise NotImplementedError

    @cached_property
    def resources(self) -> Resources:
        """The providers of this app, in the order in which they start."""
        raise NotImplementedError

    def name_defaults(self) -> None:
        """Log where a worker's redis_client connects, if nothing but the broker was set."""
        raise NotImplementedError

    @cached_property
    def runtime_host(self) -> Host:
        """Starts, uses and stops this app's runtime."""
        raise NotImplementedError

    @cached_property
    def async_client(self) -> AsyncSender:
        """Sends tasks in event loops."""
        raise NotImplementedError

    @property
    def celery_backend(self) -> Backend:
        """The result backend, as Celery makes it."""
        raise NotImplementedError
