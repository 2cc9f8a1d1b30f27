"""Tasks with options that not every pool honours."""

from __future__ import annotations

from collections.abc import Iterator

from celery import shared_task

from tomskit.celery import AsyncCelery, CeleryConfig, async_shared_task

app = AsyncCelery("options-service", config=CeleryConfig())


@async_shared_task(time_limit=30)
async def limited() -> None: ...


@shared_task(soft_time_limit=30)
def plain_limited() -> None: ...


@shared_task
def plain() -> None: ...


@shared_task
def items() -> Iterator[int]:
    yield 1
