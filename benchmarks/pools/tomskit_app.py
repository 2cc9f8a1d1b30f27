"""The tasks for tomskit. As a program, it sends tasks and awaits their results: `... trips 1000`."""

import asyncio

from celery.signals import worker_ready
from sqlalchemy import text

from benchmarks.pools import sampler
from benchmarks.pools.environment import arguments, count_task, trips
from benchmarks.pools.workloads import QUERY_SECONDS
from tomskit.celery import AsyncCelery, CeleryConfig, async_shared_task
from tomskit.sqlalchemy.database import db

app = AsyncCelery("benchmark", config=CeleryConfig())
_query = text(f"SELECT SLEEP({QUERY_SECONDS})")


@worker_ready.connect
def _sample(**_: object) -> None:
    sampler.start_if_asked()


@async_shared_task(name="noop")
async def noop() -> None:
    pass


@async_shared_task(name="counted", ignore_result=True)
async def counted() -> None:
    count_task()


@async_shared_task(name="sleep")
async def sleep(seconds: float) -> None:
    await asyncio.sleep(seconds)


@async_shared_task(name="query")
async def query() -> None:
    await db.session.execute(_query)


if __name__ == "__main__":
    asyncio.run(trips(arguments()[1], noop.adelay, lambda sent: sent.aget()))
