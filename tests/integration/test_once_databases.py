"""once=True on each database: deliveries that come again, commits that are refused or not answered."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, event, insert, select, text
from sqlalchemy.exc import DBAPIError
from typing_extensions import override

from tests.support.once import KINDS, Kind, database, ids, mariadb_database, with_orders
from tests.support.orders import count, orders, rows_of, run, runs
from tests.support.proxy import Proxy
from tests.support.servers import MariaDBServer, RedisDb
from tomskit.celery import AsyncCelery, AsyncRuntime, async_shared_task
from tomskit.celery._outbox import marks, repeats
from tomskit.celery._outbox import once as once_module
from tomskit.errors import CommitRefusedError, ConfigurationError
from tomskit.sqlalchemy import DatabaseConfig
from tomskit.sqlalchemy.config import EngineOptions
from tomskit.sqlalchemy.database import db
from tomskit.sqlalchemy.tables import once, outbox

pytestmark = pytest.mark.usefixtures("clean_process")


@async_shared_task(ignore_result=True)
async def ship(name: str) -> None: ...


@async_shared_task(once=True)
async def place(name: str) -> str:
    runs.append(name)
    await db.session.execute(insert(orders).values(name=name))
    ship.delay_on_commit(name)
    return f"placed {name}"


@async_shared_task(once=True)
async def commits_the_connection(name: str) -> None:
    connection = await db.session.connection()
    await connection.execute(insert(orders).values(name=name))
    await connection.commit()


@async_shared_task(once=True)
async def commits_beside_a_savepoint(name: str) -> None:
    await db.session.begin_nested()
    await db.session.execute(insert(orders).values(name=name))
    await db.session.commit()


@async_shared_task(once=True)
async def commits_as_text(name: str) -> None:
    await db.session.execute(insert(orders).values(name=name))
    await db.session.execute(text("  commit"))


@async_shared_task(once=True)
async def commits_as_text_by_the_connection(name: str) -> None:
    await db.session.execute(insert(orders).values(name=name))
    connection = await db.session.connection()
    await connection.execute(text("/* by hand */ COMMIT"))


@async_shared_task(once=True)
async def commits_by_the_driver(name: str) -> None:
    await db.session.execute(insert(orders).values(name=name))
    connection = await db.session.connection()
    await connection.exec_driver_sql("COMMIT")


@async_shared_task(once=True)
async def commits_each_statement(name: str) -> None:
    await db.session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
    await db.session.execute(insert(orders).values(name=name))


@async_shared_task(once=True)
async def truncates(name: str) -> None:
    await db.session.execute(insert(orders).values(name=name))
    await db.session.execute(text("TRUNCATE TABLE orders"))


@async_shared_task(once=True)
async def makes_a_table(name: str) -> None:
    await db.session.execute(insert(orders).values(name=name))
    made = Table("made", MetaData(), Column("id", Integer))
    await (await db.session.connection()).run_sync(made.create)


@async_shared_task(once=True)
async def serializable(name: str) -> str:
    await db.session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
    await db.session.execute(insert(orders).values(name=name))
    return name


@async_shared_task(once=True)
async def leaves_a_savepoint_open(name: str) -> str:
    await db.session.begin_nested()
    await db.session.execute(insert(orders).values(name=name))
    ship.delay_on_commit(name)
    return name


@async_shared_task(once=True)
async def releases_a_savepoint_and_fails(name: str) -> None:
    async with db.session.begin_nested():
        await db.session.execute(insert(orders).values(name=name))
    raise KeyError(name)


@pytest.fixture(params=KINDS)
def config(request: pytest.FixtureRequest, tmp_path: Path) -> DatabaseConfig:
    return database(cast("Kind", request.param), request, tmp_path)


@pytest.fixture
def app(config: DatabaseConfig, redis_db: RedisDb, clean_process: None) -> Iterator[AsyncCelery]:
    with with_orders(config, redis_db) as made:
        yield made


# -- deliveries


@pytest.mark.usefixtures("app")
def test_a_later_delivery_answers_without_running_the_body(redis_db: RedisDb) -> None:
    for _ in range(3):
        # Nothing in the message says that there was another one.
        assert run(place, "a").get() == "placed a"
    assert runs == ["a"]
    assert (count(orders), count(once)) == (1, 1)
    AsyncRuntime.shutdown()
    assert len(ids(redis_db)) == 1


def test_a_process_that_ends_publishes_what_it_has_committed(
    config: DatabaseConfig, redis_db: RedisDb
) -> None:
    """However slow the broker is, within the 5 s that a process takes for it."""
    with (
        Proxy(redis_db.host, redis_db.port) as proxy,
        with_orders(config, replace(redis_db, port=proxy.port)),
    ):
        proxy.slow_down(4000)
        assert run(place, "a").get() == "placed a"
        AsyncRuntime.shutdown()
        assert len(ids(redis_db)) == 1
        assert AsyncRuntime.run(rows_of(outbox)) == 0


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize("task_id", ["a\0b", "a\nb", " ", "é" * 200], ids=ascii)
def test_an_id_may_be_any_text(task_id: str) -> None:
    for _ in range(2):
        assert run(place, "a", task_id=task_id).get() == "placed a"
    assert runs == ["a"]
    assert count(once) == 1


@pytest.mark.usefixtures("app")
def test_a_delivery_in_whose_way_another_one_was_answers_what_that_returned() -> None:
    begun = asyncio.Event()

    async def place_twice() -> list[object]:
        async def deliver(*, waits: bool) -> object:
            async def body() -> str:
                if waits:
                    await begun.wait()
                await db.session.execute(insert(orders).values(name="a"))
                return "slow" if waits else "fast"

            call = once_module.OnceCall("place[one]", "one", body, lambda value: value, "json")
            async with db.scope():
                return await once_module.run_once(db, call)

        # It has looked for a mark when the other one begins, and then finds the row of that.
        slow = asyncio.ensure_future(deliver(waits=True))
        await asyncio.sleep(0.2)
        fast = await deliver(waits=False)
        begun.set()
        return [fast, await slow]

    assert AsyncRuntime.run(place_twice()) == ["fast", "fast"]
    assert (count(orders), count(once)) == (1, 1)


@pytest.mark.usefixtures("app")
def test_a_mark_is_found_by_the_server_that_has_it(redis_db: RedisDb) -> None:
    """Where what reads goes to a server that is behind, and what locks to the one that is written to."""

    async def deliver() -> str:
        def be_behind(*args: Any) -> tuple[str, Any]:
            statement = str(args[2])
            reads = statement.startswith("SELECT tomskit_once") and not re.search(
                "FOR |LOCK IN", statement
            )
            return (f"{statement} AND 1 = 0" if reads else statement), args[3]

        engine = db.engine.sync_engine
        event.listen(engine, "before_cursor_execute", be_behind, retval=True)
        try:
            # It is read again where nothing can be locked.
            return await asyncio.to_thread(lambda: str(run(place, "a").get()))
        finally:
            event.remove(engine, "before_cursor_execute", be_behind)

    assert run(place, "a").get() == "placed a"
    if AsyncRuntime.run(dialect()) == "sqlite":
        pytest.skip("it is one file")
    assert AsyncRuntime.run(deliver()) == "placed a"
    assert (count(orders), count(once)) == (1, 1)
    AsyncRuntime.shutdown()
    assert len(ids(redis_db)) == 1


async def dialect() -> str:
    return db.engine.dialect.name


@async_shared_task(once=True)
async def notes(name: str) -> str:
    return name


@pytest.mark.usefixtures("app")
def test_a_mark_that_the_table_refuses_is_the_error_that_says_why() -> None:
    async def change() -> None:
        async with db.engine.begin() as connection:
            await connection.execute(text("DROP TABLE tomskit_once"))
            await connection.execute(
                text(
                    "CREATE TABLE tomskit_once (task_id VARCHAR(255) PRIMARY KEY, finished BIGINT, "
                    "content_type TEXT, content_encoding TEXT, result TEXT, own INTEGER NOT NULL)"
                )
            )

    AsyncRuntime.run(change())
    with pytest.raises(DBAPIError, match="own"):
        run(notes, "a").get()


@pytest.mark.usefixtures("app")
def test_a_table_with_other_columns_is_not_called_missing() -> None:
    async def change() -> None:
        async with db.engine.begin() as connection:
            await connection.execute(text("ALTER TABLE tomskit_once DROP COLUMN content_encoding"))

    AsyncRuntime.run(change())
    with pytest.raises(DBAPIError, match="content_encoding"):
        run(notes, "a").get()


# -- commits


@pytest.mark.parametrize(
    "made",
    [
        commits_the_connection,
        commits_beside_a_savepoint,
        commits_as_text,
        commits_as_text_by_the_connection,
        commits_by_the_driver,
        commits_each_statement,
    ],
)
@pytest.mark.usefixtures("app")
def test_no_way_to_commit_has_effects_without_a_mark(made: Any) -> None:
    with pytest.raises(Exception, match="once=True must not commit"):
        run(made, "a").get()
    assert (count(orders), count(once)) == (0, 0)


class AutocommitConfig(DatabaseConfig):
    @property
    @override
    def SQLALCHEMY_ENGINE_OPTIONS(self) -> EngineOptions:
        options: dict[str, object] = {
            **super().SQLALCHEMY_ENGINE_OPTIONS,
            "isolation_level": "AUTOCOMMIT",
        }
        return cast("EngineOptions", options)


@pytest.fixture(params=["engine", "url"])
def autocommit(
    request: pytest.FixtureRequest, config: DatabaseConfig, redis_db: RedisDb
) -> Iterator[None]:
    """An engine all of whose connections commit each statement."""
    fields = {name: getattr(config, name) for name in config.model_fields_set}
    made: DatabaseConfig
    if request.param == "engine":
        made = AutocommitConfig.model_validate(fields)
    elif (
        "aiomysql" in config.SQLALCHEMY_DATABASE_URI or "psycopg" in config.SQLALCHEMY_DATABASE_URI
    ):
        made = config.model_copy(update={"DB_EXTRAS": "autocommit=true"})
    else:
        pytest.skip("the driver has no such parameter")
    with with_orders(made, redis_db):
        yield


@pytest.mark.usefixtures("autocommit")
def test_connections_that_commit_each_statement_are_refused(redis_db: RedisDb) -> None:
    async def send() -> None:
        async with db.scope():
            await db.session.execute(insert(orders).values(name="b"))
            ship.delay_on_commit("b")
            await db.session.commit()

    with pytest.raises(CommitRefusedError, match="AUTOCOMMIT"):
        run(place, "a").get()
    assert (count(orders), count(once)) == (0, 0)
    with pytest.raises(ConfigurationError, match="AUTOCOMMIT"):
        AsyncRuntime.run(send())
    AsyncRuntime.shutdown()
    assert ids(redis_db) == []


@pytest.mark.usefixtures("app")
def test_the_isolation_level_is_the_one_that_the_body_sets() -> None:
    assert run(serializable, "a").get() == "a"
    assert run(serializable, "a").get() == "a"
    assert (count(orders), count(once)) == (1, 1)


@pytest.mark.usefixtures("app")
def test_a_savepoint_that_is_left_open_is_committed_with_its_messages(redis_db: RedisDb) -> None:
    assert run(leaves_a_savepoint_open, "a").get() == "a"
    assert (count(orders), count(once)) == (1, 1)
    AsyncRuntime.shutdown()
    assert len(ids(redis_db)) == 1


@pytest.mark.usefixtures("app")
def test_a_released_savepoint_is_rolled_back_with_the_body() -> None:
    with pytest.raises(KeyError):
        run(releases_a_savepoint_and_fails, "a").get()
    assert (count(orders), count(once)) == (0, 0)


@pytest.mark.usefixtures("app")
def test_messages_are_written_whatever_way_the_transaction_is_committed(redis_db: RedisDb) -> None:
    async def main() -> list[int]:
        written: list[int] = []
        async with db.scope():
            async with db.session.begin():
                ship.delay_on_commit("a")
                await db.session.begin_nested()
                ship.delay_on_commit("b")
            written.append(len(await published()))
            ship.delay_on_commit("c")
            await (await db.session.connection()).commit()
            with suppress(Exception):  # it was committed behind the session's back
                await db.session.rollback()
            written.append(len(await published()))
        return written

    async def published() -> set[str]:
        """What is in the table, or with the broker already."""
        async with db.scope():
            texts = (await db.session.execute(select(outbox.c.options))).scalars().all()
        return set(ids(redis_db)) | {one.partition('"id": "')[2][:36] for one in texts}

    assert AsyncRuntime.run(main()) == [2, 3]


@pytest.mark.usefixtures("app")
def test_messages_on_commit_need_a_transaction(redis_db: RedisDb) -> None:
    async def main() -> None:
        async with db.scope():
            await db.session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
            ship.delay_on_commit("a")
            with pytest.raises(Exception, match="AUTOCOMMIT"):
                await db.session.commit()

    AsyncRuntime.run(main())
    AsyncRuntime.shutdown()
    assert ids(redis_db) == []


# -- servers


def behind(config: DatabaseConfig, proxy: Proxy) -> DatabaseConfig:
    return config.model_copy(update={"DB_HOST": proxy.host, "DB_PORT": proxy.port})


@pytest.fixture(params=[kind for kind in KINDS if kind != "sqlite"])
def proxy(request: pytest.FixtureRequest, redis_db: RedisDb, tmp_path: Path) -> Iterator[Proxy]:
    """A network between the tasks and their database."""
    config = database(cast("Kind", request.param), request, tmp_path)
    with (
        Proxy(config.DB_HOST, config.DB_PORT) as made,
        with_orders(behind(config, made), redis_db),
    ):
        yield made


@async_shared_task(once=True)
async def place_over(name: str, fault: str) -> str:
    """As `place`; then the network does something to the commit."""
    runs.append(name)
    await db.session.execute(insert(orders).values(name=name))
    ship.delay_on_commit(name)
    await db.session.flush()
    if len(runs) == 1:
        faults[fault]()
    return f"placed {name}"


faults: dict[str, Any] = {}


@pytest.mark.parametrize("is_answered", [True, False])
def test_a_call_without_a_mark_is_not_repeated_if_its_commit_is_not_answered(
    proxy: Proxy, is_answered: bool
) -> None:
    faults["lose"] = lambda: proxy.lose(b"COMMIT", is_answered=is_answered)
    with pytest.raises(Exception, match=r".") as caught:
        cast("Any", place_over)("a", "lose")
    assert "is not repeated" in "".join(getattr(caught.value, "__notes__", ()))
    assert runs == ["a"]
    assert (count(orders), count(once)) == (int(is_answered), 0)


@pytest.mark.parametrize("is_answered", [True, False])
def test_a_connection_that_is_lost_during_the_commit(
    proxy: Proxy, redis_db: RedisDb, is_answered: bool
) -> None:
    faults["lose"] = lambda: proxy.lose(b"COMMIT", is_answered=is_answered)
    assert run(place_over, "a", "lose").get() == "placed a"
    assert proxy.has_lost
    assert (count(orders), count(once)) == (1, 1)
    # What was committed is not done again, and what was not is.
    assert len(runs) == (1 if is_answered else 2)
    assert run(place_over, "a", "lose").get() == "placed a"
    assert count(orders) == 1


def test_a_mark_that_is_not_answered_for_is_written_by_another_connection(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def freeze() -> None:
        proxy.freeze()
        # The server keeps the locks of the transaction until it notices.
        threading.Timer(4.0, proxy.kill).start()

    monkeypatch.setattr(marks, "ANSWER_SECONDS", 2.0)
    faults["freeze"] = freeze
    assert run(place_over, "a", "freeze").get() == "placed a"
    assert (count(orders), count(once)) == (1, 1)
    assert "has not answered" in caplog.text


def test_a_commit_that_is_not_answered_is_looked_up(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(marks, "ANSWER_SECONDS", 2.0)
    faults["freeze"] = lambda: proxy.freeze_at(b"COMMIT")
    assert run(place_over, "a", "freeze").get() == "placed a"
    assert runs == ["a"]
    assert (count(orders), count(once)) == (1, 1)
    assert "was committed, although" in caplog.text


# -- MariaDB


@pytest.fixture
def mariadb(mariadb_server: MariaDBServer, redis_db: RedisDb) -> Iterator[MariaDBServer]:
    with with_orders(mariadb_database(mariadb_server), redis_db):
        yield mariadb_server


@pytest.mark.usefixtures("mariadb")
@pytest.mark.parametrize("made", [truncates, makes_a_table])
def test_statements_that_commit_in_mysql_are_refused(made: Any) -> None:
    with pytest.raises(Exception, match="once=True must not commit"):
        run(made, "a").get()
    assert (count(orders), count(once)) == (0, 0)


@pytest.mark.usefixtures("mariadb")
def test_a_table_that_takes_two_ids_for_one_is_an_error_that_names_both() -> None:
    """The second task must not answer the result of the first one."""

    async def change() -> None:
        async with db.engine.begin() as connection:
            column = "task_id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci"
            await connection.execute(text(f"ALTER TABLE tomskit_once MODIFY {column}"))

    AsyncRuntime.run(change())
    assert run(place, "a", task_id="Abc").get() == "placed a"
    with pytest.raises(ConfigurationError, match=r"'abc'.* a mark of 'Abc'.*utf8mb4_bin"):
        run(place, "b", task_id="abc").get()
    assert (count(orders), count(once)) == (1, 1)


@async_shared_task(once=True)
async def answers(size: int) -> str:
    runs.append("answers")
    return "x" * size


def test_a_result_that_the_server_does_not_take_is_an_error(
    mariadb: MariaDBServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    [(_, largest)] = mariadb.query("SHOW GLOBAL VARIABLES LIKE 'max_allowed_packet'")
    monkeypatch.setattr(repeats, "LOSSES", 2)
    with pytest.raises(DBAPIError) as caught:
        run(answers, int(str(largest)) + 1000).get()
    assert len(runs) <= 3
    notes = "".join(getattr(caught.value, "__notes__", ())) + str(caught.value)
    assert "max_allowed_packet" in notes
    assert len(str(caught.value)) < 5000
