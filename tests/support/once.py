"""Databases of each kind, and apps whose tasks use them, for tests of what commits once."""

import json
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Final, Literal, Protocol, TypeVar, cast

import pytest
from redis import Redis
from sqlalchemy import Table, func, select

from tests.support.loops import run
from tests.support.orders import make_tables, place_orders, runs
from tests.support.servers import MariaDBServer, RedisDb
from tests.support.servers.postgres import PostgresServer
from tomskit.celery import AsyncCelery, AsyncRuntime, CeleryConfig
from tomskit.sqlalchemy import DatabaseConfig, DatabaseProvider
from tomskit.sqlalchemy.database import db
from tomskit.sqlalchemy.tables import outbox

Kind = Literal["sqlite", "mariadb", "postgres", "psycopg"]
KINDS: Final[tuple[Kind, ...]] = ("sqlite", "mariadb", "postgres", "psycopg")

Message = dict[str, object]
T = TypeVar("T")

_databases = count()


def database(kind: Kind, request: pytest.FixtureRequest, folder: Path) -> DatabaseConfig:
    """A database without tables; its server is started if need be."""
    if kind == "sqlite":
        return DatabaseConfig(
            SQLALCHEMY_DATABASE_URI_SCHEME="sqlite+aiosqlite", DB_DATABASE=str(folder / "once.db")
        )
    if kind == "mariadb":
        return mariadb_database(cast("MariaDBServer", request.getfixturevalue("mariadb_server")))
    postgres = cast("PostgresServer", request.getfixturevalue("postgres_server"))
    return DatabaseConfig(
        SQLALCHEMY_DATABASE_URI_SCHEME="postgresql+asyncpg"
        if kind == "postgres"
        else "postgresql+psycopg",
        DB_HOST=postgres.host,
        DB_PORT=postgres.port,
        DB_USERNAME=postgres.user,
        DB_PASSWORD=postgres.password,
        DB_DATABASE=postgres.new_database(),
    )


def mariadb_database(server: MariaDBServer) -> DatabaseConfig:
    """A new database without tables."""
    name = f"once_{next(_databases)}"
    server.create_database(name)
    return DatabaseConfig(
        SQLALCHEMY_DATABASE_URI_SCHEME="mysql+aiomysql",
        DB_HOST=server.host,
        DB_PORT=server.port,
        DB_USERNAME=server.user,
        DB_PASSWORD=server.password,
        DB_DATABASE=name,
    )


@contextmanager
def sending(
    config: DatabaseConfig, redis_db: RedisDb, **settings: object
) -> Generator[AsyncCelery]:
    """The current app, with a broker that nobody listens to."""
    options = {"CELERY_OUTBOX_INTERVAL": 3.0, **settings}
    with AsyncCelery(
        "once",
        config=CeleryConfig.model_validate(options),
        broker=redis_db.broker_url,
        backend=redis_db.result_url,
        database=config,
        set_as_current=False,
    ) as app:
        app.set_current()
        yield app


@contextmanager
def with_orders(config: DatabaseConfig, redis_db: RedisDb, *names: str) -> Generator[AsyncCelery]:
    """The current app, whose database has orders of these names; no body has begun yet."""

    async def prepare() -> None:
        await make_tables()
        if names:
            await place_orders(*names)
        # Connections of MariaDB have the variables of the moment at which they begin.
        await db.engine.dispose()

    with sending(config, redis_db) as app:
        try:
            AsyncRuntime.run(prepare())
            runs.clear()
            yield app
        finally:
            AsyncRuntime.shutdown()


def work(app: AsyncCelery, body: Callable[[], Awaitable[T]], *tables: Table) -> T:
    """Await `body()` in a scope of the app's database, as a web view does, with our tables and these."""

    async def main() -> T:
        provider = DatabaseProvider(app.db_config)
        await provider.startup()
        try:
            await db.create_tables()
            async with db.engine.begin() as connection:
                for table in tables:
                    await connection.run_sync(table.create)
            async with db.scope():
                return await body()
        finally:
            await provider.shutdown()

    return run(main())


async def left() -> int:
    """How many messages are in the table of the outbox, for all to see."""
    async with db.scope():
        return await db.session.scalar(select(func.count()).select_from(outbox)) or 0


class Events(Protocol):
    """redis-py's subscriptions, as far as they are used here."""

    def psubscribe(self, pattern: str) -> None: ...
    def get_message(self, *, timeout: float) -> dict[str, bytes] | None: ...
    def close(self) -> None: ...


class Broker(Protocol):
    """redis-py's client, as far as it is used here."""

    def keys(self) -> list[bytes]: ...
    def lrange(self, key: str, start: int, end: int) -> list[bytes]: ...
    def smembers(self, key: str) -> set[bytes]: ...
    def flushdb(self) -> object: ...
    def info(self, section: str) -> dict[str, dict[str, int]]: ...
    def pubsub(self) -> Events: ...


@contextmanager
def broker(redis_db: RedisDb) -> Generator[Broker]:
    """A client of the broker."""
    with Redis(host=redis_db.host, port=redis_db.port, db=redis_db.broker_db) as redis:
        yield cast("Broker", redis)


def messages(redis_db: RedisDb, queue: str = "celery") -> list[Message]:
    """What waits in a queue, the oldest first."""
    with broker(redis_db) as redis:
        found = redis.lrange(queue, 0, -1)
    return [json.loads(raw) for raw in reversed(found)]


def ids(redis_db: RedisDb, queue: str = "celery") -> list[str]:
    """The ids of the tasks that wait in a queue, the oldest first."""
    headers = [cast("dict[str, str]", one["headers"]) for one in messages(redis_db, queue)]
    return [one["id"] for one in headers]
