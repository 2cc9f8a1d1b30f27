"""A service whose tasks are watched, revoked and forgotten by code in event loops."""

from __future__ import annotations

from tests.support import tasks
from tomskit.celery import AsyncCelery, CeleryConfig, async_shared_task

app = AsyncCelery("results_service", config=CeleryConfig(), set_as_current=False)

add = async_shared_task(name=f"{__name__}.add")(tasks.add)
wait_for = async_shared_task(name=f"{__name__}.wait_for")(tasks.wait_for)


@async_shared_task
async def look_and_forget(done: str, running: str) -> list[str]:
    """What a task sees of two others, the second of which it ends."""
    first, second = add.AsyncResult(done), wait_for.AsyncResult(running)
    found = [await first.astate(), await second.astate()]
    await first.aforget()
    await second.arevoke(terminate=True)
    return [*found, await first.astate()]
