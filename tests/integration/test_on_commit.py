"""Messages of delay_on_commit: published when and only when their transaction is committed."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from celery import signals
from kombu import Exchange, Queue
from redis import Redis
from sqlalchemy import Column, Integer, MetaData, Table, func, insert, select
from sqlalchemy.exc import DBAPIError

from tests.support.deployment import eventually
from tests.support.loops import run, until
from tests.support.once import (
    KINDS,
    Kind,
    Message,
    broker,
    database,
    ids,
    left,
    messages,
    sending,
    work,
)
from tests.support.patience import patience
from tests.support.servers import RedisDb
from tomskit.celery import AsyncCelery, async_shared_task, chain, chord, group
from tomskit.errors import ConfigurationError, NotInitializedError, TaskArgumentsError
from tomskit.sqlalchemy import DatabaseConfig, DatabaseProvider
from tomskit.sqlalchemy.database import db
from tomskit.sqlalchemy.tables import outbox

pytestmark = pytest.mark.usefixtures("clean_process")

notes = Table("notes", MetaData(), Column("id", Integer, primary_key=True))


@async_shared_task
async def add(a: int, b: int) -> int:
    return a + b


@async_shared_task
async def total(numbers: list[int]) -> int:
    return sum(numbers)


@async_shared_task(queue="elsewhere", time_limit=7.0, ignore_result=True)
async def particular(value: str) -> None:
    pass


@pytest.fixture(params=KINDS)
def config(request: pytest.FixtureRequest, tmp_path: Path) -> DatabaseConfig:
    return database(cast("Kind", request.param), request, tmp_path)


@pytest.fixture
def sqlite(request: pytest.FixtureRequest, tmp_path: Path) -> DatabaseConfig:
    return database("sqlite", request, tmp_path)


@pytest.fixture
def app(config: DatabaseConfig, redis_db: RedisDb, clean_process: None) -> Iterator[AsyncCelery]:
    with sending(config, redis_db) as made:
        yield made


@pytest.fixture
def sqlite_app(
    sqlite: DatabaseConfig, redis_db: RedisDb, clean_process: None
) -> Iterator[AsyncCelery]:
    with sending(sqlite, redis_db) as made:
        yield made


def test_a_message_is_published_after_the_commit_and_not_before(
    app: AsyncCelery, redis_db: RedisDb
) -> None:
    async def body() -> str:
        await db.session.execute(insert(notes).values(id=1))
        result = await add.adelay_on_commit(1, 2)
        assert ids(redis_db) == []
        await db.session.commit()
        await until(lambda: ids(redis_db) == [result.id])
        return result.id

    sent = work(app, body, notes)
    assert ids(redis_db) == [sent]


def test_what_the_broker_has_taken_is_deleted(app: AsyncCelery, redis_db: RedisDb) -> None:
    async def body() -> None:
        for number in range(20):
            add.delay_on_commit(number, 2)
        await db.session.commit()
        await until(lambda: len(ids(redis_db)) == 20)
        while await left():  # noqa: ASYNC110 (a server is asked)
            await asyncio.sleep(0.01)

    work(app, body)


def test_the_messages_of_a_commit_are_published_in_order(
    app: AsyncCelery, redis_db: RedisDb
) -> None:
    async def body() -> list[str]:
        sent = [add.delay_on_commit(number, 2).id for number in range(30)]
        await db.session.commit()
        return sent

    assert work(app, body) == ids(redis_db)


def test_a_rolled_back_transaction_sends_nothing(app: AsyncCelery, redis_db: RedisDb) -> None:
    async def body() -> None:
        await db.session.execute(insert(notes).values(id=1))
        add.delay_on_commit(1, 2)
        await db.session.rollback()
        await db.session.commit()
        assert await left() == 0

    work(app, body, notes)
    assert ids(redis_db) == []


def test_a_scope_that_is_left_without_a_commit_sends_nothing(
    app: AsyncCelery, redis_db: RedisDb
) -> None:
    async def body() -> None:
        with suppress(ZeroDivisionError):
            async with db.scope():
                await db.session.execute(insert(notes).values(id=1))
                add.delay_on_commit(1, 2)
                raise ZeroDivisionError
        assert await left() == 0

    work(app, body, notes)
    assert ids(redis_db) == []


def test_a_failed_transaction_sends_nothing(app: AsyncCelery, redis_db: RedisDb) -> None:
    async def body() -> None:
        await db.session.execute(insert(notes).values(id=1))
        await db.session.commit()
        add.delay_on_commit(1, 2)
        other = Table("notes", MetaData(), Column("id", Integer))
        with pytest.raises(DBAPIError):
            await db.session.execute(insert(other).values(id=1))
        await db.session.rollback()
        assert await left() == 0

    work(app, body, notes)
    assert ids(redis_db) == []


def test_a_savepoint_that_is_rolled_back_takes_its_messages_along(
    app: AsyncCelery, redis_db: RedisDb
) -> None:
    async def body() -> list[str]:
        sent = [add.delay_on_commit(1, 1).id]
        async with db.session.begin_nested():
            sent.append(add.delay_on_commit(2, 2).id)
            inner = await db.session.begin_nested()
            add.delay_on_commit(3, 3)
            await inner.rollback()
            async with db.session.begin_nested():
                sent.append(add.delay_on_commit(4, 4).id)
        with suppress(ZeroDivisionError):
            async with db.session.begin_nested():
                async with db.session.begin_nested():
                    add.delay_on_commit(5, 5)
                raise ZeroDivisionError
        sent.append(add.delay_on_commit(6, 6).id)
        await db.session.commit()
        return sent

    assert work(app, body) == ids(redis_db)


def test_one_session_commits_several_times(app: AsyncCelery, redis_db: RedisDb) -> None:
    async def body() -> list[str]:
        first = add.delay_on_commit(1, 1)
        await db.session.commit()
        add.delay_on_commit(2, 2)
        await db.session.rollback()
        async with db.session.begin():
            third = add.delay_on_commit(3, 3)
        return [first.id, third.id]

    assert work(app, body) == ids(redis_db)


def test_objects_that_are_expunged_take_no_message_along(
    sqlite_app: AsyncCelery, redis_db: RedisDb
) -> None:
    async def body() -> list[str]:
        sent = add.delay_on_commit(1, 1)
        db.session.expunge_all()
        await db.session.commit()
        return [sent.id]

    assert work(sqlite_app, body) == ids(redis_db)


# -- the message


def comparable(message: Message) -> dict[str, Any]:
    """A message without what a broker's client makes for each delivery."""
    copy: dict[str, Any] = {**message}
    copy["properties"] = {**copy["properties"], "delivery_tag": ""}
    # From the moment of sending on.
    copy["properties"].pop("expiration", None)
    return copy


