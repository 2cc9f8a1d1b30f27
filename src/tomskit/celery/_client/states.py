"""What an event loop may ask about a task beside its result: its state, and to revoke or forget it.

With results in Redis the loop reads and deletes them on the connection of its subscriptions. With
anything else threads do, in which Celery's own methods run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from celery import states
from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.result import EagerResult, ResultSet
from celery.utils.log import get_logger

from tomskit.celery._client.client import send, subscriptions_of
from tomskit.celery._client.seconds import check_seconds
from tomskit.celery._client.threads import in_thread
from tomskit.celery._internals.celery_results import (
    AsyncResult,
    drop_outcome,
    has_outcome,
    keep_outcome,
)
from tomskit.celery._internals.kombu import publish_control

if TYPE_CHECKING:
    from celery import Celery
    from celery.result import ResultBase


__all__ = ("StatefulResult", "StatefulSet", "tasks_before")

R_co = TypeVar("R_co", covariant=True)

logger: Final = get_logger(__name__)

_SECONDS: Final = 10.0
"""How long a server may take to answer, unless the call says otherwise."""


class StatefulResult(AsyncResult[R_co]):
    """A result whose state can be read, revoked and forgotten without blocking an event loop."""

    async def astate(self, *, timeout: float = _SECONDS) -> str:
        """The state of the task now, such as ``"PENDING"``, ``"STARTED"`` or ``"SUCCESS"``.

        As ``state``, without blocking the event loop. A task that nobody knows is PENDING too.

        Args:
            timeout: Seconds that the result backend may take.

        Raises:
            celery.exceptions.TimeoutError: The result backend did not answer in time.
        """
        async with _deadline(timeout, "the result backend"):
            return await _state_of(self)

    async def aready(self, *, timeout: float = _SECONDS) -> bool:
        """Whether the task has ended, as ``ready()``, without blocking the event loop.

        Args:
            timeout: Seconds that the result backend may take.

        Raises:
            celery.exceptions.TimeoutError: The result backend did not answer in time.
        """
        async with _deadline(timeout, "the result backend"):
            return await _is_ready(self)

    async def arevoke(
        self,
        *,
        terminate: bool = False,
        signal: str = "SIGTERM",
        timeout: float = _SECONDS,
    ) -> None:
        """Tell all workers not to run the task, as ``revoke()``, without blocking the event loop.

        Args:
            terminate: End the task as well if it runs already. The asyncio pool cancels its
                coroutine, prefork ends the process that runs it.
            signal: What prefork sends to that process.
            timeout: Seconds that the broker may take.

        Raises:
            celery.exceptions.TimeoutError: The broker did not answer in time.
            kombu.exceptions.OperationalError: The broker is away.
        """
        if isinstance(self, EagerResult):
            self.revoke()
            return
        await _revoke(self.app, [self.id], terminate=terminate, signal=signal, timeout=timeout)

    async def aforget(self, *, timeout: float = _SECONDS) -> None:
        """Delete the result, and those of the tasks before it in its chain, as ``forget()``.

        The task is PENDING afterwards, like any task that nobody knows.

        Args:
            timeout: Seconds that the result backend may take.

        Raises:
            celery.exceptions.TimeoutError: The result backend did not answer in time.
        """
        async with _deadline(timeout, "the result backend"):
            await _forget(self)


class StatefulSet(ResultSet):
    """Results of several tasks, all of which can be asked without blocking an event loop."""

    async def aready(self, *, timeout: float = _SECONDS) -> bool:
        """Whether all of the tasks have ended, as ``ready()``, without blocking the event loop.

        Args:
            timeout: Seconds that the result backend may take.

        Raises:
            celery.exceptions.TimeoutError: The result backend did not answer in time.
        """
        async with _deadline(timeout, "the result backend"):
            return all(await asyncio.gather(*map(_is_ready, _tasks_of(self))))

    async def arevoke(
        self,
        *,
        terminate: bool = False,
        signal: str = "SIGTERM",
        timeout: float = _SECONDS,
    ) -> None:
        """Tell all workers to run none of the tasks, as ``revoke()``, in one message.

        Args:
            terminate: End those as well that run already.
            signal: What prefork sends to the processes that run them.
            timeout: Seconds that the broker may take.

        Raises:
            celery.exceptions.TimeoutError: The broker did not answer in time.
            kombu.exceptions.OperationalError: The broker is away.
        """
        ids: list[str] = []
        for result in _tasks_of(self):
            if isinstance(result, EagerResult):
                result.revoke()
            else:
                ids.append(result.id)
        if ids:
            await _revoke(self.app, ids, terminate=terminate, signal=signal, timeout=timeout)

    async def aforget(self, *, timeout: float = _SECONDS) -> None:
        """Delete all of the results, as ``forget()``, without blocking the event loop.

        Args:
            timeout: Seconds that the result backend may take.

        Raises:
            celery.exceptions.TimeoutError: The result backend did not answer in time.
        """
        async with _deadline(timeout, "the result backend"):
            await asyncio.gather(*map(_forget, _tasks_of(self)))


def tasks_before(result: ResultBase) -> Iterator[AsyncResult[object]]:
    """The tasks that have to succeed before this one runs."""
    before = result.parent
    while before is not None:
        yield from _tasks_of(before)
        before = before.parent


def _tasks_of(result: ResultBase) -> Iterator[AsyncResult[object]]:
    if isinstance(result, ResultSet):
        for member in result:
            yield from _tasks_of(member)
    elif isinstance(result, AsyncResult):
        yield result


async def _state_of(result: AsyncResult[object]) -> str:
    if isinstance(result, EagerResult) or has_outcome(result):
        return result.state
    subscriptions = await subscriptions_of(result)
    if subscriptions is None:
        return await in_thread(lambda: result.state)
    [value] = await subscriptions.ask(("GET", subscriptions.key(result.id)))
    if value is None:
        return states.PENDING
    assert isinstance(value, bytes)  # noqa: S101 (GET answers with nothing else)
    return str(keep_outcome(result, subscriptions.decode(value))["status"])


async def _is_ready(result: AsyncResult[object]) -> bool:
    if isinstance(result, EagerResult):
        return result.ready()
    return await _state_of(result) in states.READY_STATES


async def _forget(result: AsyncResult[object]) -> None:
    if isinstance(result, EagerResult):
        return
    subscriptions = await subscriptions_of(result)
    if subscriptions is None:
        await in_thread(result.forget)
        return
    forgotten = [result, *tasks_before(result)]
    for one in forgotten:
        drop_outcome(one)
    await subscriptions.ask(("DEL", *(subscriptions.key(one.id) for one in forgotten)))


async def _revoke(
    app: Celery, ids: Iterable[str], *, terminate: bool, signal: str, timeout: float
) -> None:
    arguments: dict[str, object] = {"task_id": [*ids], "terminate": terminate, "signal": signal}
    async with _deadline(timeout, "the broker"):
        await send(app, partial(_broadcast, app, "revoke", arguments))


def _broadcast(app: Celery, method: str, arguments: dict[str, object]) -> None:
    # In a greenlet of an event loop the app has a producer that waits in the loop.
    with app.producer_or_acquire() as producer:
        publish_control(app, producer, method, arguments)


@asynccontextmanager
async def _deadline(seconds: float, server: str) -> AsyncGenerator[None]:
    check_seconds("timeout", seconds)
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            yield
    except TimeoutError as exc:
        if not limit.expired():
            raise
        raise CeleryTimeoutError(f"No answer of {server} within {seconds:g} s.") from exc
