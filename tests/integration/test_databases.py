"""Databases of tasks: two of them, passwords beyond ASCII, sessions that outlive their task."""

import asyncio
import json
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from tests.support.deployment import TIMEOUT, Deployment
from tests.support.patience import patience
from tests.support.proxy import Proxy
from tests.support.servers import MariaDBServer
from tests.support.servers.postgres import PostgresServer
from tomskit.celery import AsyncCelery, AsyncRuntime, CeleryConfig
from tomskit.celery._worker.connections import compare
from tomskit.sqlalchemy import DatabaseConfig, db, tracked

SERVICE = "tests.integration.two_databases_service"

TABLE = "CREATE TABLE notes (words VARCHAR(50))"


def words_in(file: Path) -> list[str]:
    with sqlite3.connect(file) as connection:
        return [str(words) for (words,) in connection.execute("SELECT words FROM notes")]


@pytest.mark.parametrize("pool", ["asyncio", "threads"])
def test_two_files_are_two_databases(deployment: Deployment, tmp_path: Path, pool: Any) -> None:
    files = [tmp_path / "own.sqlite", tmp_path / "reports.sqlite"]
    for file in files:
        with sqlite3.connect(file) as connection:
            connection.execute(TABLE)
    deployment.worker(
        pool,
        module=SERVICE,
        CELERY_SQLALCHEMY_DATABASE_URI=f"sqlite+aiosqlite:///{files[0]}",
        REPORTS=json.dumps({"SQLALCHEMY_DATABASE_URI": f"sqlite+aiosqlite:///{files[1]}"}),
        environment={},
    )

    assert note(deployment, "a") == [["a"], ["a"]]
    assert note(deployment, "b") == [["a", "b"], ["b"]]

    assert words_in(files[0]) == ["a", "b"]
    assert words_in(files[1]) == []


@pytest.mark.parametrize("pool", ["asyncio", "prefork"])
def test_two_databases_of_a_server_are_two(deployment: Deployment, pool: Any) -> None:
    server, own = deployment.mariadb, deployment.database
    reports = f"{own}_reports"
    server.create_database(reports)
    for name in (own, reports):
        server.query(TABLE.replace("notes", f"`{name}`.notes"))
    deployment.worker(
        pool,
        module=SERVICE,
        REPORTS=json.dumps(
            {
                "DB_HOST": server.host,
                "DB_PORT": server.port,
                "DB_USERNAME": server.user,
                "DB_PASSWORD": server.password,
                "DB_DATABASE": reports,
            }
        ),
    )

    assert note(deployment, "a") == [["a"], ["a"]]
    assert note(deployment, "b") == [["a", "b"], ["b"]]
    with pytest.raises(ValueError, match="c"):
        note(deployment, "c", fail=True)

    assert server.query(f"SELECT words FROM `{own}`.notes ORDER BY words") == [
        ("a",),
        ("b",),
        ("c",),
    ]
    assert server.query(f"SELECT words FROM `{reports}`.notes") == []


def note(deployment: Deployment, words: str, **options: object) -> object:
    return deployment.client.send_task("note", (words,), options).get(timeout=TIMEOUT)


# -- passwords


@pytest.fixture
def umlaut(mariadb_server: MariaDBServer) -> Iterator[dict[str, object]]:
    """The settings of a user whose password is not ASCII, created by a client that uses UTF-8."""
    mariadb_server.create_database("umlaut")
    user, password = "umlaut", "pässwörd ü€"
    mariadb_server.query("CREATE USER %s@'%%' IDENTIFIED BY %s", (user, password))
    mariadb_server.query("GRANT ALL PRIVILEGES ON umlaut.* TO %s", (user,))
    yield {
        "DB_HOST": mariadb_server.host,
        "DB_PORT": mariadb_server.port,
        "DB_USERNAME": user,
        "DB_PASSWORD": password,
        "DB_DATABASE": "umlaut",
    }
    mariadb_server.query("DROP USER %s", (user,))


@pytest.mark.usefixtures("clean_process")
def test_passwords_beyond_ascii_reach_a_mysql_server(umlaut: dict[str, object]) -> None:
    async def one() -> object:
        return await db.session.scalar(text("SELECT 1"))

    config = CeleryConfig.model_validate(
        {f"CELERY_{name}": value for name, value in umlaut.items()}
        | {
            "CELERY_RESULT_BACKEND_TYPE": "database",
            "CELERY_RESULT_BACKEND_DATABASE_URI_SCHEME": "mysql+pymysql",
        }
    )
    app = AsyncCelery("test", broker="memory://", config=config)
    AsyncRuntime.init(app)
    engine = create_engine(config.SQLALCHEMY_DATABASE_SYNC_URI)

    assert AsyncRuntime.run(one()) == 1
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT 1")) == 1
    backend: Any = app.backend
    backend.store_result("id", "result", "SUCCESS")
    assert backend.get_result("id") == "result"
    engine.dispose()


