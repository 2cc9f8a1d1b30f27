"""A server of MySQL that takes no writes, as while another one takes its place."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from sqlalchemy import insert, text
from sqlalchemy.exc import DBAPIError

from tests.support.once import mariadb_database, with_orders
from tests.support.orders import count, orders, run, runs
from tests.support.servers import MariaDBServer, RedisDb
from tomskit.celery import AsyncRuntime, async_shared_task
from tomskit.celery._outbox import repeats
from tomskit.sqlalchemy.database import db
from tomskit.sqlalchemy.tables import once

pytestmark = pytest.mark.usefixtures("clean_process")

TRIES = 4

servers: list[MariaDBServer] = []


@pytest.fixture
def server(mariadb_server: MariaDBServer, redis_db: RedisDb) -> Iterator[MariaDBServer]:
    servers[:] = [mariadb_server]
    with with_orders(mariadb_database(mariadb_server), redis_db):
        mariadb_server.query("SET GLOBAL read_only = 1")
        try:
            yield mariadb_server
        finally:
            mariadb_server.query("SET GLOBAL read_only = 0")


@async_shared_task(once=True)
async def place(name: str) -> str:
    runs.append(name)
    if len(runs) == TRIES:
        await asyncio.to_thread(servers[0].query, "SET GLOBAL read_only = 0")
    await db.session.execute(insert(orders).values(name=name))
    return f"placed {name}"


@pytest.mark.usefixtures("server")
def test_a_task_that_runs_once_waits_until_it_takes_writes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """However often: the connection is not lost by a fault of the task."""
    monkeypatch.setattr(repeats, "LOSSES", TRIES - 2)

    assert run(place, "a").get() == "placed a"

    assert (count(orders), count(once)) == (1, 1)
    assert "while the database is away" in caplog.text


@pytest.mark.usefixtures("server")
def test_the_connection_is_not_used_again() -> None:
    """By its name the next one may lead to the server that takes writes."""

    async def connection_id() -> int:
        return int((await db.session.execute(text("SELECT CONNECTION_ID()"))).scalar_one())

    async def write() -> tuple[int, int]:
        async with db.scope():
            before = await connection_id()
            with pytest.raises(DBAPIError, match="read-only"):
                await db.session.execute(insert(orders).values(name="a"))
        async with db.scope():
            return before, await connection_id()

    before, after = AsyncRuntime.run(write())

    assert before != after
