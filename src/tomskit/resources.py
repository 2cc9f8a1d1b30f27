"""Start resource providers with an event loop, and enter their scopes around each task."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Iterable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Final, Protocol, TypeVar
from weakref import WeakSet

from tomskit.errors import ConfigurationError, ProviderError
from tomskit.living import LivingSet
from tomskit.protocols import ResourceProvider
from tomskit.showing import shown

__all__ = ("Background", "Resources", "background")

T = TypeVar("T")

logger: Final = logging.getLogger(__name__)

SHUTDOWN_SECONDS: Final = 10.0
"""Time limit for stopping a provider: a server that does not answer must not keep a process alive."""


class Background(Protocol):
    """Work that goes on in an event loop after the tasks that have asked for it.

    Attributes:
        loop: The event loop.
        task: Does it; None while there is nothing to do. Nobody but its owner cancels it.
    """

    loop: asyncio.AbstractEventLoop
    task: asyncio.Task[None] | None

    async def finish(self) -> None:
        """Do what is left, within some seconds; before anything in the loop is cancelled."""


background: Final[LivingSet[Background]] = LivingSet()
"""That of all event loops."""


class Resources:
    """An app's providers, started, stopped and entered together.

    Args:
        providers: Started in this order and stopped in reverse.

    Raises:
        ConfigurationError: Two providers have the same name.
    """

    def __init__(self, providers: Iterable[ResourceProvider]) -> None:
        self.providers: tuple[ResourceProvider, ...] = tuple(providers)
        names = [provider.name for provider in self.providers]
        if duplicates := sorted({name for name in names if names.count(name) > 1}):
            raise ConfigurationError(
                f"Two resource providers are called {duplicates[0]!r}; names have to be unique."
            )
        self._running: WeakSet[asyncio.AbstractEventLoop] = WeakSet()

    def only(self, *, without: Iterable[str]) -> Resources:
        """The same providers, except those with these names."""
        dropped = set(without)
        return Resources(p for p in self.providers if p.name not in dropped)

    async def start(self) -> None:
        """Start every provider for the running event loop.

        Raises:
            ProviderError: One did not start. Those that had been started are stopped.
        """
        started: list[ResourceProvider] = []
        for provider in self.providers:
            try:
                await provider.startup()
            except BaseException as exc:
                await _stop(started)
                if not isinstance(exc, Exception):
                    raise
                raise ProviderError(
                    provider.name,
                    f"The resource provider {provider.name!r} did not start: {shown(exc)}",
                ) from exc
            started.append(provider)
        self._running.add(asyncio.get_running_loop())

    async def stop(self) -> None:
        """Stop every provider for the running event loop; errors are logged, not raised."""
        self._running.discard(asyncio.get_running_loop())
        await _stop(self.providers)

    async def run(self, awaitable: Awaitable[T]) -> T:
        """Await `awaitable` within the scopes of all providers.

        If `start` was not called for the running loop, the providers are started before and stopped
        after: some runtimes make a loop for each call.
        """
        if asyncio.get_running_loop() in self._running:
            return await self.scoped(awaitable)
        await self.start()
        try:
            return await self.scoped(awaitable)
        finally:
            await self.stop()

    async def scoped(self, awaitable: Awaitable[T]) -> T:
        """Await `awaitable` within the scopes of all providers, which have been started.

        If it raises, its error is raised, and an error in closing a scope is only logged. If it
        returns and closing a scope fails, that error is raised.
        """
        entered: list[tuple[str, AbstractAsyncContextManager[object]]] = []
        try:
            for provider in self.providers:
                scope = provider.task_scope()
                if type(scope) is nullcontext:
                    continue
                await scope.__aenter__()
                entered.append((provider.name, scope))
            result = await awaitable
            while entered:
                _, scope = entered.pop()
                await scope.__aexit__(None, None, None)
        except BaseException as exc:
            while entered:
                name, scope = entered.pop()
                try:
                    await scope.__aexit__(type(exc), exc, exc.__traceback__)
                except Exception as error:
                    if error is not exc:
                        logger.error(  # noqa: TRY400 (the traceback to log is that of `error`)
                            "The resource provider %r failed to clean up after a task that raised %s",
                            name,
                            shown(exc),
                            exc_info=error,
                        )
            raise
        return result


async def _stop(providers: Iterable[ResourceProvider]) -> None:
    for provider in reversed(tuple(providers)):
        try:
            async with asyncio.timeout(SHUTDOWN_SECONDS):
                await provider.shutdown()
        except Exception:
            logger.exception("The resource provider %r did not stop cleanly", provider.name)