CALLS: dict[str, Callable[[str], tuple[Callable[[], object], Callable[[], object]]]] = {
    "plain": lambda one: (
        lambda: add.options(task_id=one).delay(1, 2),
        lambda: add.options(task_id=one).delay_on_commit(1, 2),
    ),
    "routed by its task": lambda one: (
        lambda: particular.options(task_id=one).delay("é☂"),
        lambda: particular.options(task_id=one).delay_on_commit("é☂"),
    ),
    "priority, headers, ETA and limits": lambda one: (
        lambda: _varied(one).delay(1, 2),
        lambda: _varied(one).delay_on_commit(1, 2),
    ),
    "compressed": lambda one: (
        lambda: add.options(task_id=one, compression="gzip").delay(1, 2),
        lambda: add.options(task_id=one, compression="gzip").delay_on_commit(1, 2),
    ),
    "a queue object": lambda one: (
        lambda: add.options(task_id=one, queue=_queue()).delay(1, 2),
        lambda: add.options(task_id=one, queue=_queue()).delay_on_commit(1, 2),
    ),
    "a serializer": lambda one: (
        lambda: add.options(task_id=one, serializer="orjson").delay(1, 2),
        lambda: add.options(task_id=one, serializer="orjson").delay_on_commit(1, 2),
    ),
    "links": lambda one: (
        lambda: add.options(task_id=one, link=_link(one)).delay(1, 2),
        lambda: add.options(task_id=one, link=_link(one)).delay_on_commit(1, 2),
    ),
    "a signature": lambda one: (
        add.si(1, 2).set(task_id=one, priority=4).delay,
        add.si(1, 2).set(task_id=one, priority=4).delay_on_commit,
    ),
    "a chain": lambda one: (
        lambda: _chain(one).delay(),
        lambda: _chain(one).delay_on_commit(),
    ),
}


def _varied(task_id: str) -> Any:
    eta = datetime(2040, 1, 2, 3, 4, 5, tzinfo=UTC)
    return add.options(
        task_id=task_id,
        priority=7,
        headers={"tenant": "é"},
        eta=eta,
        expires=eta.replace(year=2041),
        time_limit=5,
        queue="particular",
        shadow="another",
    )


def _queue() -> Queue:
    return Queue("own", Exchange("own", type="topic"), routing_key="own.key", max_priority=5)


def _link(task_id: str) -> Any:
    return add.p(1).set(task_id=f"{task_id}-link")


def _chain(task_id: str) -> Any:
    steps = add.si(1, 2).set(task_id=task_id), add.p(3).set(task_id=f"{task_id}-2")
    return chain(*steps)


def everything(redis_db: RedisDb) -> dict[str, list[object]]:
    """All messages and bindings of the broker, which is then empty."""
    found: dict[str, list[object]] = {}
    with broker(redis_db) as redis:
        names = redis.keys()
        for key in [name.decode() for name in names]:
            if key.startswith("_kombu"):
                found[key] = [*sorted(redis.smembers(key))]
            else:
                found[key] = [comparable(one) for one in messages(redis_db, key)]
        redis.flushdb()
    return found


@pytest.mark.parametrize("call", CALLS)
def test_the_message_is_the_one_that_delay_sends(
    sqlite_app: AsyncCelery, redis_db: RedisDb, call: str
) -> None:
    now, on_commit = CALLS[call](f"id-{call}")
    now()
    of_delay = everything(redis_db)

    async def body() -> None:
        on_commit()
        await db.session.commit()

    work(sqlite_app, body)
    assert everything(redis_db) == of_delay
    assert sum(len(found) for found in of_delay.values()) > 1


