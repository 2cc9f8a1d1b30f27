"""A server that takes no writes, as while another one takes its place."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert, text
from sqlalchemy.exc import DBAPIError

from tests.support.once import Kind, database, mariadb_database, with_orders
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


@pytest.fixture(params=["postgres", "psycopg"])
def on_postgres(
    request: pytest.FixtureRequest, redis_db: RedisDb, tmp_path: Path
) -> Iterator[None]:
    kind: Kind = request.param
    with with_orders(database(kind, request, tmp_path), redis_db):
        yield


async def backend_id() -> int:
    return int((await db.session.execute(text("SELECT pg_backend_pid()"))).scalar_one())


async def go_read_only() -> int:
    """Make the connection that the pool keeps one to a server that takes no writes; new ones lead to another."""
    async with db.scope():
        await db.session.execute(text("SET default_transaction_read_only = on"))
        await db.session.commit()
        return await backend_id()


async def place_order() -> int:
    async with db.scope():
        await db.session.execute(insert(orders).values(name="a"))
        await db.session.commit()
        return await backend_id()


@pytest.mark.usefixtures("on_postgres")
def test_a_connection_to_a_postgres_that_was_made_read_only_is_not_used_again() -> None:
    async def write() -> tuple[int, int]:
        before = await go_read_only()
        with pytest.raises(DBAPIError, match="read-only"):
            await place_order()
        return before, await place_order()

    before, after = AsyncRuntime.run(write())

    assert before != after
    assert count(orders) == 1


@pytest.mark.usefixtures("on_postgres")
def test_a_task_that_runs_once_goes_on_with_the_next_primary() -> None:
    AsyncRuntime.run(go_read_only())
    runs[:] = [""] * TRIES

    assert run(place, "a").get() == "placed a"

    assert (count(orders), count(once)) == (1, 1)


@pytest.mark.usefixtures("on_postgres")
def test_a_transaction_that_is_not_to_write_keeps_its_connection() -> None:
    async def write_in_vain() -> int:
        async with db.scope():
            await db.session.connection(execution_options={"postgresql_readonly": True})
            before = await backend_id()
            with pytest.raises(DBAPIError, match="read-only"):
                await db.session.execute(insert(orders).values(name="a"))
            return before

    async def write() -> tuple[int, int]:
        return await write_in_vain(), await place_order()

    before, after = AsyncRuntime.run(write())

    assert before == after
