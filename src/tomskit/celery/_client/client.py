"""AsyncClient: an app's messages and results, for code that runs in event loops."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast
from weakref import WeakKeyDictionary

from celery.utils.log import get_logger
from kombu.exceptions import OperationalError

from tomskit.celery._app import AsyncApp
from tomskit.celery._client.publishing import LoopProducer, Sender, publishes_in_loop
from tomskit.celery._client.recording import publish
from tomskit.celery._client.retrying import Outage, Retrying, is_away
from tomskit.celery._client.shapes import Shapes
from tomskit.celery._client.subscriptions import Subscriptions
from tomskit.celery._client.templates import Templates, Wire
from tomskit.celery._client.threads import in_thread, in_thread_of_its_own
from tomskit.celery._internals.celery_app import changes_of
from tomskit.celery._internals.celery_backend import are_of_one_server, is_redis_backend
from tomskit.celery._running.greenlets import GreenletCoroutine
from tomskit.lazily import cached_property
from tomskit.living import LivingSet, living_keys

if TYPE_CHECKING:
    from celery import Celery, Task
    from celery.result import AsyncResult

    from tomskit.sqlalchemy.rows import OutboxRow

__all__ = ("AsyncClient", "publish_each", "send", "send_call", "subscriptions_of")

R = TypeVar("R")

logger: Final = get_logger(__name__)


async def send(app: Celery, call: Callable[[], R], *, blocks: bool = False) -> R:
    """Call something that sends tasks of `app`, without blocking the event loop.

    Args:
        app: Whose tasks it sends.
        call: Sends them as Celery does.
        blocks: Whether it waits for the broker by itself, so that it needs a thread.
    """
    client = _client_of(app)
    return await (_in_thread(app, call) if client is None else client.send(call, blocks=blocks))


async def send_call(task: Task[..., Any], call: Callable[[], R], wire: Callable[[], Wire]) -> R:
    """Send a call of a task without options, without blocking the event loop.

    Args:
        task: Returns an `R` as its ``AsyncResult``.
        call: Sends it as Celery does.
        wire: Makes the arguments, as they are sent.
    """
    client = _client_of(task.app)
    if client is not None and client.publishes:
        return await client.send_call(task, call, wire)
    return await _in_thread(task.app, call)


async def publish_each(app: AsyncApp, rows: Sequence[OutboxRow]) -> list[Exception | None]:
    """Publish recorded messages of `app`, without blocking the event loop.

    Returns:
        The error of each, in the same order. After one that says that the broker is away the others
        may have the same one without having been tried.
    """
    client = _client_of(app)
    if client is None or not client.publishes:
        return await in_thread(partial(_publish_each, app, rows))
    return await client.publish_each(rows)


async def subscriptions_of(result: AsyncResult[Any] | Task[..., Any]) -> Subscriptions | None:
    """The subscriptions that can wait for this result, or for those of this task.

    None where it has to be polled.
    """
    client = _client_of(result.app)
    if client is not None and client.subscribes_to(result.backend):
        return await client.subscriptions()
    return None


def _in_thread(app: Celery, call: Callable[[], R]) -> asyncio.Future[R]:
    """Send tasks in a thread, where they run as well if the app is eager."""
    return in_thread_of_its_own(call) if app.conf.task_always_eager else in_thread(call)


def _client_of(app: Celery) -> AsyncClient | None:
    client = app.async_client if isinstance(app, AsyncApp) else None
    return client if isinstance(client, AsyncClient) else None


class AsyncClient:
    """Sends tasks and waits for results in event loops, each of which has connections of its own.

    They are made when they are first needed, and closed with the loop, by ``asyncio.run`` and by
    anything else that calls ``loop.shutdown_asyncgens``.

    Attributes:
        given_up: Set when a worker ends at once: nothing is retried any more.
    """

    def __init__(self, app: AsyncApp) -> None:
        self.given_up: threading.Event = threading.Event()
        self._app = app
        self._outage = Outage("publish a task", "the broker", logger)
        self._eagerness: tuple[dict[str, object], bool] | None = None
        self._inherited: list[tuple[asyncio.AbstractEventLoop, _LoopParts]] = []
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopParts] = WeakKeyDictionary()
        _clients.add(self)

    @property
    def publishes(self) -> bool:
        """Whether messages can be sent in the loop."""
        changes = changes_of(self._app)
        known = self._eagerness
        if known is None or known[0] != changes:
            # Reading one setting takes 4 us, comparing all changed ones 0.1 us. As one object, for other threads.
            known = changes.copy(), bool(self._app.conf.task_always_eager)
            self._eagerness = known
        return self._publishes_in_loop and not known[1] and self._app.recorder is None

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
            and is_redis_backend(mine)
            # Each thread has a backend of its own.
            and (backend is app.backend or are_of_one_server(backend, mine))
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
            self._outage,
            is_away=lambda exc: isinstance(exc, OperationalError) and is_away(exc),
            given_up=self.given_up,
        )
        return await retrying.run_async(partial(self._send, call, blocks=blocks))

    async def _send(self, call: Callable[[], R], *, blocks: bool) -> R:
        if blocks or not self.publishes:
            return await _in_thread(self._app, call)
        parts = await self._parts_of_loop()
        return await GreenletCoroutine(call, owner=Sender(self._app, parts.producer))

    async def publish_each(self, rows: Sequence[OutboxRow]) -> list[Exception | None]:
        """Publish recorded messages in the loop; see the function of that name."""
        parts = await self._parts_of_loop()
        try:
            return await parts.shapes.publish(rows)
        except OperationalError as exc:
            return [exc] * len(rows)

    async def send_call(
        self, task: Task[..., Any], call: Callable[[], R], wire: Callable[[], Wire]
    ) -> R:
        """Send a call without options; see the function of that name."""
        parts = await self._parts_of_loop()
        templates = parts.templates
        if templates.has(task):
            return cast("R", await templates.send(task, wire()))
        learns = templates.may_learn(task)
        sender = Sender(self._app, parts.producer)
        result = await GreenletCoroutine(call, owner=sender)
        if learns:
            templates.learn(task, wire(), cast("AsyncResult[Any]", result).id, sender.commands)
        return result

    async def subscriptions(self) -> Subscriptions:
        """The subscriptions of the running event loop."""
        return (await self._parts_of_loop()).subscriptions

    async def _parts_of_loop(self) -> _LoopParts:
        loop = asyncio.get_running_loop()
        known = self._loops.get(loop)
        if known is None:
            for other in living_keys(self._loops):
                if other.is_closed():
                    self._loops.pop(other, None)
            known = self._loops[loop] = _LoopParts(self._app)
            known.closing = self._close_with_loop(loop, known)
            await anext(known.closing)
        return known

    def leave_to_parent(self) -> None:
        """Start anew in a process that has just been forked.

        It must not write to the connections of its parent, nor delete them here: that would change
        the event loop of the parent, which shares its epoll object.
        """
        self._inherited.extend(self._loops.items())
        self._loops = WeakKeyDictionary()

    async def _close_with_loop(
        self, loop: asyncio.AbstractEventLoop, parts: _LoopParts
    ) -> AsyncGenerator[None]:
        # An event loop closes asynchronous generators that have started when it ends.
        try:
            yield
        finally:
            self._loops.pop(loop, None)
            await parts.close()


_clients: Final[LivingSet[AsyncClient]] = LivingSet()


def _after_fork() -> None:
    for client in _clients:
        client.leave_to_parent()


os.register_at_fork(after_in_child=_after_fork)


def _publish_each(app: AsyncApp, rows: Sequence[OutboxRow]) -> list[Exception | None]:
    errors: list[Exception | None] = []
    for row in rows:
        try:
            publish(app, row)
        except OperationalError as exc:
            return [*errors, *[exc] * (len(rows) - len(errors))]
        except Exception as exc:  # noqa: BLE001 (the caller decides)
            errors.append(exc)
        else:
            errors.append(None)
    return errors


class _LoopParts:
    """What the client keeps for one event loop."""

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
    def shapes(self) -> Shapes:
        return Shapes(self._app, self.producer)

    @cached_property
    def subscriptions(self) -> Subscriptions:
        backend = self._app.celery_backend
        assert is_redis_backend(backend), "only results in Redis are subscribed to"  # noqa: S101
        return Subscriptions(backend)

    async def close(self) -> None:
        if "producer" in self.__dict__:
            await self.producer.close_connections()
        if "subscriptions" in self.__dict__:
            await self.subscriptions.close()
