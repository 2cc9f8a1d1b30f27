"""once=True: coroutines that a body leaves running, and that use its session while it is committed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from sqlalchemy import insert, text

from tests.support.once import KINDS, Kind, database, with_orders
from tests.support.orders import count, orders, run, runs
from tests.support.servers import RedisDb
from tomskit.celery import async_shared_task
from tomskit.errors import CommitRefusedError, NotInitializedError
from tomskit.sqlalchemy.database import db
from tomskit.sqlalchemy.tables import once

pytestmark = pytest.mark.usefixtures("clean_process", "kind")

left: list[asyncio.Task[None]] = []
met: list[BaseException] = []


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, redis_db: RedisDb, tmp_path: Path) -> Iterator[Kind]:
    found = cast("Kind", request.param)
    left.clear()
    met.clear()
    with with_orders(database(found, request, tmp_path), redis_db):
        yield found


async def ask_again_and_again(has_asked: asyncio.Event) -> None:
    try:
        while True:
            await db.session.execute(text("SELECT 1"))
            has_asked.set()
    except Exception as exc:  # noqa: BLE001 (it is looked at)
        met.append(exc)


async def commit() -> None:
    try:
        await db.session.commit()
    except Exception as exc:  # noqa: BLE001 (it is looked at)
        met.append(exc)


@async_shared_task(once=True)
async def place_and_leave_a_reader(name: str) -> str:
    runs.append(name)
    await db.session.execute(insert(orders).values(name=name))
    has_asked = asyncio.Event()
    left.append(asyncio.create_task(ask_again_and_again(has_asked)))
    await has_asked.wait()
    return f"placed {name}"


@async_shared_task(once=True)
async def place_and_leave_a_commit(name: str) -> str:
    runs.append(name)
    await db.session.execute(insert(orders).values(name=name))
    left.append(asyncio.create_task(commit()))
    return f"placed {name}"


def test_the_commit_waits_for_its_statement_and_no_other_begins(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for _ in range(2):
        assert run(place_and_leave_a_reader, "a").get() == "placed a"

    assert runs == ["a"]
    assert (count(orders), count(once)) == (1, 1)
    assert [type(error) for error in met] == [NotInitializedError]
    assert "in use by ask_again_and_again" in caplog.text
    assert "ERROR" not in caplog.text


def test_they_do_not_commit_without_the_mark() -> None:
    for _ in range(2):
        assert run(place_and_leave_a_commit, "a").get() == "placed a"

    assert runs == ["a"]
    assert (count(orders), count(once)) == (1, 1)
    assert [type(error) for error in met] == [CommitRefusedError]
