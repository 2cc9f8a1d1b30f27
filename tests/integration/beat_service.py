"""An application with a schedule, and a scheduler of its own."""

from __future__ import annotations

import time

from celery import shared_task
from celery.beat import ScheduleEntry, Scheduler
from typing_extensions import override

from tomskit.celery import AsyncCelery, CeleryConfig, async_shared_task
from tomskit.redis.redis_pool import redis_client

app = AsyncCelery("beat-service", config=CeleryConfig())


@async_shared_task(ignore_result=True)
async def tick() -> None:
    await redis_client.incr("ticks")


@async_shared_task(ignore_result=True, every=0.2)
async def tock() -> None:
    await redis_client.incr("tocks")


@async_shared_task
async def add(x: int, y: int) -> int:
    return x + y


@shared_task(name="tests.integration.beat_service.plain_add")
def plain_add(x: int, y: int) -> int:
    return x + y


app.conf.beat_schedule = {"tick": {"task": tick.name, "schedule": 0.2}}


class InMemoryScheduler(Scheduler):
    """A scheduler that keeps no file, under a name that the log shows."""

    logged_name = "the scheduler of the service"

    @override
    def setup_schedule(self) -> None:
        print(f"Beat uses {self.logged_name}", flush=True)
        super().setup_schedule()
        self.install_default_entries(self.app.conf.beat_schedule)
        self.update_from_dict(self.app.conf.beat_schedule)


class SwallowingScheduler(InMemoryScheduler):
    """A scheduler in which a signal always arrives while a library turns all into its own errors."""

    @override
    def apply_async(
        self,
        entry: ScheduleEntry,
        producer: object = None,
        advance: bool = True,
        **kwargs: object,
    ) -> None:
        print("Beat sends a task", flush=True)
        try:
            time.sleep(3600)
        except BaseException as exc:
            raise OSError("the connection was closed") from exc
