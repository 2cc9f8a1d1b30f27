"""AsyncClient: an app's messages and results, for code that runs in event loops."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Callable
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, cast
from weakref import WeakKeyDictionary

from celery.backends.redis import RedisBackend, SentinelBackend
from celery.utils.log import get_logger
from kombu.exceptions import OperationalError

from tomskit.celery._app import AsyncApp
from tomskit.celery._client.publishing import LoopProducer, Sender, publishes_in_loop
from tomskit.celery._client.retrying import Retrying
from tomskit.celery._client.subscriptions import Subscriptions
from tomskit.celery._client.templates import Templates, Wire
from tomskit.celery._client.threads import in_thread
from tomskit.celery._running.greenlets import GreenletCoroutine

if TYPE_CHECKING:
    from celery import Celery, Task
    from celery.backends.base import Backend
    from celery.result import AsyncResult

__all__ = ("AsyncClient", "send", "send_call", "subscriptions_of")

R = TypeVar("R")

logger: Final = get_logger(__name__)


async def send(app: Celery, call: Callable[[], R]) -> R:
    """Call something that sends tasks of `app`, without blocking the event loop."""
    client = _client_of(app)
    return await (in_thread(call) if client is None else client.send(call))


async def send_call(task: Task[..., Any], call: Callable[[], R], wire: Callable[[], Wire]) -> R:
    """Send a call of a task without options, without blocking the event loop.

    Args:
        task: Returns an `R` as its ``AsyncResult``.
        call: Sends it as Celery does.
        wire: What it sends.
    """
    client = _client_of(task.app)
    if client is not None and client.publishes:
        return await client.send_call(task, call, wire)
    return await in_thread(call)


async def subscriptions_of(result: AsyncResult[Any]) -> Subscriptions | None:
    """What can wait for this result; None where it is to be asked for again and again."""
    client = _client_of(result.app)
    if client is not None and client.subscribes_to(cast("_Result", result).backend):
        return await client.subscriptions()
    return None


def _client_of(app: Celery) -> AsyncClient | None:
    client = app.async_client if isinstance(app, AsyncApp) else None
    return client if isinstance(client, AsyncClient) else None


class AsyncClient:
    """Sends tasks and waits for results in event loops, of which each has connections of its own.

    They are made when they are first needed, and closed with the loop, by ``asyncio.run`` and all
    else that calls ``loop.shutdown_asyncgens``.

    Attributes:
        given_up: Set when a worker ends at once: what is retried until a server returns, is not any
            more.
    """

    def __init__(self, app: AsyncApp) -> None:
        self.given_up: threading.Event = threading.Event()
        self._app = app
        self._process = os.getpid()
        self._settings: dict[str, object] | None = None
        self._is_eager = False
        self._inherited: list[tuple[asyncio.AbstractEventLoop, _OfLoop]] = []
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _OfLoop] = WeakKeyDictionary()

    @property
    def publishes(self) -> bool:
        """Whether messages can be sent in the loop."""
        conf = self._app.conf
        changes = cast("_Changed", conf).changes
        if self._settings != changes:
            # A look at one setting takes longer than at whether any has changed: 4 against 0.1 us.
            self._settings = changes.copy()
            self._is_eager = bool(conf.task_always_eager)
        return self._publishes_in_loop and not self._is_eager

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

    async def send(
        self, call: Callable[[], R], *, patient: bool = False, blocks: bool = False
    ) -> R:
        """Call something that sends tasks, without blocking the event loop.

        Args:
            call: Sends them as Celery does.
            patient: Whether to retry until the broker returns.
            blocks: Whether it waits for the broker by itself, so that it needs a thread.
        """
        if not patient:
            return await self._send(call, blocks=blocks)
        retrying = Retrying(
            "publish a task",
            "the broker",
            is_away=lambda exc: isinstance(exc, OperationalError),
            logger=logger,
            given_up=self.given_up,
        )
        return await retrying.run_async(partial(self._send, call, blocks=blocks))

    async def _send(self, call: Callable[[], R], *, blocks: bool) -> R:
        if blocks or not self.publishes:
            return await in_thread(call)
        of_loop = await self._of_this_loop()
        return await GreenletCoroutine(call, owner=Sender(self._app, of_loop.producer))

    async def send_call(
        self, task: Task[..., Any], call: Callable[[], R], wire: Callable[[], Wire]
    ) -> R:
        """Send a call without options; see the function of that name."""
        of_loop = await self._of_this_loop()
        templates = of_loop.templates
        if templates.has(task):
            return cast("R", await templates.send(task, wire()))
        learns = templates.may_learn(task)
        sender = Sender(self._app, of_loop.producer)
        result = await GreenletCoroutine(call, owner=sender)
        if learns:
            templates.learn(task, wire(), cast("AsyncResult[Any]", result).id, sender.commands)
        return result

    async def subscriptions(self) -> Subscriptions:
        """What waits for results in this loop."""
        return (await self._of_this_loop()).subscriptions

    async def _of_this_loop(self) -> _OfLoop:
        if self._process != os.getpid():
            # A forked process must not write on the connections of its parent, nor must they be
            # deleted here: the parent's event loop, of which this is a copy, would be told.
            self._process = os.getpid()
            self._inherited.extend(self._loops.items())
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

    def __init__(self, app: AsyncApp) -> None:
        self._app = app

    @cached_property
    def producer(self) -> LoopProducer:
        return LoopProducer(self._app)

    @cached_property
    def templates(self) -> Templates:
        return Templates(self._app, self.producer)

    @cached_property
    def subscriptions(self) -> Subscriptions:
        return Subscriptions(cast("RedisBackend", self._app.celery_backend))

    async def close(self) -> None:
        if "producer" in self.__dict__:
            await self.producer.close_connections()
        if "subscriptions" in self.__dict__:
            await self.subscriptions.close()


class _Changed(Protocol):
    changes: dict[str, object]


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
