"""A service whose tasks are watched, revoked and forgotten by code in event loops."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from celery import Task, shared_task
from pydantic import BaseModel
from typing_extensions import TypedDict

from tests.support import tasks
from tests.support.tasks import until_set
from tomskit.celery import AsyncCelery, BoundTask, CeleryConfig, async_shared_task, report
from tomskit.redis.redis_pool import redis_client

app = AsyncCelery("results_service", config=CeleryConfig(), set_as_current=False)

add = async_shared_task(name=f"{__name__}.add")(tasks.add)
wait_for = async_shared_task(name=f"{__name__}.wait_for")(tasks.wait_for)


@async_shared_task(ignore_result=True, store_errors_even_if_ignored=True)
async def quiet(number: int) -> int:
    if number < 0:
        raise LookupError(number)
    return number


@async_shared_task
async def look_and_forget(done: str, running: str) -> list[str]:
    """What a task sees of two others, the second of which it ends."""
    first, second = add.AsyncResult(done), wait_for.AsyncResult(running)
    found = [await first.astate(), await second.astate()]
    await first.aforget()
    await second.arevoke(terminate=True)
    return [*found, await first.astate()]


# -- progress


class Progress(BaseModel):
    done: int
    total: int


@dataclass(frozen=True)
class Step:
    name: str
    day: date


class Counts(TypedDict):
    rows: int
    days: list[date]


@async_shared_task
async def step_by_step(keys: Sequence[str]) -> int:
    """Reports after each key that somebody has set."""
    for done, key in enumerate(keys):
        await report(Progress(done=done, total=len(keys)))
        await until_set(key)
    return len(keys)


@async_shared_task
async def hurry(total: int) -> int:
    """Reports much more often than anybody can read."""
    for done in range(total):
        await report(Progress(done=done + 1, total=total))
    return total


@async_shared_task
async def report_kinds(key: str) -> None:
    await report(Step("first", date(2027, 1, 1)))
    await until_set(f"{key}-step")
    counts: Counts = {"rows": 3, "days": [date(2027, 1, 2)]}
    await report(counts)
    await until_set(f"{key}-counts")


@async_shared_task
async def report_and_fail(key: str) -> None:
    await report(Progress(done=1, total=2))
    await until_set(key)
    await report(Progress(done=2, total=2))
    raise LookupError("it was all in vain")


@async_shared_task(bind=True)
async def report_and_retry(self: BoundTask, key: str) -> int:
    await report(Progress(done=self.request.retries, total=1))
    await until_set(f"{key}-{self.request.retries}")
    if not self.request.retries:
        raise self.retry(countdown=0.5)
    return self.request.retries


@async_shared_task
async def report_from_children(key: str) -> None:
    """A child reports, and code in a thread."""
    await asyncio.gather(report(Progress(done=1, total=2)), asyncio.sleep(0))
    await until_set(f"{key}-child")
    loop = asyncio.get_running_loop()

    def in_thread() -> None:
        asyncio.run_coroutine_threadsafe(report(Progress(done=2, total=2)), loop).result()

    await asyncio.to_thread(in_thread)
    await until_set(f"{key}-thread")


@async_shared_task
async def report_until(key: str) -> int:
    """Reports again and again, and counts that where the result backend is not."""
    done = 0
    while await redis_client.get(key) is None:
        await report(Progress(done=done, total=0))
        done = await redis_client.incr(f"{key}-done")
        await asyncio.sleep(0.01)
    return done


@async_shared_task
async def storing() -> int:
    """How many tasks of the event loop store reports."""
    return sum("store_again" in repr(task.get_coro()) for task in asyncio.all_tasks())


@async_shared_task(ignore_result=True)
async def report_to_nobody() -> None:
    await report(Progress(done=1, total=1))


@async_shared_task
async def report_what_is_none(kind: str) -> str:
    """How a wrong report is refused."""
    wrong: dict[str, object] = {
        "number": 3,
        "class": Progress,
        "socket": {"socket": object()},
        "changed": Progress.model_construct(done="one", total=2),
    }
    try:
        await report(wrong[kind])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    except Exception as exc:  # noqa: BLE001
        return f"{type(exc).__name__}: {exc}"
    return "accepted"


_left_behind: set[asyncio.Task[None]] = set()


@async_shared_task
async def leave_a_child(key: str) -> None:
    """What it leaves running reports when it has ended."""

    async def too_late() -> None:
        await until_set(key)
        try:
            await report(Progress(done=1, total=1))
        except RuntimeError:
            print(f"too late for {key}", flush=True)

    _left_behind.add(asyncio.create_task(too_late()))


@shared_task(bind=True)
def report_by_runtime(self: Task[..., object]) -> str:
    try:
        app.runtime.run(report(Progress(done=1, total=1)))
    except RuntimeError as exc:
        return str(exc)
    return "accepted"
