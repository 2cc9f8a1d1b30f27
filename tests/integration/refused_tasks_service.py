"""An application with a coroutine function that Celery would not await."""

from celery import shared_task

from tomskit.celery import AsyncCelery, CeleryConfig

app = AsyncCelery("refused-tasks-service", config=CeleryConfig())


@shared_task
async def add(x: int, y: int) -> int:
    return x + y
