"""``sent(app)``: what would be published, without a broker."""

import asyncio
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from celery import Celery, signals
from pydantic import BaseModel

from tests.support.patience import wait_until
from tomskit.celery import (
    AsyncCelery,
    AsyncRuntime,
    CeleryConfig,
    async_shared_task,
    chain,
    chord,
    group,
)
from tomskit.errors import TaskArgumentsError
from tomskit.sqlalchemy import DatabaseConfig
from tomskit.sqlalchemy.database import db
from tomskit.testing import SentTask, running, sent

NOWHERE = 1
"""A port on which no Redis listens."""


class Order(BaseModel):
    sku: str
    due: datetime | None = None


@async_shared_task
async def add(a: int, b: int) -> int:
    return a + b


@async_shared_task(queue="shop")
async def ship(order: Order, *, express: bool = False) -> str:
    return order.sku


@async_shared_task
async def total(numbers: list[int]) -> int:
    return sum(numbers)


@pytest.fixture
def app() -> Iterator[AsyncCelery]:
    config = CeleryConfig(
        CELERY_BROKER_REDIS_PORT=NOWHERE, CELERY_RESULT_BACKEND_REDIS_PORT=NOWHERE
    )
    with AsyncCelery("tests", config=config) as app:
        yield app


@pytest.fixture
def caught(app: AsyncCelery) -> Iterator[list[SentTask]]:
    with sent(app) as messages:
        yield messages


def test_delay(caught: list[SentTask]) -> None:
    result = add.delay(1, b=2)
    (message,) = caught
    assert message.name == add.name
    assert message.id == result.id
    assert (message.args, message.kwargs) == ((1,), {"b": 2})
    assert (message.queue, message.exchange) == ("celery", "")


def test_arguments_are_what_the_function_would_get(caught: list[SentTask]) -> None:
    due = datetime(2030, 1, 2, tzinfo=UTC)
    ship.delay(Order(sku="tea", due=due), express=True)
    (message,) = caught
    assert message.args == (Order(sku="tea", due=due),)
    assert message.kwargs == {"express": True}
    assert (message.queue, message.priority) == ("shop", None)


def test_options(caught: list[SentTask]) -> None:
    eta = datetime.now(UTC) + timedelta(hours=1)
    add.apply_async((1, 2), eta=eta, expires=7200, queue="slow", priority=9, headers={"x": "y"})
    (message,) = caught
    assert message.eta == eta
    assert message.expires is not None
    assert message.expires > eta
    assert (message.queue, message.priority, message.headers["x"]) == ("slow", 9, "y")


def test_adelay_one_and_many(caught: list[SentTask]) -> None:
    async def send() -> None:
        await add.adelay(0, 0)
        await asyncio.gather(*(add.adelay(n, n) for n in range(1, 20)))

    asyncio.run(send())
    assert sorted(message.args for message in caught) == [(n, n) for n in range(20)]


def test_from_a_thread(caught: list[SentTask]) -> None:
    thread = threading.Thread(target=lambda: add.delay(1, 2))
    thread.start()
    thread.join()
    assert len(caught) == 1


def test_a_chain_is_sent_with_its_first_task(caught: list[SentTask]) -> None:
    chain(add.s(1, 2), add.p(3), add.p(4)).delay()
    (message,) = caught
    assert message.args == (1, 2)
    assert [step["task"] for step in cast("Any", message.embedded["chain"])] == [add.name] * 2


def test_a_group(caught: list[SentTask]) -> None:
    group(add.s(n, n) for n in range(3)).delay()
    assert [message.args for message in caught] == [(0, 0), (1, 1), (2, 2)]


def test_a_chord(caught: list[SentTask]) -> None:
    chord([add.s(1, 1), add.s(2, 2)], total.p()).delay()
    assert [message.args for message in caught] == [(1, 1), (2, 2)]
    assert all(message.embedded["chord"] for message in caught)


def test_arguments_are_checked(caught: list[SentTask]) -> None:
    with pytest.raises(TaskArgumentsError):
        add.apply_async(("one", 2))
    assert caught == []


def test_signals_of_publishing_are_sent(caught: list[SentTask]) -> None:
    seen: list[object] = []

    def note(sender: object, **_: object) -> None:
        seen.append(sender)

    signals.before_task_publish.connect(note)
    try:
        add.delay(1, 2)
    finally:
        signals.before_task_publish.disconnect(note)
    assert seen == [add.name]


def test_tasks_of_other_programs(app: AsyncCelery, caught: list[SentTask]) -> None:
    app.send_task("elsewhere.work", (1, {"a": [2]}), {"b": None})
    (message,) = caught
    assert message.name == "elsewhere.work"
    assert (message.args, message.kwargs) == ((1, {"a": [2]}), {"b": None})


def test_what_is_sent_on_commit(tmp_path: Path) -> None:
    database = DatabaseConfig(
        SQLALCHEMY_DATABASE_URI_SCHEME="sqlite+aiosqlite", DB_DATABASE=str(tmp_path / "test.db")
    )
    app = AsyncCelery("on-commit", broker="memory://", database=database, set_as_current=False)

    async def send(commits: bool) -> None:
        await db.create_tables()
        async with db.scope():
            await ship.adelay_on_commit(Order(sku="tea"))
            if commits:
                await db.session.commit()

    with running(app), sent(app) as messages:
        AsyncRuntime.run(send(commits=False))
        assert messages == []
        AsyncRuntime.run(send(commits=True))
        wait_until(lambda: len(messages) == 1, 10.0, "the message")
    assert messages[0].args == (Order(sku="tea"),)


def test_its_result_never_comes(caught: list[SentTask]) -> None:
    result = add.delay(1, 2)
    with pytest.raises(NotImplementedError, match="No result backend"):
        result.get(timeout=1)


def test_afterwards_messages_are_sent_again(app: AsyncCelery) -> None:
    with sent(app) as first:
        add.delay(1, 2)
        with sent(app) as second:
            add.delay(3, 4)
        add.delay(5, 6)
    assert [message.args for message in first] == [(1, 2), (5, 6)]
    assert [message.args for message in second] == [(3, 4)]
    with pytest.raises(Exception, match="Connection refused"):
        add.apply_async((1, 2), retry=False, ignore_result=True)


def test_another_app_is_left_alone(caught: list[SentTask]) -> None:
    with Celery("other", broker="memory://", set_as_current=False) as other:
        other.send_task("elsewhere.work")
    assert caught == []
