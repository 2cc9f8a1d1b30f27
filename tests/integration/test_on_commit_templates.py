"""Messages of delay_on_commit after the first one of a task: made from templates, and the same all the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import pytest
from celery import signals
from kombu import Producer

from tests.support.loops import until
from tests.support.once import Message, broker, database, messages, sending, work
from tests.support.servers import RedisDb
from tomskit.celery import AsyncCelery, TypedResult, async_shared_task
from tomskit.celery._internals.celery import task_stack
from tomskit.celery._outbox.publisher import publisher_of
from tomskit.errors import TaskArgumentsError
from tomskit.sqlalchemy.database import db

pytestmark = pytest.mark.usefixtures("clean_process")

VALUES = ("x", "100% %(id)s", '"quoted" \\', "é☂", "null", "", "y" * 2000)
ROUNDS = 3


@async_shared_task
async def plain(value: str, *, number: int = 0) -> None: ...


@async_shared_task(queue="elsewhere", time_limit=7.0, ignore_result=True)
async def particular(value: str, *, number: int = 0) -> None: ...


@async_shared_task(compression="gzip")
async def compressed(value: str, *, number: int = 0) -> None: ...


@async_shared_task(serializer="orjson")
async def with_orjson(value: str, *, number: int = 0) -> None: ...


TASKS = (plain, particular, compressed, with_orjson)


@pytest.fixture
def app(request: pytest.FixtureRequest, tmp_path: Path, redis_db: RedisDb) -> Iterator[AsyncCelery]:
    with sending(database("sqlite", request, tmp_path), redis_db) as made:
        yield made


def waiting(redis_db: RedisDb) -> list[Message]:
    """All messages of the broker, the oldest of each queue first."""
    with broker(redis_db) as redis:
        names = redis.keys()
    keys = [name.decode() for name in names if b"_kombu" not in name]
    return [one for key in sorted(keys) for one in messages(redis_db, key)]


def taken(redis_db: RedisDb) -> list[Message]:
    """All messages of the broker, which is then empty."""
    found = waiting(redis_db)
    with broker(redis_db) as redis:
        redis.flushdb()
    return found


def comparable(message: Message) -> Message:
    """A message without its ids."""
    headers = {**cast("Message", message["headers"])}
    properties = {**cast("Message", message["properties"])}
    own = headers["id"]
    assert own == properties["correlation_id"]
    assert headers["root_id"] in {own, "the root"}
    if headers["root_id"] == own:
        headers["root_id"] = "own"
    headers["id"] = properties["correlation_id"] = properties["delivery_tag"] = ""
    return {**message, "headers": headers, "properties": properties}


async def send_all(call: Callable[[Any], Callable[..., TypedResult[None]]]) -> None:
    """Send each task several times, those of a round in one transaction."""
    for number in range(ROUNDS):
        for task in TASKS:
            for value in VALUES:
                call(task)(value)
                call(task)(value, number=number)
        await db.session.commit()


async def reach(redis_db: RedisDb, count: int) -> None:
    """Wait until the broker has so many messages."""
    await until(lambda: len(waiting(redis_db)) >= count)


@pytest.mark.parametrize("caller", [None, "a task"])
def test_each_message_is_the_one_that_delay_sends(
    app: AsyncCelery, redis_db: RedisDb, caller: str | None
) -> None:
    sent: list[str] = []
    children: list[str] = []

    async def body() -> None:
        task = app.tasks[plain.name]
        if caller is not None:
            task_stack.push(task)
            task.push_request(
                id="the caller", root_id="the root", called_directly=False, children=[]
            )
        try:
            await send_all(lambda one: one.delay)
            of_delay.extend(taken(redis_db))
            if caller is not None:
                task.request.children.clear()
            await send_all(lambda one: _noting(sent, one.delay_on_commit))
            await reach(redis_db, len(of_delay))
            if caller is not None:
                found: list[Any] = [*task.request.children]
                children.extend(child.id for child in found)
        finally:
            if caller is not None:
                task.pop_request()
                task_stack.pop()
        templates = publisher_of(app, db).templates
        assert templates.find(app.tasks[plain.name]) is not None
        # What is compressed is no text with gaps.
        assert templates.find(app.tasks[compressed.name]) is None

    of_delay: list[Message] = []
    work(app, body)
    on_commit = taken(redis_db)
    assert [comparable(one) for one in on_commit] == [comparable(one) for one in of_delay]
    assert len(on_commit) == ROUNDS * len(TASKS) * len(VALUES) * 2
    ids = [cast("dict[str, str]", one["headers"])["id"] for one in on_commit]
    assert sorted(ids) == sorted(sent)
    assert children == (sent if caller is not None else [])


def _noting(
    ids: list[str], call: Callable[..., TypedResult[None]]
) -> Callable[..., TypedResult[None]]:
    def noted(*args: object, **kwargs: object) -> TypedResult[None]:
        result = call(*args, **kwargs)
        ids.append(result.id)
        return result

    return noted


def test_messages_of_a_transaction_go_to_the_broker_in_one_command(
    app: AsyncCelery, redis_db: RedisDb
) -> None:
    def pushes() -> int:
        with broker(redis_db) as redis:
            stats = redis.info("commandstats")
        return stats.get("cmdstat_lpush", {}).get("calls", 0)

    async def body() -> int:
        plain.delay_on_commit("first")
        await db.session.commit()
        await reach(redis_db, 1)
        before = pushes()
        for _ in range(50):
            plain.delay_on_commit("more")
        await db.session.commit()
        await reach(redis_db, 51)
        return pushes() - before

    assert work(app, body) == 1


def test_who_wants_to_see_messages_sees_those_after_the_first_ones(
    app: AsyncCelery, redis_db: RedisDb
) -> None:
    """A receiver of a signal, and a method that was replaced."""
    seen: list[object] = []
    published: list[object] = []

    def mark(headers: dict[str, object], **_: object) -> None:
        headers["trace"] = "abc"
        seen.append(headers["id"])

    original: Any = Producer.publish

    def publish(self: Producer, *args: object, **kwargs: object) -> object:
        published.append(kwargs.get("correlation_id"))
        return original(self, *args, **kwargs)

    async def send(count: int) -> list[str]:
        found = [plain.delay_on_commit("x").id for _ in range(2)]
        await db.session.commit()
        await reach(redis_db, count)
        return found

    async def body() -> tuple[list[str], list[str]]:
        await send(2)
        await send(4)
        signals.before_task_publish.connect(mark)
        try:
            marked = await send(6)
        finally:
            signals.before_task_publish.disconnect(mark)
        with patch.object(Producer, "publish", publish):
            traced = await send(8)
        return marked, traced

    marked, traced = work(app, body)
    assert seen == marked
    assert sorted({*map(str, published)}) == sorted(traced)
    found = waiting(redis_db)
    headers = [cast("Message", one["headers"]) for one in found]
    assert [one["id"] for one in headers if one.get("trace") == "abc"] == marked


def test_wrong_arguments_raise_at_the_call_after_the_first_ones_too(
    app: AsyncCelery, redis_db: RedisDb
) -> None:
    async def body() -> None:
        untyped: Any = plain
        for _ in range(2):
            plain.delay_on_commit("x")
            with pytest.raises(TaskArgumentsError):
                untyped.delay_on_commit(1, 2, 3)
        await db.session.commit()
        await reach(redis_db, 2)

    work(app, body)
    assert len(taken(redis_db)) == 2