def test_a_group_and_a_chord_are_sent_on_commit(sqlite_app: AsyncCelery, redis_db: RedisDb) -> None:
    async def body() -> list[str]:
        members = await group(add.si(1, 2), add.si(3, 4)).adelay_on_commit()
        await chord([add.s(1, 2), add.s(3, 4)], total.p()).adelay_on_commit()
        assert ids(redis_db) == []
        await db.session.commit()
        return [one.id for one in members.results or ()]

    sent = work(sqlite_app, body)
    assert ids(redis_db)[:2] == sent
    assert len(ids(redis_db)) == 4


def test_a_closed_app_has_no_connections_to_the_results(
    sqlite: DatabaseConfig, redis_db: RedisDb
) -> None:
    """Also of the threads in which chords store how many tasks they have."""

    async def body() -> None:
        await chord([add.s(1, 2), add.s(3, 4)], total.p()).adelay_on_commit()
        await db.session.commit()

    def connected() -> list[object]:
        with Redis(host=redis_db.host, port=redis_db.port) as client:
            untyped: Any = client
            clients = untyped.client_list()
        return [one["name"] for one in clients if one["db"] == str(redis_db.result_db)]

    with sending(sqlite, redis_db) as app:
        work(app, body)
        app.AsyncResult("none").state  # noqa: B018 (it is asked for)
        assert len(connected()) >= 2
    eventually(lambda: connected() == [])


def test_a_partial_signature_is_sent_on_commit(sqlite_app: AsyncCelery, redis_db: RedisDb) -> None:
    async def body() -> list[str]:
        one = add.p(2).delay_on_commit(1)
        two = await add.p(2).adelay_on_commit(1)
        await db.session.commit()
        return [one.id, two.id]

    assert work(sqlite_app, body) == ids(redis_db)


def test_the_event_of_a_sent_task_goes_with_its_message(
    sqlite: DatabaseConfig, redis_db: RedisDb
) -> None:
    async def body() -> str:
        sent = add.delay_on_commit(1, 2)
        assert await db.session.scalar(select(func.count()).select_from(outbox)) == 0
        await db.session.commit()
        return sent.id

    with (
        sending(sqlite, redis_db, CELERY_TASK_SEND_SENT_EVENT=True) as app,
        broker(redis_db) as redis,
        closing(redis.pubsub()) as events,
    ):
        events.psubscribe("*task.sent*")
        events.get_message(timeout=patience(5))
        sent = work(app, body)
        heard = events.get_message(timeout=patience(5))
        assert ids(redis_db) == [sent]
    assert heard is not None
    event = json.loads(b64decode(json.loads(heard["data"])["body"]))
    assert event["uuid"] == sent


def test_receivers_of_the_signal_may_change_the_message(
    sqlite_app: AsyncCelery, redis_db: RedisDb
) -> None:
    def mark(headers: dict[str, object], **_: object) -> None:
        headers["trace"] = "abc"

    async def body() -> None:
        add.delay_on_commit(1, 2)
        await db.session.commit()

    signals.before_task_publish.connect(mark)
    try:
        work(sqlite_app, body)
    finally:
        signals.before_task_publish.disconnect(mark)
    [message] = messages(redis_db)
    assert cast("dict[str, str]", message["headers"])["trace"] == "abc"


# -- what is refused


@pytest.mark.usefixtures("sqlite_app")
def test_without_a_session_it_is_an_error() -> None:
    with pytest.raises(NotInitializedError, match=r"async with db\.scope\(\)"):
        add.delay_on_commit(1, 2)


def test_wrong_arguments_raise_at_the_call(sqlite_app: AsyncCelery, redis_db: RedisDb) -> None:
    async def body() -> None:
        with pytest.raises(TaskArgumentsError):
            cast("Any", add).delay_on_commit("x", 2)
        await db.session.commit()

    work(sqlite_app, body)
    assert ids(redis_db) == []


@pytest.mark.parametrize("options", [{"retry": False}, {"retry_policy": {"max_retries": 1}}])
def test_options_of_publishing_at_once_are_refused(
    sqlite_app: AsyncCelery, options: dict[str, Any]
) -> None:
    async def body() -> None:
        with pytest.raises(ConfigurationError, match=next(iter(options))):
            add.options(**options).delay_on_commit(1, 2)

    work(sqlite_app, body)


def test_a_missing_table_is_named_with_the_line_that_makes_it(
    config: DatabaseConfig, redis_db: RedisDb
) -> None:
    async def main() -> None:
        provider = DatabaseProvider(config)
        await provider.startup()
        try:
            async with db.scope():
                add.delay_on_commit(1, 2)
                with pytest.raises(NotInitializedError, match=r"await db\.create_tables\(\)"):
                    await db.session.commit()
        finally:
            await provider.shutdown()

    with sending(config, redis_db):
        run(main())


def test_tables_are_made_by_many_at_once(app: AsyncCelery) -> None:
    async def body() -> None:
        await asyncio.gather(*(db.create_tables() for _ in range(4)))

    work(app, body)