@pytest.mark.usefixtures("clean_process")
def test_passwords_beyond_ascii_may_be_in_a_url(umlaut: dict[str, object]) -> None:
    async def one() -> object:
        return await db.session.scalar(text("SELECT 1"))

    url = "mysql+aiomysql://umlaut:p%C3%A4ssw%C3%B6rd%20%C3%BC%E2%82%AC@{DB_HOST}:{DB_PORT}/umlaut"
    config = DatabaseConfig(SQLALCHEMY_DATABASE_URI=url.format(**umlaut))
    AsyncRuntime.init(AsyncCelery("test", broker="memory://", database=config))

    assert AsyncRuntime.run(one()) == 1


# -- a server that cannot be connected to


@pytest.mark.usefixtures("clean_process")
@pytest.mark.parametrize("scheme", ["mysql+aiomysql", "postgresql+asyncpg", "postgresql+psycopg"])
def test_a_server_that_accepts_and_does_not_answer_is_given_up(
    mariadb_server: MariaDBServer, scheme: str
) -> None:
    """The drivers wait for the login for a minute, or without an end."""
    with Proxy(mariadb_server.host, mariadb_server.port) as proxy:
        proxy.accept_silently()
        config = DatabaseConfig(
            SQLALCHEMY_DATABASE_URI=f"{scheme}://user:secret@{proxy.host}:{proxy.port}/one",
            SQLALCHEMY_CONNECT_TIMEOUT=0.5,
        )

        async def one() -> object:
            async with asyncio.timeout(patience(10)):
                with pytest.raises(
                    TimeoutError, match=r"within 0\.5 s.*SQLALCHEMY_CONNECT_TIMEOUT"
                ):
                    await db.session.scalar(text("SELECT 1"))
            return proxy.accepted

        AsyncRuntime.init(AsyncCelery("test", broker="memory://", database=config))

        assert AsyncRuntime.run(one())


# -- sessions that are used when their task has ended


@pytest.fixture
def app(clean_process: None, mariadb_server: MariaDBServer) -> AsyncCelery:
    mariadb_server.create_database("outlived")
    config = DatabaseConfig(
        DB_HOST=mariadb_server.host,
        DB_PORT=mariadb_server.port,
        DB_USERNAME=mariadb_server.user,
        DB_PASSWORD=mariadb_server.password,
        DB_DATABASE="outlived",
        SQLALCHEMY_POOL_SIZE=1,
        SQLALCHEMY_MAX_OVERFLOW=0,
    )
    app = AsyncCelery("test", broker="memory://", database=config)
    AsyncRuntime.init(app)
    return app


