"""Messages that a process has left after its commit: workers publish them, once, and in time."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Any, cast
from unittest.mock import Mock

import pytest
from sqlalchemy import func, insert, update
from sqlalchemy.exc import DBAPIError

from tests.integration import once_service
from tests.support.deployment import Deployment, deploy, eventually
from tests.support.loops import run, until
from tests.support.once import KINDS, Kind, database, ids, left, sending
from tests.support.patience import patience
from tests.support.proxy import Proxy
from tests.support.servers import MariaDBServer, RedisDb, RedisServer, outage
from tests.support.servers.redis import fresh_redis_db
from tests.support.workers import PROJECT, Pool
from tomskit.celery import AsyncCelery, AsyncRuntime, async_shared_task
from tomskit.celery._outbox import publisher
from tomskit.celery._outbox.store import OutboxStore
from tomskit.sqlalchemy import DatabaseConfig, DatabaseProvider
from tomskit.sqlalchemy.database import db
from tomskit.sqlalchemy.sessions import TaskSession
from tomskit.sqlalchemy.tables import now_ms, outbox

pytestmark = pytest.mark.usefixtures("clean_process")

MODULE = once_service.__name__
POOLS: tuple[Pool, ...] = ("prefork", "threads", "solo", "asyncio")


@async_shared_task
async def add(a: int, b: int) -> int:
    return a + b


@pytest.fixture
def bank(redis_server: RedisServer, mariadb_server: MariaDBServer) -> Generator[Deployment]:
    with deploy(redis_server, mariadb_server) as fresh:
        fresh.environment["CELERY_OUTBOX_INTERVAL"] = "2"
        yield fresh


def script(bank: Deployment, text: str) -> subprocess.CompletedProcess[str]:
    """Run Python with the app of the service, as a web server or a script has it."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text)],
        env={**os.environ, **bank.environment},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
        timeout=patience(60),
    )


PREPARE = """
    import asyncio, os
    from tests.integration import once_service as service
    from tomskit.celery import AsyncRuntime
    from tomskit.sqlalchemy.database import db

    service.app.set_default()

    async def prepare() -> None:
        await db.create_tables()
        async with db.engine.begin() as connection:
            await connection.run_sync(service.metadata.create_all)
"""

LEAVE = """
    async def leave() -> None:
        await prepare()
        for name in ("a", "b"):
            service.receipt.delay_on_commit(name)
        service.receipt.options(countdown=0.1, priority=3).delay_on_commit("c")
        await db.session.commit()
        os._exit(7)

    AsyncRuntime.run(leave())
"""


def receipts(bank: Deployment) -> list[object]:
    rows = bank.mariadb.query(f"SELECT name FROM `{bank.database}`.receipts ORDER BY name")
    return [name for (name,) in rows]


def waiting(bank: Deployment) -> object:
    [(count,)] = bank.mariadb.query(f"SELECT COUNT(*) FROM `{bank.database}`.tomskit_outbox")
    return count


def leave(bank: Deployment) -> None:
    done = script(bank, PREPARE + LEAVE)
    assert done.returncode == 7, done.stderr
    assert waiting(bank) == 3


@pytest.mark.parametrize("pool", POOLS)
def test_a_worker_publishes_what_a_dead_process_has_committed(bank: Deployment, pool: Pool) -> None:
    leave(bank)
    worker = bank.worker(pool, 2, module=MODULE)
    worker.wait_for_line(r"Published 3 messages that were left after their commit", 30.0)
    eventually(lambda: receipts(bank) == ["a", "b", "c"])
    eventually(lambda: waiting(bank) == 0)

    def shown() -> object:
        inspect: Any = bank.client.control.inspect(timeout=patience(1))
        stats = cast("dict[str, dict[str, dict[str, object]]]", inspect.stats() or {})
        return any((one.get("outbox") or {}).get("waiting") == 0 for one in stats.values())

    eventually(lambda: bool(shown()))


