"""once=True among transactions that are in each other's way: deadlocks, snapshots, and locks that are waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Never, cast

import pytest
from sqlalchemy import insert, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from tests.support.once import Kind, database, mariadb_database, with_orders
from tests.support.orders import count, counts, orders, run, runs, touch
from tests.support.servers import MariaDBServer, RedisDb
from tomskit.celery import AsyncRuntime, async_shared_task
from tomskit.celery._outbox.once import OnceCall, run_once
from tomskit.sqlalchemy.database import db
from tomskit.sqlalchemy.tables import once

pytestmark = pytest.mark.usefixtures("clean_process")

NAMES = ("first", "second", "third", "fourth", "fifth")


@pytest.fixture
def mariadb(mariadb_server: MariaDBServer, redis_db: RedisDb) -> Iterator[MariaDBServer]:
    with with_orders(mariadb_database(mariadb_server), redis_db, *NAMES):
        yield mariadb_server


@pytest.fixture(params=["postgres", "psycopg"])
def postgres(request: pytest.FixtureRequest, redis_db: RedisDb, tmp_path: Path) -> Iterator[None]:
    config = database(cast("Kind", request.param), request, tmp_path)
    with with_orders(config, redis_db, *NAMES):
        yield


# -- deadlocks


@async_shared_task(once=True)
async def catches_a_deadlock() -> str:
    """Lock two rows, the other way round than another transaction, and go on after the error."""
    runs.append("deadlock")
    await touch("first")
    try:
        if len(runs) == 1:
            await in_a_deadlock()
        await touch("second")
    except DBAPIError:
        await touch("third")
    return "done"


@async_shared_task(once=True)
async def has_a_deadlock_in_a_savepoint() -> str:
    runs.append("deadlock")
    await touch("first")
    async with db.session.begin_nested():
        if len(runs) == 1:
            await in_a_deadlock()
        await touch("second")
    return "done"


class OwnError(Exception):
    """As a layer of an application raises it in place of what a library has raised."""


@async_shared_task(once=True)
async def raises_an_error_of_its_own() -> str:
    runs.append("deadlock")
    await touch("first")
    try:
        if len(runs) == 1:
            await in_a_deadlock()
        await touch("second")
    except DBAPIError as exc:
        raise OwnError from exc
    return "done"


async def in_a_deadlock() -> None:
    locked = asyncio.Event()

    async def other() -> None:
        async with db.scope():
            # The server ends the transaction that has changed less.
            for name in ("second", "fourth", "fifth"):
                await touch(name)
            locked.set()
            await touch("first")
            await db.session.rollback()

    beside = asyncio.ensure_future(other())
    await locked.wait()
    try:
        await asyncio.sleep(0.5)
        await touch("second")
    finally:
        await beside


@pytest.mark.usefixtures("mariadb")
@pytest.mark.parametrize(
    "made", [catches_a_deadlock, has_a_deadlock_in_a_savepoint, raises_an_error_of_its_own]
)
def test_a_deadlock_repeats_the_body_whatever_that_does_with_it(made: Any) -> None:
    assert run(made).get() == "done"
    assert runs == ["deadlock", "deadlock"]
    found = counts()
    assert (found["first"], found["second"], found["third"]) == (1, 1, 0)


# -- snapshots


@async_shared_task(once=True)
async def reads_and_writes(name: str) -> int:
    runs.append(name)
    await db.session.execute(select(orders))
    if len(runs) == 1:
        await touch_beside(name)
    await touch(name)
    return len(runs)


@async_shared_task(once=True)
async def reads_and_writes_and_goes_on(name: str) -> int:
    """As `reads_and_writes`, and takes an error for none."""
    runs.append(name)
    await db.session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    await touch("third")
    await db.session.execute(select(orders))
    if len(runs) == 1:
        await touch_beside(name)
    try:
        await touch(name)
    except DBAPIError:
        if db.engine.dialect.name == "mysql":
            await touch("second")
    return len(runs)


async def touch_beside(name: str) -> None:
    async with db.scope():
        await touch(name)
        await db.session.commit()


@pytest.fixture
def snapshots(
    mariadb_server: MariaDBServer, request: pytest.FixtureRequest
) -> Iterator[MariaDBServer]:
    """A MariaDB that ends a transaction which changes a row that has changed since it was read."""
    if not mariadb_server.query("SHOW VARIABLES LIKE 'innodb_snapshot_isolation'"):
        pytest.skip("this MariaDB has no innodb_snapshot_isolation")
    mariadb_server.query("SET GLOBAL innodb_snapshot_isolation = ON")
    try:
        request.getfixturevalue("mariadb")
        yield mariadb_server
    finally:
        mariadb_server.query("SET GLOBAL innodb_snapshot_isolation = OFF")


@pytest.mark.usefixtures("snapshots")
@pytest.mark.parametrize("made", [reads_and_writes, reads_and_writes_and_goes_on])
def test_a_row_that_has_changed_since_it_was_read_repeats_the_body(made: Any) -> None:
    assert run(made, "first").get() == 2
    found = counts()
    assert (found["first"], found["second"]) == (2, 0)
    assert found["third"] == (0 if made is reads_and_writes else 1)


@pytest.mark.usefixtures("postgres")
def test_a_serialization_failure_that_the_body_has_caught_repeats_it() -> None:
    assert run(reads_and_writes_and_goes_on, "first").get() == 2
    found = counts()
    assert (found["first"], found["third"]) == (2, 1)


@async_shared_task(once=True)
async def goes_on_after_a_savepoint(name: str) -> None:
    runs.append(name)
    released, locked = asyncio.Event(), asyncio.Event()
    beside = asyncio.ensure_future(hold(name, locked, released))
    await locked.wait()
    try:
        async with db.session.begin_nested():
            await db.session.execute(select(orders).with_for_update(nowait=True))
    except DBAPIError:
        await touch("second")
    finally:
        released.set()
        await beside
    raise OwnError(name)


async def hold(name: str, locked: asyncio.Event, released: asyncio.Event) -> None:
    async with db.scope():
        await touch(name)
        locked.set()
        await released.wait()


@pytest.mark.usefixtures("postgres")
def test_what_a_savepoint_has_taken_along_repeats_nothing() -> None:
    with pytest.raises(OwnError):
        run(goes_on_after_a_savepoint, "first").get()
    assert runs == ["first"]


@async_shared_task(once=True)
async def catches_a_violation() -> None:
    try:
        await db.session.execute(insert(orders).values(name="first"))
    except IntegrityError:
        await asyncio.sleep(0)


@pytest.mark.usefixtures("postgres")
def test_a_violation_that_the_body_has_caught_is_explained() -> None:
    with pytest.raises(DBAPIError) as caught:
        run(catches_a_violation).get()
    assert "begin_nested" in "".join(getattr(caught.value, "__notes__", ()))


# -- locks that are waited for


@async_shared_task(once=True)
async def catches_a_lock_timeout() -> str:
    runs.append("timeout")
    await db.session.execute(text("SET SESSION innodb_lock_wait_timeout = 1"))
    await touch("first")
    if len(runs) > 1:
        return "again"
    released, locked = asyncio.Event(), asyncio.Event()
    beside = asyncio.ensure_future(hold("second", locked, released))
    await locked.wait()
    try:
        await touch("second")
    except DBAPIError:
        await touch("third")
    finally:
        released.set()
        await beside
    return "at once"


@pytest.mark.usefixtures("mariadb")
def test_a_lock_that_was_waited_for_too_long_may_be_caught() -> None:
    assert run(catches_a_lock_timeout).get() == "at once"
    found = counts()
    assert (found["first"], found["second"], found["third"]) == (1, 0, 1)


def test_a_server_that_then_rolls_back_all_has_the_body_repeated(redis_db: RedisDb) -> None:
    with (
        MariaDBServer(options=["--innodb-rollback-on-timeout=ON"]) as server,
        with_orders(mariadb_database(server), redis_db, *NAMES),
    ):
        assert run(catches_a_lock_timeout).get() == "again"
        found = counts()
    assert (found["first"], found["second"], found["third"]) == (1, 0, 0)


# -- many at once

MANY = 50


async def cross(number: int) -> None:
    """Lock two rows, half of all in one order and half in the other."""
    for name in ("first", "second") if number % 2 else ("second", "first"):
        await touch(name)
        await asyncio.sleep(0.02)


async def add_one(_: int) -> None:
    await db.session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
    first = orders.c.name == "first"
    found = await db.session.scalar(select(orders.c.count).where(first)) or 0
    await asyncio.sleep(0.02)
    await db.session.execute(update(orders).where(first).values(count=found + 1))


async def run_all(body: Callable[[int], Coroutine[object, Never, None]]) -> None:
    async def run_one(number: int) -> None:
        call = OnceCall(str(number), str(number), partial(body, number), lambda value: value, None)
        async with db.scope():
            await run_once(db, call)

    await asyncio.gather(*(run_one(number) for number in range(MANY)))


@pytest.fixture(params=["mariadb", "postgres"])
def either(request: pytest.FixtureRequest, redis_db: RedisDb, tmp_path: Path) -> Iterator[None]:
    config = database(cast("Kind", request.param), request, tmp_path)
    with with_orders(config, redis_db, *NAMES):
        if request.param == "postgres":
            AsyncRuntime.run(find_deadlocks_soon(config.DB_DATABASE))
        yield


async def find_deadlocks_soon(name: str) -> None:
    """PostgreSQL looks for one after a second, and here there are dozens of them."""
    async with db.engine.begin() as connection:
        await connection.execute(text(f'ALTER DATABASE "{name}" SET deadlock_timeout = 100'))
    await db.engine.dispose()


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("body", [cross, add_one])
def test_many_that_are_in_each_others_way_all_end(
    body: Callable[[int], Coroutine[object, Never, None]],
) -> None:
    AsyncRuntime.run(run_all(body))
    assert counts()["first"] == MANY
    assert count(once) == MANY
