"""RuntimeHost: starts, uses and stops whichever runtime an app was given."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Final, Never, TypeVar

from tomskit.celery._running.context import TaskIdentity
from tomskit.celery._running.event_loop import run_aside
from tomskit.celery._running.execution import as_task
from tomskit.celery._running.forks import ForkLock
from tomskit.celery._running.places import here
from tomskit.celery._running.runtime import AsyncRuntime
from tomskit.protocols import Runtime
from tomskit.resources import Resources

if TYPE_CHECKING:
    from celery import Celery

__all__ = ("RuntimeHost",)

R = TypeVar("R")


class RuntimeHost:
    """An app's runtime together with the resources that its coroutines use.

    AsyncRuntime looks after resources itself. Around the coroutines that any other runtime is
    given, the host puts the task's identity and the providers' scopes, on whatever loop they run.

    Attributes:
        uses_async_runtime: Whether the runtime is AsyncRuntime.
        resources: The resources.
    """

    def __init__(self, app: Celery, runtime: Runtime, resources: Resources) -> None:
        self.uses_async_runtime: Final = isinstance(runtime, type) and issubclass(
            runtime, AsyncRuntime
        )
        self._app = app
        self._runtime = runtime
        self.resources: Final = resources
        self._lock = ForkLock(is_brief=False)
        self._pid: int | None = None
        self._has_loop = False

    def start(self) -> None:
        """Get ready in this process; does nothing where that has been done.

        Raises:
            ProviderError: A resource provider did not start.
        """
        if self._pid == os.getpid():
            return
        with self._lock:
            if self._pid == os.getpid():
                return
            self._runtime.init(self._app)
            if not self.uses_async_runtime:
                # A runtime that makes a loop for each call has closed this one by now; then the
                # providers are started within each call instead.
                self._has_loop = not self._runtime.run(_running_loop()).is_closed()
                if self._has_loop:
                    self._runtime.run(self.resources.start())
            self._pid = os.getpid()

    def stop(self) -> None:
        """Close the resources and the runtime, if they were started in this process."""
        with self._lock:
            if self._pid != os.getpid():
                return
            self._pid = None
            if self._has_loop and not self.uses_async_runtime:
                self._runtime.run(self.resources.stop())
            self._runtime.shutdown()

    def run(self, coro: Coroutine[object, Never, R]) -> R:
        """Run a task's coroutine to its end."""
        if self.uses_async_runtime:
            place = here()
            if place is not None:
                # A task of the asyncio pool: its coroutine runs where its tracer does.
                return place.run(coro, self.resources)
            caller = object()
            loop = AsyncRuntime.hold(self._app, caller)
            if loop is None:
                return run_aside(self._app, self.resources, TaskIdentity.current(), coro)
            try:
                return self._runtime.run(coro)
            finally:
                loop.let_go(caller)
        self.start()
        return self._runtime.run(as_task(TaskIdentity.current(), self.resources, coro))


async def _running_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()
