"""Statements that end the transaction of a task with once=True, in ways that are hard to see."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import insert, text
from sqlalchemy.exc import DBAPIError

from tests.support.once import KINDS, Kind, database, ids, sending
from tests.support.orders import count, make_tables, orders, run, runs
from tests.support.servers import RedisDb
from tomskit.celery import AsyncCelery, AsyncRuntime, async_shared_task
from tomskit.errors import CommitRefusedError
from tomskit.sqlalchemy.database import db
from tomskit.sqlalchemy.tables import metadata, once, outbox

pytestmark = pytest.mark.usefixtures("clean_process")


@async_shared_task(ignore_result=True)
async def ship(name: str) -> None: ...


@async_shared_task(once=True)
async def executes(statement: str) -> str:
    """Place an order before the statement, and one after it."""
    runs.append(statement)
    await db.session.execute(insert(orders).values(name="before"))
    ship.delay_on_commit("before")
    await db.session.execute(text(statement))
    await db.session.execute(insert(orders).values(name="after"))
    return statement


@async_shared_task(once=True)
async def executes_and_goes_on(statement: str) -> str:
    await db.session.execute(insert(orders).values(name="before"))
    ship.delay_on_commit("before")
    with suppress(CommitRefusedError, DBAPIError):
        async with db.session.begin_nested():
            await db.session.execute(text(statement))
    return statement


@pytest.fixture
def app(
    request: pytest.FixtureRequest, tmp_path: Path, redis_db: RedisDb, clean_process: None
) -> Iterator[AsyncCelery]:
    kind = cast("Kind", getattr(request, "param", "mariadb"))
    with sending(database(kind, request, tmp_path), redis_db) as made:
        AsyncRuntime.run(make_tables())
        if kind == "mariadb":
            AsyncRuntime.run(make_procedures())
        runs.clear()
        yield made
        AsyncRuntime.shutdown()


PROCEDURES = {
    "commits": "INSERT INTO orders VALUES ('in', 0); COMMIT; INSERT INTO orders VALUES ('in 2', 0);",
    "commits_and_fails": "COMMIT; SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no';",
    "inserts": "SELECT 1; INSERT INTO orders VALUES ('in', 0); SELECT 2;",
    "fails": "INSERT INTO orders VALUES ('in', 0); SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no';",
}


async def make_procedures() -> None:
    async with db.engine.begin() as connection:
        for name, body in PROCEDURES.items():
            await connection.execute(text(f"CREATE PROCEDURE {name}() BEGIN {body} END"))


@pytest.mark.parametrize("app", KINDS, indirect=True)
@pytest.mark.parametrize(
    "statement",
    ["ROLLBACK", "-- by hand\n rollback;", "INSERT INTO orders VALUES ('it''s', 0); COMMIT"],
)
@pytest.mark.usefixtures("app")
def test_a_text_that_ends_the_transaction_has_no_effects(redis_db: RedisDb, statement: str) -> None:
    with pytest.raises(CommitRefusedError if ";" not in statement else Exception):
        run(executes, statement).get()
    assert (count(orders), count(once)) == (0, 0)
    AsyncRuntime.shutdown()
    assert ids(redis_db) == []


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO orders VALUES ('in', 0); COMMIT; SELECT 1",
        "/*!50000 COMMIT */",
        "# by hand\nCOMMIT",
        "SET @mine = 1, autocommit = 1",
        "CHECK TABLE orders",
    ],
)
def test_a_text_that_commits_in_mysql_has_no_effects(redis_db: RedisDb, statement: str) -> None:
    with pytest.raises(CommitRefusedError, match="once=True must not commit"):
        run(executes, statement).get()
    assert (count(orders), count(once)) == (0, 0)


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize("made", [executes, executes_and_goes_on])
@pytest.mark.parametrize(
    "statement", ["CALL commits()", "CALL commits_and_fails()", "EXECUTE IMMEDIATE 'COMMIT'"]
)
def test_what_commits_and_does_not_show_it_is_an_error_that_names_it(
    redis_db: RedisDb, made: Any, statement: str
) -> None:
    with pytest.raises(CommitRefusedError, match="has ended the transaction") as caught:
        run(made, statement).get()
    assert repr(statement) in str(caught.value)
    assert count(once) == 0
    AsyncRuntime.shutdown()
    assert ids(redis_db) == []


@pytest.mark.usefixtures("app")
def test_a_procedure_that_does_not_commit_is_part_of_the_task(redis_db: RedisDb) -> None:
    for _ in range(2):
        assert run(executes, "CALL inserts()").get() == "CALL inserts()"
    assert runs == ["CALL inserts()"]
    assert (count(orders), count(once)) == (3, 1)
    AsyncRuntime.shutdown()
    assert len(ids(redis_db)) == 1


@pytest.mark.usefixtures("app")
def test_a_procedure_that_fails_may_be_caught(redis_db: RedisDb) -> None:
    assert run(executes_and_goes_on, "CALL fails()").get() == "CALL fails()"
    assert (count(orders), count(once)) == (1, 1)
    AsyncRuntime.shutdown()
    assert len(ids(redis_db)) == 1


@pytest.mark.parametrize("app", KINDS, indirect=True)
@pytest.mark.usefixtures("app")
def test_messages_go_with_a_commit_that_is_written_as_text(redis_db: RedisDb) -> None:
    async def main() -> str:
        async with db.scope():
            await db.session.execute(insert(orders).values(name="a"))
            sent = ship.delay_on_commit("a")
            await db.session.execute(text("COMMIT"))
            await db.session.commit()
        return sent.id

    sent = AsyncRuntime.run(main())
    assert count(orders) == 1
    AsyncRuntime.shutdown()
    assert ids(redis_db) == [sent]


# -- other places in the same database


async def place_for_a_tenant(name: str) -> None:
    tenant = {"schema_translate_map": {None: "tenant"}}
    await db.session.connection(execution_options=tenant)
    await db.session.execute(insert(orders).values(name=name))
    ship.delay_on_commit(name)


@async_shared_task(once=True)
async def places_for_a_tenant(name: str) -> str:
    runs.append(name)
    await place_for_a_tenant(name)
    return name


async def make_tenant(*, has_tables: bool) -> None:
    async with db.engine.begin() as connection:
        await connection.execute(text("CREATE SCHEMA tenant"))
        there = await connection.execution_options(schema_translate_map={None: "tenant"})
        await there.run_sync(orders.create)
        if has_tables:
            await there.run_sync(metadata.create_all)


async def orders_of_the_tenant() -> int:
    async with db.engine.connect() as connection:
        return int(await connection.scalar(text("SELECT COUNT(*) FROM tenant.orders")) or 0)


@pytest.mark.parametrize("app", ["postgres", "psycopg"], indirect=True)
@pytest.mark.parametrize("has_tables", [False, True])
@pytest.mark.usefixtures("app")
def test_marks_and_messages_are_in_one_place_whatever_schema_the_body_uses(
    redis_db: RedisDb, has_tables: bool
) -> None:
    async def main() -> None:
        async with db.scope():
            await place_for_a_tenant("b")
            await db.session.commit()

    AsyncRuntime.run(make_tenant(has_tables=has_tables))
    for _ in range(2):
        assert run(places_for_a_tenant, "a").get() == "a"
    assert runs == ["a"]
    AsyncRuntime.run(main())
    assert (AsyncRuntime.run(orders_of_the_tenant()), count(orders), count(once)) == (2, 0, 1)
    AsyncRuntime.shutdown()
    assert len(ids(redis_db)) == 2
    assert count(outbox) == 0


@pytest.mark.usefixtures("app")
def test_our_tables_are_transactional_whatever_tables_are_by_default() -> None:
    async def make() -> list[str]:
        async with db.engine.begin() as connection:
            await connection.run_sync(metadata.drop_all)
            await connection.execute(text("SET SESSION default_storage_engine = MyISAM"))
            await connection.run_sync(metadata.create_all)
            found = await connection.execute(
                text(
                    "SELECT engine FROM information_schema.tables WHERE table_schema = DATABASE() "
                    "AND table_name LIKE 'tomskit%'"
                )
            )
            await connection.execute(text("SET SESSION default_storage_engine = InnoDB"))
            return list(found.scalars())

    assert AsyncRuntime.run(make()) == ["InnoDB", "InnoDB"]
