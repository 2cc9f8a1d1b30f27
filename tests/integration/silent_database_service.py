"""Tasks with open sessions, for the tests of a database that goes silent. They tell Redis what they do."""

from __future__ import annotations

import asyncio

from celery.exceptions import SoftTimeLimitExceeded
from sqlalchemy import text

from tests.support.gaps import longest_gap
from tests.support.patience import slowed
from tomskit.celery import AsyncCelery, CeleryConfig, async_shared_task
from tomskit.redis.redis_pool import redis_client
from tomskit.sqlalchemy.database import db

app = AsyncCelery("silent-database", config=CeleryConfig())

SOFT = slowed(2.0)
HARD = SOFT + slowed(13.0)
"""At the soft limit psycopg asks the server for 5 s to cancel the query, and waits as long for that to happen."""


@async_shared_task
async def watch() -> float:
    """How long the loop stood still until the key ``over`` is there."""
    await redis_client.incr("begun")

    async def is_over() -> bool:
        return bool(await redis_client.exists("over"))

    return await longest_gap(is_over)


async def _ask() -> int:
    return int((await db.session.execute(text("SELECT 1"))).scalar_one())


async def _open_and_wait() -> None:
    """Open a connection, and wait until the key ``silent`` is there."""
    await _ask()
    await redis_client.incr("begun")
    while True:
        if await redis_client.exists("silent"):
            return
        await asyncio.sleep(0.02)


@async_shared_task(soft_time_limit=SOFT, time_limit=HARD)
async def ask_in_silence() -> int:
    """Waits for an answer that does not come."""
    await _open_and_wait()
    await redis_client.incr("asking")
    return await _ask()


@async_shared_task(soft_time_limit=SOFT, time_limit=HARD)
async def ask_again_in_silence() -> int:
    """Goes on at its soft limit."""
    await _open_and_wait()
    await redis_client.incr("asking")
    try:
        return await _ask()
    except SoftTimeLimitExceeded:
        await asyncio.sleep(3600)
        return -1


@async_shared_task
async def stay_idle() -> str:
    """Has an open transaction, and asks nothing more."""
    await _open_and_wait()
    return "idle"


@async_shared_task(soft_time_limit=SOFT)
async def ask() -> int:
    return await _ask()