@pytest.mark.parametrize("seconds", [1, 60], ids=["waited for", "cancelled"])
@pytest.mark.usefixtures("app")
def test_a_child_that_still_uses_the_session_is_waited_for_or_cut_and_named(
    seconds: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow_child() -> None:
        await db.session.execute(text(f"SELECT SLEEP({seconds})"))
        ended.append(True)

    async def work() -> str:
        await db.session.execute(text("SELECT 1"))
        children.append(asyncio.create_task(slow_child()))
        await asyncio.sleep(0.1)
        return "done"

    async def after() -> object:
        await asyncio.wait(children)
        return await db.session.scalar(text("SELECT @@in_transaction"))

    if seconds > 1:
        monkeypatch.setattr(tracked, "GRACE_SECONDS", 0.2)
    else:
        monkeypatch.setattr(tracked, "GRACE_SECONDS", 30)
    children: list[asyncio.Task[None]] = []
    ended: list[bool] = []

    with caplog.at_level(logging.WARNING):
        assert AsyncRuntime.run(work()) == "done"

    assert "slow_child" in caplog.text
    # There is one connection: it was given back.
    assert AsyncRuntime.run(after()) == 0
    assert ended == ([True] if seconds == 1 else [])


async def execute_on(connection: AsyncConnection, statement: str) -> None:
    await connection.execute(text(statement))


async def execute_on_connection_of_session(statement: str) -> None:
    await execute_on(await db.session.connection(), statement)


@pytest.mark.parametrize("whose", ["its own", "its task's"])
@pytest.mark.usefixtures("app")
def test_a_child_that_uses_the_connection_of_the_session_is_cut_and_named(
    whose: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> str:
        if whose == "its own":
            child = asyncio.create_task(execute_on_connection_of_session(statement))
        else:
            child = asyncio.create_task(execute_on(await db.session.connection(), statement))
        children.append(child)
        await runs(statement)
        return "done"

    monkeypatch.setattr(tracked, "GRACE_SECONDS", 0.2)
    children: list[asyncio.Task[None]] = []
    # Another test's may still run on the server.
    statement = f"SELECT SLEEP(60), {uuid4().hex!r}"

    with caplog.at_level(logging.WARNING):
        assert AsyncRuntime.run(work()) == "done"

    assert "execute_on" in caplog.text
    assert AsyncRuntime.run(transaction_after(children)) == 0


@pytest.mark.usefixtures("app")
def test_a_connection_that_cannot_be_rolled_back_leaves_its_place_to_another(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def beside_sqlalchemy() -> None:
        connection = await (await db.session.connection()).get_raw_connection()
        driver: Any = connection.driver_connection
        cursor = await driver.cursor()
        await cursor.execute(statement)

    async def work() -> str:
        children.append(asyncio.create_task(beside_sqlalchemy()))
        await runs(statement)
        return "done"

    children: list[asyncio.Task[None]] = []
    statement = f"SELECT SLEEP(60), {uuid4().hex!r}"

    with caplog.at_level(logging.ERROR):
        assert AsyncRuntime.run(work()) == "done"

    assert "could not be closed" in caplog.text
    # There is one place in the pool.
    assert AsyncRuntime.run(transaction_after(children)) == 0


async def transaction_after(children: list[asyncio.Task[None]]) -> object:
    """Whether the next session has a transaction open, when the children have ended."""
    async with asyncio.timeout(TIMEOUT):
        await asyncio.wait(children)
        return await db.session.scalar(text("SELECT @@in_transaction"))


async def runs(statement: str) -> None:
    """Wait until the server runs a statement."""
    found = text("SELECT COUNT(*) FROM information_schema.processlist WHERE info = :statement")
    engine = create_async_engine(db.config.SQLALCHEMY_DATABASE_URI, poolclass=NullPool)
    async with asyncio.timeout(TIMEOUT), engine.connect() as connection:
        while not await connection.scalar(found, {"statement": statement}):  # noqa: ASYNC110 (the server's doing)
            await asyncio.sleep(0.02)


# -- more connections than a server admits


@pytest.mark.parametrize(
    ("pool", "size", "most"),
    [
        ("prefork", 300, "300 in each process .* times 2 = 600"),
        ("asyncio", 600, "600 in each process .* times 1 = 600"),
        ("asyncio", 0, "any number in each process"),
    ],
)
def test_a_pool_that_may_exceed_what_mariadb_admits_is_a_warning_at_start(
    deployment: Deployment, pool: Any, size: int, most: str
) -> None:
    worker = deployment.worker(
        pool, 2, CELERY_SQLALCHEMY_POOL_SIZE=str(size), CELERY_SQLALCHEMY_MAX_OVERFLOW="0"
    )

    worker.wait_for_line(f"WARNING.*max_connections = 500: {most}")


def test_a_pool_that_fits_is_no_warning(
    mariadb_server: MariaDBServer, caplog: pytest.LogCaptureFixture
) -> None:
    mariadb_server.create_database("fitting")
    config = DatabaseConfig(
        DB_HOST=mariadb_server.host,
        DB_PORT=mariadb_server.port,
        DB_USERNAME=mariadb_server.user,
        DB_PASSWORD=mariadb_server.password,
        DB_DATABASE="fitting",
        SQLALCHEMY_POOL_SIZE=90,
        SQLALCHEMY_MAX_OVERFLOW=10,
    )

    compare([("database", config)], 5)
    assert "max_connections" not in caplog.text

    compare([("database", config)], 6)
    assert "max_connections = 500: 100 in each process" in caplog.text


def test_a_pool_that_may_exceed_what_postgresql_admits_is_a_warning_at_start(
    deployment: Deployment, postgres_server: PostgresServer
) -> None:
    server = postgres_server
    where = f"{server.user}:{server.password}@{server.host}:{server.port}/{server.database}"
    worker = deployment.worker(
        "threads",
        CELERY_SQLALCHEMY_DATABASE_URI=f"postgresql+asyncpg://{where}",
        CELERY_SQLALCHEMY_POOL_SIZE="1000",
    )

    worker.wait_for_line(r"WARNING.*max_connections = 300: 1010 in each process")


@pytest.mark.parametrize("name", ["ssl", "sslmode"])
def test_both_drivers_of_postgresql_take_the_mode_of_tls(
    postgres_server: PostgresServer, name: str
) -> None:
    server = postgres_server
    config = DatabaseConfig(
        SQLALCHEMY_DATABASE_URI_SCHEME="postgresql+asyncpg",
        SQLALCHEMY_DATABASE_SYNC_URI_SCHEME="postgresql+psycopg",
        DB_HOST=server.host,
        DB_PORT=server.port,
        DB_USERNAME=server.user,
        DB_PASSWORD=server.password,
        DB_DATABASE=server.database,
        DB_EXTRAS=f"{name}=prefer",
    )

    async def ask() -> object:
        engine = create_async_engine(config.SQLALCHEMY_DATABASE_URI)
        try:
            async with engine.connect() as connection:
                return await connection.scalar(text("SELECT 1"))
        finally:
            await engine.dispose()

    engine = create_engine(config.SQLALCHEMY_DATABASE_SYNC_URI)
    with closing(engine.connect()) as connection:
        assert connection.scalar(text("SELECT 1")) == 1
    engine.dispose()
    assert asyncio.run(ask()) == 1