@pytest.fixture
def silent(bank: Deployment) -> Generator[Proxy]:
    """A network between the worker and its database, which has our tables."""
    done = script(bank, PREPARE + "\n    AsyncRuntime.run(prepare())\n")
    assert done.returncode == 0, done.stderr
    with Proxy(bank.mariadb.host, bank.mariadb.port) as proxy:
        bank.environment |= {"CELERY_DB_HOST": proxy.host, "CELERY_DB_PORT": str(proxy.port)}
        yield proxy


def test_tasks_of_a_worker_that_stops_run_on_while_its_relay_waits_for_a_silent_database(
    bank: Deployment, silent: Proxy
) -> None:
    worker = bank.worker("asyncio", 2, module=MODULE)
    bank.send(f"{MODULE}.watch")

    def looks() -> int:
        return int(bank.key("looks") or 0)

    eventually(lambda: looks() > 0)
    silent.freeze_at(b"SELECT")
    eventually(lambda: silent.has_frozen)
    worker.send_signal(signal.SIGTERM)
    worker.wait_for_line("Warm shutdown")
    before = looks()
    eventually(lambda: looks() > before + 10)
    with bank.redis.client(bank.redis_db.result_db) as redis:
        redis.set("watched", "yes")
    eventually(lambda: bank.key("gap") is not None)
    # What waits for the relay in the loop's thread waits for ten seconds.
    assert float(bank.key("gap") or 0) < 3
    assert worker.wait() == 0


def test_a_worker_without_our_tables_says_nothing(bank: Deployment) -> None:
    worker = bank.worker("threads", 2, module=MODULE)
    worker.stop()
    assert "tomskit_outbox" not in worker.text


def test_a_task_that_is_killed_after_its_commit_has_sent_its_message(bank: Deployment) -> None:
    done = script(bank, PREPARE + "\n    AsyncRuntime.run(prepare())\n")
    assert done.returncode == 0, done.stderr
    bank.worker("prefork", 1, module=MODULE)
    bank.send(f"{MODULE}.send_and_die", "left")
    eventually(lambda: receipts(bank) == ["left"])


# -- several at once, on each database


@pytest.fixture(params=KINDS)
def config(request: pytest.FixtureRequest, tmp_path: Path) -> DatabaseConfig:
    return database(cast("Kind", request.param), request, tmp_path)


@pytest.fixture
def sqlite(request: pytest.FixtureRequest, tmp_path: Path) -> DatabaseConfig:
    return database("sqlite", request, tmp_path)


async def commit_and_die(count: int) -> list[str]:
    """Commit messages as a process does that dies before it can publish them."""
    from tomskit.celery._client.recording import Recording

    async with db.scope():
        session = db.session.sync_session
        assert isinstance(session, TaskSession)
        sent: list[str] = []
        for number in range(count):
            recording = Recording(cast("Any", add).app)
            sent.append(recording.run(partial(add.delay, number, 1)).id)
            session.hold(recording.messages, lambda _: None, grace_ms=0)
        await db.session.commit()
    return sent


def test_several_relays_publish_each_message_once(
    config: DatabaseConfig, redis_db: RedisDb
) -> None:
    count = 1200

    async def main(app: AsyncCelery) -> list[str]:
        provider = DatabaseProvider(config)
        await provider.startup()
        try:
            await db.create_tables()
            sent = await commit_and_die(count)

            async def relay() -> None:
                store = OutboxStore(app, db)
                while await left():
                    await store.publish_due()

            await asyncio.gather(*(relay() for _ in range(3)))
            return sent
        finally:
            await provider.shutdown()

    with sending(config, redis_db) as app:
        sent = run(main(app))
    assert Counter(ids(redis_db)) == Counter(sent)


