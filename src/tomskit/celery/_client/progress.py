"""What tasks report while they run: stored in a worker, and watched in an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from celery import states
from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.result import EagerResult

from tomskit.celery._app import AsyncApp
from tomskit.celery._client.client import subscriptions_of
from tomskit.celery._client.states import tasks_before
from tomskit.celery._client.threads import in_thread
from tomskit.celery._internals.celery_results import (
    AsyncResult,
    has_outcome,
    keep_outcome,
    meta_of,
)
from tomskit.celery._running.greenlets import GreenletCoroutine
from tomskit.celery.fast_redis.scripts import STORE, is_forbidden, stored_ones

if TYPE_CHECKING:
    from celery import Task
    from celery.app.task import Context

    from tomskit.celery._client.subscriptions import Meta, Subscriptions
    from tomskit.celery._running.places import GreenletPlace

__all__ = ("PROGRESS", "reported_here", "store_progress", "watch_progress")

T = TypeVar("T")

PROGRESS: Final = "PROGRESS"
"""The state of a task that has reported progress, by the custom of Celery's users."""

reported_here: Final[ContextVar[GreenletPlace | None]] = ContextVar(
    "tomskit_reported", default=None
)
"""Whose report is stored in this thread, and whether it still may be; None where none is."""

_FIRST_PAUSE: Final = 0.01
"""Seconds."""
_SLOWER: Final = 1.5


async def store_progress(
    task: Task[..., Any], request: Context, wire: object, place: GreenletPlace
) -> None:
    """Store what a task reports, without blocking the event loop.

    Args:
        task: The task.
        request: Its request, which has an id.
        wire: The wire form of the report.
        place: Where code of the asyncio pool's result backend runs.

    Raises:
        Exception: The result backend could not store it.
    """
    task_id = str(request.id)

    def store() -> None:
        task.backend.store_result(task_id, wire, PROGRESS, request=request)

    def store_in_thread() -> None:
        # The context is that of this call alone.
        reported_here.set(place)
        store()

    app, subscriptions = task.app, await subscriptions_of(task)
    if (
        isinstance(app, AsyncApp)
        and app.backend is not app.celery_backend
        and (subscriptions is not None or task.backend is app.backend)
    ):
        # That of the asyncio pool, which stores all states in their order.
        await GreenletCoroutine(store, owner=place)
    elif subscriptions is None or not await _store_in_redis(subscriptions, task_id, wire, request):
        await in_thread(store_in_thread)


async def _store_in_redis(
    subscriptions: Subscriptions, task_id: str, wire: object, request: Context
) -> bool:
    """Whether Redis has stored it; scripts may be forbidden."""
    value = subscriptions.stored(task_id, wire, PROGRESS, request)
    key = subscriptions.key(task_id)
    [answer] = await subscriptions.batches.run(
        ("EVAL", STORE, 1, key, subscriptions.expires, 1, value)
    )
    if isinstance(answer, Exception) and not is_forbidden(answer):
        raise answer
    return stored_ones(answer) == [True]


async def watch_progress(
    result: AsyncResult[object],
    load: Callable[[object], T],
    *,
    timeout: float | None,
    interval: float,
) -> AsyncGenerator[T]:
    """What a task reports, until it has ended.

    Args:
        result: The result of the task.
        load: Makes of the wire form what the task has reported.
        timeout: Seconds for all of it; None waits for ever.
        interval: The longest pause between two polls of the result backend, in seconds.

    Raises:
        celery.exceptions.TimeoutError: It took longer than `timeout`.
    """
    if result.ignored or isinstance(result, EagerResult) or has_outcome(result):
        return
    loop = asyncio.get_running_loop()
    limit = None if timeout is None else loop.time() + timeout
    subscriptions = await subscriptions_of(result)
    reports = (
        _polled(result, interval) if subscriptions is None else _announced(result, subscriptions)
    )
    last: object = None
    async with aclosing(reports):
        while True:
            waiting = asyncio.timeout_at(limit)
            try:
                async with waiting:
                    wire = await anext(reports)
            except StopAsyncIteration:
                return
            except TimeoutError as exc:
                if not waiting.expired():
                    raise
                raise CeleryTimeoutError("The operation timed out.") from exc
            if wire != last:
                last = wire
                yield load(wire)


async def _announced(
    result: AsyncResult[object], subscriptions: Subscriptions
) -> AsyncGenerator[object]:
    news = asyncio.Event()
    # Only the newest: who reads slowly is not interested in older ones.
    newest: list[object] = []

    def take(meta: Meta) -> None:
        if meta["status"] == PROGRESS:
            newest[:] = [meta["result"]]
            news.set()

    ends = {subscriptions.subscribe(result.id, take): result}
    # One that fails is the end of those after it in its chain.
    ends |= {subscriptions.subscribe(one.id): one for one in tasks_before(result)}
    waiting = dict(ends)
    try:
        for end in ends:
            end.add_done_callback(lambda _: news.set())
        while result in waiting.values():
            await news.wait()
            news.clear()
            while newest:
                yield newest.pop()
            for end in [end for end in waiting if end.done()]:
                ended = waiting.pop(end)
                state = keep_outcome(ended, end.result())["status"]
                if ended is not result and state in states.PROPAGATE_STATES:
                    return
    finally:
        for end, one in ends.items():
            subscriptions.unsubscribe(one.id, end)


async def _polled(result: AsyncResult[object], interval: float) -> AsyncGenerator[object]:
    pause = min(_FIRST_PAUSE, interval)
    while True:
        # A thread polls, and none waits in between.
        meta, is_over = await in_thread(partial(_look, result))
        if meta["status"] == PROGRESS:
            yield meta["result"]
        if is_over:
            return
        await asyncio.sleep(pause)
        pause = min(pause * _SLOWER, interval)


def _look(result: AsyncResult[object]) -> tuple[Meta, bool]:
    meta = meta_of(result)
    has_ended = meta["status"] in states.READY_STATES
    return meta, has_ended or any(one.failed() for one in tasks_before(result))
