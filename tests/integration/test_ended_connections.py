"""Connections that PostgreSQL ends, of which the last message arrives before the end does."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import text

from tests.support.patience import patience
from tests.support.proxy import Proxy
from tests.support.servers.postgres import PostgresServer, postgres_missing
from tomskit.sqlalchemy import DatabaseConfig
from tomskit.sqlalchemy.away import is_away
from tomskit.sqlalchemy.database import Database

ARRIVES_SECONDS = 0.3
"""Enough for a message to arrive; where it is not, the error is another one, and means the same."""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    if (missing := postgres_missing()) is not None:
        pytest.skip(missing)
    with PostgresServer() as started:
        yield started


@asynccontextmanager
async def database_behind(
    proxy: Proxy, server: PostgresServer, connections: int = 1
) -> AsyncGenerator[Database]:
    database = Database()
    database.open(
        DatabaseConfig(
            SQLALCHEMY_DATABASE_URI_SCHEME="postgresql+asyncpg",
            DB_HOST=proxy.host,
            DB_PORT=proxy.port,
            DB_USERNAME=server.user,
            DB_PASSWORD=server.password,
            DB_DATABASE=server.database,
            SQLALCHEMY_POOL_SIZE=connections,
            SQLALCHEMY_MAX_OVERFLOW=0,
        )
    )
    try:
        yield database
    finally:
        await asyncio.wait_for(database.close(), patience(20))


async def ask(database: Database, sql: str = "SELECT 1") -> int:
    return int((await database.session.execute(text(sql))).scalar_one())


async def end_connection(server: PostgresServer, process: int) -> None:
    await asyncio.to_thread(server.query, f"SELECT pg_terminate_backend({process})")
    await asyncio.sleep(ARRIVES_SECONDS)


def test_a_statement_on_a_connection_that_is_ended_means_that_the_database_is_away(
    server: PostgresServer,
) -> None:
    async def main() -> None:
        with Proxy(server.host, server.port) as proxy:
            proxy.hold_ends()
            async with database_behind(proxy, server) as database, database.scope():
                await end_connection(server, await ask(database, "SELECT pg_backend_pid()"))

                with pytest.raises(Exception) as raised:  # noqa: PT011 (which one depends on the driver)
                    await ask(database)

                assert is_away(raised.value), repr(raised.value)
                await database.session.rollback()
                assert await ask(database) == 1

    asyncio.run(main())


def test_only_one_task_meets_a_connection_that_was_ended_in_the_pool(
    server: PostgresServer,
) -> None:
    async def main() -> None:
        with Proxy(server.host, server.port) as proxy:
            proxy.hold_ends()
            async with database_behind(proxy, server) as database:
                async with database.scope():
                    process = await ask(database, "SELECT pg_backend_pid()")
                await end_connection(server, process)

                async with database.scope():
                    with pytest.raises(Exception) as raised:  # noqa: PT011 (as above)
                        await ask(database)
                assert is_away(raised.value), repr(raised.value)

                async with database.scope():
                    assert await ask(database) == 1

    asyncio.run(main())


def test_a_pool_is_closed_although_no_connection_answers(server: PostgresServer) -> None:
    async def main() -> None:
        with Proxy(server.host, server.port) as proxy:
            async with database_behind(proxy, server, 10) as database:
                all_open = asyncio.Barrier(10)

                async def use() -> None:
                    async with database.scope():
                        await ask(database)
                        await all_open.wait()

                await asyncio.gather(*(use() for _ in range(10)))
                proxy.freeze()

    asyncio.run(main())