def test_while_a_relay_publishes_others_write_messages(
    config: DatabaseConfig, redis_db: RedisDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main(app: AsyncCelery) -> None:
        provider = DatabaseProvider(config)
        await provider.startup()
        publishing, go_on = asyncio.Event(), asyncio.Event()
        try:
            await db.create_tables()
            await commit_and_die(3)
            store = OutboxStore(app, db)
            publish = store.publish

            async def slowly(rows: Any) -> Any:
                publishing.set()
                await go_on.wait()
                return await publish(rows)

            monkeypatch.setattr(store, "publish", slowly)
            relaying = asyncio.ensure_future(store.publish_due())
            await publishing.wait()
            await commit_and_die(2)
            go_on.set()
            assert len((await relaying).taken) == 3
            assert await left() == 2
        finally:
            await provider.shutdown()

    with sending(config, redis_db) as app:
        run(main(app))


@pytest.mark.parametrize("kind", ["mariadb", "postgres", "psycopg"])
@pytest.mark.parametrize("way", ["locked", "claimed"])
def test_a_relay_that_loses_its_database_before_it_can_delete_what_it_has_published_deletes_it_later(
    kind: Kind,
    way: str,
    *,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    redis_db: RedisDb,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = database(kind, request, tmp_path)
    if way == "claimed":
        # As databases do that cannot skip locked rows.
        monkeypatch.setattr(OutboxStore, "_skips_locked_rows", Mock(return_value=False))

    async def main(app: AsyncCelery, network: Proxy) -> list[str]:
        here = {"DB_HOST": network.host, "DB_PORT": network.port}
        provider = DatabaseProvider(config.model_copy(update=here))
        await provider.startup()
        try:
            await db.create_tables()
            sent = await commit_and_die(3)
            store = OutboxStore(app, db)
            publish = store.publish

            async def publish_and_lose(rows: Any) -> Any:
                batch = await publish(rows)
                network.kill()
                return batch

            monkeypatch.setattr(store, "publish", publish_and_lose)
            with pytest.raises(DBAPIError):
                await store.publish_due()
            monkeypatch.setattr(store, "publish", publish)
            async with db.engine.begin() as connection:
                # As if the time of a claim was over.
                await connection.execute(update(outbox).values(due=0))
            sent += await commit_and_die(2)
            assert len((await store.publish_due()).taken) == 2
            assert await left() == 0
            return sent
        finally:
            await provider.shutdown()

    with Proxy(str(config.DB_HOST), config.DB_PORT) as network, sending(config, redis_db) as app:
        sent = run(main(app, network))
    assert Counter(ids(redis_db)) == Counter(sent)


# -- when there are more than fit into memory


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than two messages wait in memory."""
    monkeypatch.setattr(publisher, "_MOST", 2)


async def commit(count: int) -> list[str]:
    """Commit messages of one transaction."""
    async with db.scope():
        sent = [add.delay_on_commit(number, 2).id for number in range(count)]
        await db.session.commit()
    return sent


@pytest.mark.usefixtures("few")
def test_more_messages_than_fit_into_memory_are_published_by_the_process_that_has_committed_them(
    sqlite: DatabaseConfig, redis_db: RedisDb
) -> None:
    """Later: there may be no worker that does."""

    async def main() -> list[str]:
        provider = DatabaseProvider(sqlite)
        await provider.startup()
        try:
            await db.create_tables()
            sent = await commit(5) + await commit(1) + await commit(7)
            while await left():  # noqa: ASYNC110 (a server is asked)
                await asyncio.sleep(0.05)
            return sent
        finally:
            await provider.shutdown()

    with sending(sqlite, redis_db, CELERY_OUTBOX_INTERVAL=1.0):
        sent = run(main())
    assert Counter(ids(redis_db)) == Counter(sent)


@pytest.mark.usefixtures("few")
def test_a_process_that_ends_before_says_that_workers_publish_them(
    sqlite: DatabaseConfig, redis_db: RedisDb, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        provider = DatabaseProvider(sqlite)
        await provider.startup()
        try:
            await db.create_tables()
            await commit(5)
            await until(lambda: len(ids(redis_db)) == 2)
        finally:
            await provider.shutdown()

    with sending(sqlite, redis_db, CELERY_OUTBOX_INTERVAL=600.0):
        run(main())
        assert len(ids(redis_db)) == 2
    assert "a worker will publish the rest" in caplog.text


# -- when the broker is away


def test_committed_messages_wait_for_the_broker(
    sqlite: DatabaseConfig, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> list[str]:
        provider = DatabaseProvider(sqlite)
        await provider.startup()
        try:
            await db.create_tables()
            sent: list[str] = []
            async with db.scope():
                sent.append(add.delay_on_commit(1, 2).id)
                await db.session.commit()
                await until(lambda: len(ids(redis_db)) == 1)
                with outage(server, "gone"):
                    for number in range(3):
                        sent.append(add.delay_on_commit(number, 2).id)
                        await db.session.commit()
                    await until(lambda: "Cannot publish committed messages" in caplog.text)
                    assert await left() == 3
            while await left():  # noqa: ASYNC110 (a server is asked)
                await asyncio.sleep(0.05)
            return sent
        finally:
            await provider.shutdown()

    caplog.set_level(logging.INFO)
    # What it holds survives its end.
    with RedisServer(config=[("databases", "2000"), ("appendonly", "yes")]) as server:
        redis_db = fresh_redis_db(server)
        with sending(sqlite, redis_db):
            sent = run(main())
        assert sorted(ids(redis_db)) == sorted(sent)
    assert "The broker is back" in caplog.text


@pytest.mark.parametrize(
    ("body", "options"),
    [
        ("[]", "garbage"),
        ("[]", "[]"),
        ("[]", "{}"),
        ("base64:!!a", '{"headers": {}, "declare": [], "exchange": ""}'),
        ("é", '{"headers": {}, "declare": [], "exchange": ""}'),
        ("[]", '{"headers": {}, "exchange": ""}'),
    ],
)
def test_a_row_that_is_no_message_holds_up_no_other(
    sqlite: DatabaseConfig,
    redis_db: RedisDb,
    caplog: pytest.LogCaptureFixture,
    body: str,
    options: str,
) -> None:
    async def main(app: AsyncCelery) -> str:
        await db.create_tables()
        [sent] = await commit_and_die(1)
        async with db.scope():
            row = {"id": "0", "created": 0, "due": 0, "body": body, "options": options}
            await db.session.execute(insert(outbox).values(row))
            await db.session.execute(update(outbox).values(due=0))
            await db.session.commit()
        await OutboxStore(app, db).publish_due()
        assert await left() == 1
        return sent

    with sending(sqlite, redis_db) as app:
        sent = AsyncRuntime.run(main(app))
        AsyncRuntime.shutdown()
    assert ids(redis_db) == [sent]
    assert "stays" in caplog.text


def test_a_message_that_cannot_be_published_holds_up_no_other(
    sqlite: DatabaseConfig, redis_db: RedisDb, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(app: AsyncCelery) -> str:
        provider = DatabaseProvider(sqlite)
        await provider.startup()
        try:
            await db.create_tables()
            [broken, fine] = await commit_and_die(2)
            async with db.scope():
                options = outbox.c.options
                await db.session.execute(
                    update(outbox)
                    .where(options.contains(broken))
                    .values(
                        options=func.replace(options, '"queue": "celery"', '"queue": "nowhere"')
                    )
                )
                await db.session.commit()
                store = OutboxStore(app, db)
                batch = await store.publish_due()
                assert len(batch.taken) == len(batch.refused) == 1
                assert await left() == 1
                assert (await store.publish_due()).size == 0  # not at once again
                await db.session.execute(
                    update(outbox).values(
                        options=func.replace(options, '"nowhere"', '"celery"'), due=now_ms()
                    )
                )
                await db.session.commit()
                assert len((await store.publish_due()).taken) == 1
            assert broken in caplog.text
            return fine
        finally:
            await provider.shutdown()

    with sending(sqlite, redis_db, CELERY_TASK_CREATE_MISSING_QUEUES=False) as app:
        fine = run(main(app))
    assert ids(redis_db)[0] == fine
    assert len(ids(redis_db)) == 2
