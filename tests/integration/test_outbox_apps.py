"""Several apps with their messages in one database: each publishes what its own broker is to have."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, Never, TypeVar

import pytest
from sqlalchemy import update

from tests.support.deployment import eventually
from tests.support.loops import run
from tests.support.once import KINDS, Kind, database, ids, left
from tests.support.proxy import Proxy
from tests.support.servers import RedisDb, RedisServer
from tests.support.servers.redis import fresh_redis_db
from tomskit.celery import AsyncCelery, CeleryConfig, async_shared_task
from tomskit.celery._outbox.relay import Relay
from tomskit.celery._outbox.store import OutboxStore
from tomskit.sqlalchemy import DatabaseConfig, DatabaseProvider
from tomskit.sqlalchemy.database import db
from tomskit.sqlalchemy.tables import outbox

pytestmark = pytest.mark.usefixtures("clean_process")

T = TypeVar("T")


@async_shared_task(ignore_result=True)
async def ship(name: str) -> None: ...


@pytest.fixture
def sqlite(request: pytest.FixtureRequest, tmp_path: Path) -> DatabaseConfig:
    return database("sqlite", request, tmp_path)


def app_of(name: str, config: DatabaseConfig, url: str, **options: Any) -> AsyncCelery:
    app = AsyncCelery(
        name,
        config=CeleryConfig(CELERY_OUTBOX_INTERVAL=3.0),
        broker=url,
        database=config,
        set_as_current=False,
    )
    app.conf.update(options)
    return app


def work(config: DatabaseConfig, body: Callable[[], Coroutine[object, Never, T]]) -> T:
    async def main() -> T:
        provider = DatabaseProvider(config)
        await provider.startup()
        try:
            await db.create_tables()
            return await body()
        finally:
            await provider.shutdown()

    return run(main())


async def leave(app: AsyncCelery, count: int) -> list[str]:
    """Commit messages and be dead before they are published; the ids of their tasks."""
    app.set_current()
    async with db.scope():
        sent = [ship.delay_on_commit(str(number)).id for number in range(count)]
        # Not by the session, which hands them over to be published at once.
        await (await db.session.connection()).commit()
    async with db.engine.begin() as connection:
        await connection.execute(update(outbox).values(due=0))
    return sent


async def relay(app: AsyncCelery) -> int:
    """Publish what a worker of the app publishes; how many messages that were."""
    return len((await OutboxStore(app, db).publish_due()).taken)


@pytest.mark.parametrize("kind", KINDS)
def test_a_worker_publishes_the_messages_of_its_own_app(
    kind: Kind, request: pytest.FixtureRequest, tmp_path: Path, redis_server: RedisServer
) -> None:
    config = database(kind, request, tmp_path)
    brokers = [fresh_redis_db(redis_server) for _ in range(2)]
    # They may have the same name: one installation for each customer, say.
    shops = [app_of("shop", config, one.broker_url) for one in brokers]

    async def body() -> list[list[str]]:
        sent = [await leave(shops[0], 3), await leave(shops[1], 2)]
        assert [await relay(shops[1]), await relay(shops[1])] == [2, 0]
        waiting = await OutboxStore(shops[1], db).waiting()
        assert (waiting.count, waiting.others) == (0, 3)
        assert [await relay(shops[0]), await left()] == [3, 0]
        return sent

    sent = work(config, body)
    assert [sorted(ids(one)) for one in brokers] == [sorted(one) for one in sent]


def published(database: DatabaseConfig, web: AsyncCelery, worker: AsyncCelery) -> list[str]:
    """The ids of two messages that one app leaves and another one publishes."""

    async def body() -> list[str]:
        sent = await leave(web, 2)
        assert await relay(worker) == 2
        return sent

    return work(database, body)


def test_a_broker_under_another_host_is_the_same_for_apps_of_one_name(
    sqlite: DatabaseConfig, redis_db: RedisDb
) -> None:
    with Proxy(redis_db.host, redis_db.port) as proxy:
        web = app_of("shop", sqlite, replace(redis_db, port=proxy.port).broker_url)
        worker = app_of("shop", sqlite, redis_db.broker_url)

        assert sorted(published(sqlite, web, worker)) == sorted(ids(redis_db))


def test_apps_with_one_broker_publish_each_others_messages(
    sqlite: DatabaseConfig, redis_db: RedisDb
) -> None:
    web = app_of("web", sqlite, redis_db.broker_url)
    worker = app_of("worker", sqlite, redis_db.broker_url)

    assert sorted(published(sqlite, web, worker)) == sorted(ids(redis_db))


def test_a_key_prefix_makes_another_broker(sqlite: DatabaseConfig, redis_db: RedisDb) -> None:
    one = app_of("shop", sqlite, redis_db.broker_url)
    prefix = {"global_keyprefix": "two-"}
    two = app_of("shop", sqlite, redis_db.broker_url, broker_transport_options=prefix)

    async def body() -> None:
        await leave(one, 1)
        assert [await relay(two), await relay(one)] == [0, 1]

    work(sqlite, body)


def test_rows_of_earlier_versions_are_published_by_anybody(
    sqlite: DatabaseConfig, redis_db: RedisDb
) -> None:
    app = app_of("shop", sqlite, redis_db.broker_url)

    async def body() -> list[str]:
        sent = await leave(app, 1)
        async with db.engine.begin() as connection:
            await connection.execute(update(outbox).values(id=f"{1:016x}{'v' * 24}"))
        assert await relay(app) == 1
        return sent

    assert work(sqlite, body) == ids(redis_db)


def test_a_worker_says_that_messages_of_another_app_wait(
    sqlite: DatabaseConfig, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    brokers = [fresh_redis_db(redis_server) for _ in range(2)]
    apps = [app_of(name, sqlite, one.broker_url) for name, one in zip("ab", brokers, strict=True)]

    async def body() -> None:
        await leave(apps[0], 2)
        async with db.engine.begin() as connection:
            await connection.execute(update(outbox).values(created=1))

    work(sqlite, body)
    worker = Relay(apps[1])
    worker.start()
    try:
        eventually(lambda: "2 messages in tomskit_outbox have waited" in caplog.text)
    finally:
        worker.stop()
    assert [ids(one) for one in brokers] == [[], []]
    assert work(sqlite, left) == 2
