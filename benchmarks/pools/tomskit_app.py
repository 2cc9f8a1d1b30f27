"""tomskit, configured by environment."""

import asyncio

from sqlalchemy import text

from benchmarks.pools.workloads import QUERY_SECONDS
from tomskit.celery import AsyncCelery, CeleryConfig, async_shared_task
from tomskit.sqlalchemy.database import db

app = AsyncCelery("benchmark", config=CeleryConfig())
_query = text(f"SELECT SLEEP({QUERY_SECONDS})")


@async_shared_task(name="noop")
async def noop() -> None:
    pass


@async_shared_task(name="sleep")
async def sleep(seconds: float) -> None:
    await asyncio.sleep(seconds)


@async_shared_task(name="query")
async def query() -> None:
    await db.session.execute(_query)
