"""Savepoints of any kind: messages and marks go where the effects of their statements go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import cast

import pytest
from sqlalchemy import insert, text
from sqlalchemy.exc import DBAPIError

from tests.support.once import KINDS, Kind, database, ids, sending
from tests.support.orders import count, make_tables, orders, run, runs
from tests.support.servers import RedisDb
from tomskit.celery import AsyncCelery, AsyncRuntime, async_shared_task
from tomskit.sqlalchemy.database import db
from tomskit.sqlalchemy.tables import once

pytestmark = pytest.mark.usefixtures("clean_process")


@async_shared_task(ignore_result=True)
async def ship(name: str) -> None: ...


async def place(name: str) -> str:
    """Insert an order, and send a message with it."""
    await db.session.execute(insert(orders).values(name=name))
    return ship.delay_on_commit(name).id


@pytest.fixture(params=KINDS)
def app(
    request: pytest.FixtureRequest, tmp_path: Path, redis_db: RedisDb, clean_process: None
) -> Iterator[AsyncCelery]:
    with sending(database(cast("Kind", request.param), request, tmp_path), redis_db) as made:
        AsyncRuntime.run(make_tables())
        runs.clear()
        yield made
        AsyncRuntime.shutdown()


async def savepoints_of_the_connection() -> list[str]:
    connection = await db.session.connection()
    sent = [await place("before")]
    outer = await connection.begin_nested()
    sent.append(await place("in one"))
    inner = await connection.begin_nested()
    await place("never, in the inner one")
    await inner.rollback()
    sent.append(await place("after the inner one"))
    released = await connection.begin_nested()
    sent.append(await place("in one that is released"))
    await released.commit()
    await outer.commit()
    again = await connection.begin_nested()
    released = await connection.begin_nested()
    await place("never, released in one that is rolled back")
    await released.commit()
    await again.rollback()
    sent.append(await place("after"))
    return sent


async def savepoints_of_both() -> list[str]:
    connection = await db.session.connection()
    sent = [await place("before")]
    async with db.session.begin_nested():
        # The session begins it with the first statement.
        sent.append(await place("first in one of the session"))
        core = await connection.begin_nested()
        await place("never, of the connection in one of the session")
        await core.rollback()
        sent.append(await place("in one of the session"))
    core = await connection.begin_nested()
    async with db.session.begin_nested():
        await place("never, of the session in one of the connection")
    await core.rollback()
    sent.append(await place("after"))
    return sent


async def savepoints_as_text() -> list[str]:
    # A driver may begin its transaction no earlier.
    sent = [await place("before")]
    await db.session.execute(text("SAVEPOINT mine"))
    await place("never")
    await db.session.execute(text("savepoint other"))
    await place("never, later")
    await db.session.execute(text("ROLLBACK TO SAVEPOINT Mine"))
    sent.append(await place("after the first rollback"))
    await db.session.execute(text("/* again */ rollback to mine"))
    sent[1:] = [await place("after the second rollback")]
    await db.session.execute(text("RELEASE SAVEPOINT mine;"))
    with suppress(DBAPIError):
        async with db.session.begin_nested():
            await place("never, as the statement fails")
            await db.session.execute(text("ROLLBACK TO SAVEPOINT mine"))
    return sent


BODIES = (savepoints_of_the_connection, savepoints_of_both, savepoints_as_text)


@async_shared_task(once=True)
async def saves(name: str) -> list[str]:
    runs.append(name)
    [body] = [one for one in BODIES if one.__name__ == name]
    return await body()


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.usefixtures("app")
def test_messages_of_a_savepoint_go_where_its_effects_go(redis_db: RedisDb, body: object) -> None:
    name: str = getattr(body, "__name__", "")
    sent = run(saves, name).get()
    assert run(saves, name).get() == sent
    assert runs == [name]
    assert (count(orders), count(once)) == (len(sent), 1)
    AsyncRuntime.shutdown()
    assert ids(redis_db) == sent


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.usefixtures("app")
def test_messages_of_a_savepoint_go_where_its_effects_go_without_once(
    redis_db: RedisDb, body: object
) -> None:
    async def main() -> list[str]:
        [made] = [one for one in BODIES if one is body]
        async with db.scope():
            sent = await made()
            await db.session.commit()
            return sent

    sent = AsyncRuntime.run(main())
    assert count(orders) == len(sent)
    AsyncRuntime.shutdown()
    assert ids(redis_db) == sent
