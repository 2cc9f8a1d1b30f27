"""A service whose tasks are sent and awaited by code in event loops, configured by environment."""

from __future__ import annotations

import asyncio

from tests.support import tasks
from tomskit.celery import AsyncCelery, CeleryConfig, async_shared_task, group

app = AsyncCelery("async_client_service", config=CeleryConfig(), set_as_current=False)


@async_shared_task
async def add(a: int, b: int) -> int:
    return a + b


@async_shared_task
async def total(numbers: list[int]) -> int:
    return sum(numbers)


@async_shared_task
async def refuse(number: int) -> int:
    raise LookupError(f"no {number} here")


@async_shared_task
async def nap(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


wait_for = async_shared_task(name=f"{__name__}.wait_for")(tasks.wait_for)


@async_shared_task(ignore_result=True)
async def forget() -> None:
    pass


@async_shared_task
async def send_from_a_task(count: int) -> list[str]:
    results = await asyncio.gather(*(add.adelay(number, 1) for number in range(count)))
    members = await group(add.s(number, 1) for number in range(count)).adelay()
    return [result.id for result in (*results, *members)]
