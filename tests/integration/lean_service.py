"""Tasks that end in every way, for a worker on the lean path and one with Celery's tracer."""

from __future__ import annotations

import asyncio
from datetime import date, datetime, timedelta
from uuid import UUID

from celery import current_task
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from pydantic import BaseModel

from tomskit.celery import (
    AsyncCelery,
    AsyncTask,
    BoundTask,
    CeleryConfig,
    async_shared_task,
    report,
)

app = AsyncCelery("lean-service", config=CeleryConfig())


class Point(BaseModel):
    """A model."""

    x: int
    at: datetime | None = None


@async_shared_task
async def echo(value: object) -> object:
    return value


@async_shared_task
async def wait(value: int) -> int:
    await asyncio.sleep(0.02)
    return value


@async_shared_task
async def point(at: datetime) -> Point:
    return Point(x=1, at=at)


@async_shared_task
async def special(kind: str) -> object:
    return {
        "nan": float("nan"),
        "infinite": [float("inf")],
        "long": 2**70,
        "uuid": UUID(int=5),
        "date": date(2030, 1, 2),
        "duration": timedelta(seconds=3),
        "text": "é☂ \u2028 %s %(id)s",
        "nested": {"a": [1, (2, None)], "b": {"c": True}},
        "deep": _deep(60),
        "keys": {1: "a", None: "b"},
    }[kind]


def _deep(levels: int) -> list[object]:
    return [_deep(levels - 1)] if levels else []


@async_shared_task
async def nothing() -> None:
    """Return nothing."""


@async_shared_task(ignore_result=True)
async def ignored(value: int) -> int:
    return value


@async_shared_task(acks_late=True)
async def late(value: int) -> int:
    return value


@async_shared_task
async def fail(text: str) -> None:
    await asyncio.sleep(0)
    raise ValueError(text)


@async_shared_task(acks_late=True)
async def fail_late() -> None:
    raise KeyError("late")


@async_shared_task(bind=True, max_retries=2)
async def retry(self: BoundTask) -> int:
    if self.request.retries < 2:
        raise self.retry(countdown=0.5)
    return self.request.retries


@async_shared_task(bind=True, max_retries=1)
async def retry_in_vain(self: BoundTask) -> None:
    raise self.retry(countdown=0.5, exc=OSError("in vain"))


@async_shared_task(
    bind=True, autoretry_for=(KeyError,), default_retry_delay=0.5, retry_jitter=False, max_retries=2
)
async def autoretry(self: BoundTask, successes_at: int) -> int:
    if self.request.retries < successes_at:
        raise KeyError(self.request.retries)
    return self.request.retries


@async_shared_task(bind=True)
async def ignore(self: BoundTask) -> None:
    self.update_state(state="LATER", meta={"n": 1})
    raise Ignore


@async_shared_task
async def reject() -> None:
    raise Reject("no", requeue=False)


@async_shared_task
async def leave() -> None:
    raise SystemExit(3)


@async_shared_task(bind=True)
async def describe(self: AsyncTask[[], object]) -> object:
    await asyncio.sleep(0)
    request = self.request
    return {
        "name": current_task.name,
        "is_same_id": request.id == request.correlation_id == request.root_id,
        "retries": request.retries,
        "args": list(request.args or ()),
        "kwargs": request.kwargs,
        "directly": request.called_directly,
        "eager": request.is_eager,
        "delivery": {**(request.delivery_info or {}), "routing_key": None},
        "headers": request.headers and sorted(request.headers),
        "parent": request.parent_id,
        "callbacks": request.callbacks,
        "chain": request.chain,
        "timelimit": request.timelimit,
        "reply": bool(request.reply_to),
        "origin": bool(request.origin),
    }


@async_shared_task(bind=True)
async def call_itself(self: AsyncTask[[int], object], depth: int) -> object:
    """Call the task directly, from a thread: that is a call of its own."""
    return [depth, self.request.called_directly, current_task.request.id == self.request.id]


@async_shared_task
async def parent(children: int) -> list[int]:
    for n in range(children):
        await echo.adelay(n)
    echo.apply_async((children,), ignore_result=True)
    return list(range(children))


@async_shared_task(bind=True)
async def follow(self: AsyncTask[[int], int], value: int) -> int:
    """Be followed by another task, which its message does not name."""
    self.request.callbacks = [dict(echo.si("callback"))]
    return value


@async_shared_task(soft_time_limit=0.2)
async def catch_limit() -> str:
    try:
        await asyncio.sleep(60)
    except SoftTimeLimitExceeded:
        return "caught"
    return "not reached"


@async_shared_task(soft_time_limit=0.2)
async def exceed_limit() -> None:
    await asyncio.sleep(60)


@async_shared_task
async def progress(steps: int) -> int:
    for n in range(steps):
        await report(Point(x=n))
    return steps
