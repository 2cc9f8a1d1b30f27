"""AsyncClient: an app's messages and results, for code that runs in event loops."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast
from weakref import WeakKeyDictionary

from celery.backends.redis import RedisBackend, SentinelBackend

from tomskit.celery.async_client.publishing import LoopProducer, publishes_in_loop
from tomskit.celery.async_client.subscriptions import Subscriptions
from tomskit.celery.async_client.threads import in_thread
from tomskit.celery.greenlets import GreenletCoroutine, here

if TYPE_CHECKING:
    from celery import Celery
    from celery.backends.base import Backend
    from celery.result import AsyncResult

    from tomskit.celery.app import AsyncCelery

__all__ = ("AsyncClient", "Sender", "send", "sender_here", "subscriptions_of")

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Sender:
    """What sends in a greenlet, without blocking its event loop."""

    app: AsyncCelery
    producer: LoopProducer


def sender_here(app: Celery) -> Sender | None:
    """The sender of this app in whose greenlet this code runs."""
    owner = here()
    return owner if isinstance(owner, Sender) and owner.app is app else None


async def send(app: Celery, call: Callable[[], R]) -> R:
    """Call something that sends tasks of `app`, without blocking the event loop."""
    client = getattr(app, "async_client", None)
    if isinstance(client, AsyncClient) and client.publishes:
        return await client.send(call)
    return await in_thread(call)


async def subscriptions_of(result: AsyncResult[Any]) -> Subscriptions | None:
    """What can wait for this result; None where it is to be asked for again and again."""
    client = getattr(result.app, "async_client", None)
    if isinstance(client, AsyncClient) and client.subscribes_to(cast("_Result", result).backend):
        return await client.subscriptions()
    return None


class AsyncClient:
    """Sends tasks and waits for results in event loops, of which each has connections of its own.

    They are made when they are first needed, and closed with the loop, by ``asyncio.run`` and all
    else that calls ``loop.shutdown_asyncgens``.
    """

    def __init__(self, app: AsyncCelery) -> None:
        self._app = app
        self._process = os.getpid()
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _OfLoop] = WeakKeyDictionary()

    @property
    def publishes(self) -> bool:
        """Whether messages can be sent in the loop."""
        return self._publishes_in_loop and not self._app.conf.task_always_eager

    @cached_property
    def _publishes_in_loop(self) -> bool:
        chosen = self._app.config.CELERY_REDIS_FAST_PATH is not False
        return chosen and publishes_in_loop(self._app)

    def subscribes_to(self, backend: object) -> bool:
        """Whether the results in `backend` can be waited for in the loop."""
        app = self._app
        mine = app.celery_backend
        return (
            app.config.CELERY_REDIS_FAST_PATH is not False
            and type(mine) in {RedisBackend, SentinelBackend}
            and (backend is app.backend or _are_same(backend, mine))
        )

    async def send(self, call: Callable[[], R]) -> R:
        """Call something that sends tasks."""
        of_loop = await self._of_this_loop()
        return await GreenletCoroutine(call, owner=Sender(self._app, of_loop.producer))

    async def subscriptions(self) -> Subscriptions:
        """What waits for results in this loop."""
        return (await self._of_this_loop()).subscriptions

    async def _of_this_loop(self) -> _OfLoop:
        if self._process != os.getpid():
            # A forked process must not write on the connections of its parent.
            self._process = os.getpid()
            self._loops = WeakKeyDictionary()
        loop = asyncio.get_running_loop()
        known = self._loops.get(loop)
        if known is None:
            for closed in [other for other in self._loops if other.is_closed()]:
                del self._loops[closed]
            known = self._loops[loop] = _OfLoop(self._app)
            known.closing = self._close_with_loop(loop, known)
            await anext(known.closing)
        return known

    async def _close_with_loop(
        self, loop: asyncio.AbstractEventLoop, of_loop: _OfLoop
    ) -> AsyncGenerator[None]:
        # An event loop that ends closes the asynchronous generators that have begun.
        try:
            yield
        finally:
            self._loops.pop(loop, None)
            await of_loop.close()


class _OfLoop:
    """What belongs to an event loop."""

    closing: AsyncGenerator[None]

    def __init__(self, app: AsyncCelery) -> None:
        self._app = app

    @cached_property
    def producer(self) -> LoopProducer:
        return LoopProducer(self._app)

    @cached_property
    def subscriptions(self) -> Subscriptions:
        return Subscriptions(cast("RedisBackend", self._app.celery_backend))

    async def close(self) -> None:
        if "producer" in self.__dict__:
            await self.producer.close_connections()
        if "subscriptions" in self.__dict__:
            await self.subscriptions.close()


class _Result(Protocol):
    backend: Backend


class _Redis(Protocol):
    connparams: dict[str, object]


def _are_same(backend: object, mine: Backend) -> bool:
    # Each thread has an object of its own for it.
    return (
        type(backend) is type(mine)
        and cast("_Redis", backend).connparams == cast("_Redis", mine).connparams
    )
