"""delay_on_commit in eager mode: tasks run where they are sent, when their transaction is committed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from celery import states
from celery.canvas import Signature
from celery.exceptions import TimeoutError as CeleryTimeoutError
from sqlalchemy import Column, Integer, MetaData, Table, func, insert, select

from tests.support.loops import run
from tests.support.once import database
from tomskit.celery import (
    AsyncCelery,
    BoundTask,
    CeleryConfig,
    TypedGroupResult,
    TypedResult,
    async_shared_task,
    chain,
    chord,
    group,
)
from tomskit.errors import TaskArgumentsError
from tomskit.sqlalchemy import DatabaseProvider
from tomskit.sqlalchemy.database import db

pytestmark = pytest.mark.usefixtures("clean_process")

notes = Table("notes", MetaData(), Column("id", Integer, primary_key=True))


@async_shared_task
async def count() -> int:
    """How many notes are committed."""
    return (await db.session.execute(select(func.count()).select_from(notes))).scalar_one()


@async_shared_task
async def note(number: int) -> int:
    await db.session.execute(insert(notes).values(id=number))
    await db.session.commit()
    return number


@async_shared_task(bind=True)
async def whoami(self: BoundTask, number: int) -> str:
    return str(self.request.id)


@async_shared_task
async def add(a: int, b: int) -> int:
    return a + b


@async_shared_task
async def total(numbers: list[int]) -> int:
    return sum(numbers)


@async_shared_task
async def fail(message: str) -> int:
    raise LookupError(message)


@async_shared_task(once=True)
async def note_once(number: int) -> int:
    await db.session.execute(insert(notes).values(id=number))
    return number


@async_shared_task(once=True)
async def note_and_send(number: int) -> int:
    await db.session.execute(insert(notes).values(id=number))
    note.delay_on_commit(number + 1)
    (note_once.s(number + 2) | add.p(1)).delay_on_commit()
    return number


@async_shared_task(once=True)
async def note_send_and_fail(number: int) -> int:
    await db.session.execute(insert(notes).values(id=number))
    note.delay_on_commit(number + 1)
    raise LookupError(str(number))


@async_shared_task(once=True, bind=True)
async def note_and_replace(self: BoundTask, number: int, how: str) -> int:
    await db.session.execute(insert(notes).values(id=number))
    note.delay_on_commit(99)
    other: dict[str, Signature[int]] = {
        "task": note_once.si(number),
        "chain": note_once.s(number) | add.p(1) | note_once.p(),
        "failing": fail.si("replaced"),
    }
    of_celery: Any = self
    of_celery.replace(other[how])
    raise AssertionError("replace raises")


@pytest.fixture
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AsyncCelery]:
    config = CeleryConfig(CELERY_TASK_ALWAYS_EAGER=True)
    where = database("sqlite", request, tmp_path)
    with AsyncCelery("eager", config=config, database=where, set_as_current=False) as made:
        made.set_current()
        yield made


@asynccontextmanager
async def view(app: AsyncCelery) -> AsyncGenerator[None]:
    """A web view of an application that has opened its database."""
    provider = DatabaseProvider(app.db_config)
    await provider.startup()
    try:
        await db.create_tables()
        async with db.engine.begin() as connection:
            await connection.run_sync(notes.metadata.create_all)
        async with db.scope():
            yield
    finally:
        await provider.shutdown()


async def committed() -> list[int]:
    async with db.scope():
        return list((await db.session.execute(select(notes.c.id).order_by(notes.c.id))).scalars())


def test_a_task_finds_what_was_committed(app: AsyncCelery) -> None:
    async def place() -> int:
        async with view(app):
            await db.session.execute(insert(notes).values(id=1))
            result = count.delay_on_commit()
            assert await result.astate() == result.state == states.PENDING
            assert not await result.aready()
            told: list[object] = []
            untyped: Any = result
            untyped.then(told.append)
            await db.session.commit()
            assert told == [result]
            assert await result.aready()
            assert await result.astate() == states.SUCCESS
            return await result

    assert run(place()) == 1


def test_what_is_rolled_back_never_runs(app: AsyncCelery) -> None:
    async def place() -> list[int]:
        async with view(app):
            result = note.delay_on_commit(1)
            await db.session.rollback()
            await db.session.commit()
            with pytest.raises(CeleryTimeoutError, match=f"{result.id} has not run.*Commit it"):
                result.get()
            with pytest.raises(CeleryTimeoutError, match="not committed"):
                await result
            many = group([note.s(2), note.s(3)]).delay_on_commit()
            await db.session.rollback()
            with pytest.raises(CeleryTimeoutError, match="not committed"):
                await many
            with pytest.raises(CeleryTimeoutError, match="not committed"):
                many.get()
            return await committed()

    assert run(place()) == []


def test_a_savepoint_takes_its_tasks_along(app: AsyncCelery) -> None:
    async def place() -> list[int]:
        async with view(app):
            async with db.session.begin_nested():
                note.delay_on_commit(1)
            savepoint = await db.session.begin_nested()
            note.delay_on_commit(2)
            await savepoint.rollback()
            assert await committed() == []
            await db.session.commit()
            return await committed()

    assert run(place()) == [1]


async def _send_all_ways() -> list[tuple[TypedResult[Any] | TypedGroupResult[Any], object]]:
    return [
        (add.delay_on_commit(1, 2), 3),
        (add.options(countdown=60, priority=3).delay_on_commit(1, b=2), 3),
        (add.s(1, 2).delay_on_commit(), 3),
        (add.p(2).delay_on_commit(1), 3),
        ((add.s(1, 2) | add.p(3)).delay_on_commit(), 6),
        (chain(add.s(1, 2), add.p(3), add.p(4)).delay_on_commit(), 10),
        (chord([add.s(1, 2), add.s(3, 4)], total.p()).delay_on_commit(), 10),
        (group([add.s(1, 2), add.s(3, 4)]).delay_on_commit(), [3, 7]),
        (group([add.s(1, 2)]).delay_on_commit(), [3]),
        ((add.s(1, 2) | group([add.p(3), add.p(4)])).delay_on_commit(), [6, 7]),
        (await add.adelay_on_commit(1, 2), 3),
        (await add.options(priority=3).adelay_on_commit(3, 4), 7),
        (await (add.s(1, 2) | add.p(3)).adelay_on_commit(), 6),
        (await add.p(2).adelay_on_commit(1), 3),
        (await group([add.s(1, 2), add.s(3, 4)]).adelay_on_commit(), [3, 7]),
    ]


def test_every_way_of_sending(app: AsyncCelery) -> None:
    async def place() -> None:
        async with view(app):
            sent = await _send_all_ways()
            ids = [result.id for result, _ in sent]
            assert not any(result.ready() for result, _ in sent)
            await db.session.commit()
            assert [await result for result, _ in sent] == [value for _, value in sent]
            assert [result.get() for result, _ in sent] == [value for _, value in sent]
            assert all(result.successful() for result, _ in sent)
            assert [result.id for result, _ in sent] == ids

    run(place())


def test_the_id_is_known_at_once(app: AsyncCelery) -> None:
    async def place() -> None:
        async with view(app):
            one = whoami.delay_on_commit(1)
            chosen = whoami.options(task_id="chosen").delay_on_commit(1)
            many = group([whoami.s(1), whoami.s(2)]).delay_on_commit()
            ids = [part.id for part in many.results or []]
            again = whoami.s(1)
            first, second = again.delay_on_commit(), again.delay_on_commit()
            await db.session.commit()
            assert [await one, await chosen] == [one.id, "chosen"]
            assert await many == ids
            assert [await first, await second] == [first.id, second.id]
            assert first.id != second.id

    run(place())


@pytest.mark.parametrize("propagates", [False, True])
def test_an_error_is_raised_by_the_result(app: AsyncCelery, propagates: bool) -> None:
    app.conf.task_eager_propagates = propagates

    async def place() -> list[int]:
        async with view(app):
            await db.session.execute(insert(notes).values(id=1))
            result = fail.delay_on_commit("no")
            many = group([fail.s("one"), fail.s("two")]).delay_on_commit()
            await db.session.commit()
            assert result.state == states.FAILURE
            with pytest.raises(LookupError, match="no"):
                await result
            with pytest.raises(LookupError, match="one"):
                await many
            return await committed()

    assert run(place()) == [1]


def test_a_revoked_one_does_not_run(app: AsyncCelery) -> None:
    async def place() -> list[int]:
        async with view(app):
            note.delay_on_commit(1)
            note.delay_on_commit(2).revoke()
            await db.session.commit()
            return await committed()

    assert run(place()) == [1]


def test_wrong_arguments_raise_at_the_call(app: AsyncCelery) -> None:
    async def place() -> list[int]:
        async with view(app):
            wrong: Any = "three"
            with pytest.raises(TaskArgumentsError):
                note.delay_on_commit(wrong)
            with pytest.raises(TaskArgumentsError):
                note.options(priority=1).delay_on_commit(wrong)
            with pytest.raises(TaskArgumentsError):
                add.p(1).delay_on_commit(wrong)
            await db.session.commit()
            return await committed()

    assert run(place()) == []


def test_a_task_that_runs_once_sends_what_writes_as_well(app: AsyncCelery) -> None:
    async def place() -> list[int]:
        async with view(app):
            assert note_and_send.delay(1).get() == 1
            with pytest.raises(LookupError, match="7"):
                note_send_and_fail.delay(7).get()
            return await committed()

    assert run(place()) == [1, 2, 3]


def test_many_tasks_that_send_at_once(app: AsyncCelery) -> None:
    async def place() -> list[int]:
        async with view(app):
            results = await asyncio.gather(*(note_and_send.adelay(10 * n) for n in range(6)))
            assert await asyncio.gather(*results) == [0, 10, 20, 30, 40, 50]
            return await committed()

    assert run(place()) == [10 * n + more for n in range(6) for more in range(3)]


def test_plain_code_calls_a_task_that_sends(app: AsyncCelery) -> None:
    async def prepare() -> None:
        async with view(app):
            pass

    async def read() -> list[int]:
        async with view(app):
            return await committed()

    run(prepare())
    assert note_and_send.delay(1).get() == 1
    assert (note_once.s(10) | add.p(1) | note_once.p()).delay().get() == 11
    assert run(read()) == [1, 2, 3, 10, 11]


@pytest.mark.parametrize(("how", "value", "rows"), [("task", 1, [1]), ("chain", 2, [1, 2])])
def test_a_task_that_replaces_itself_leaves_effects_to_the_other(
    app: AsyncCelery, how: str, value: int, rows: list[int]
) -> None:
    async def place() -> list[int]:
        async with view(app):
            assert note_and_replace.delay(1, how).get() == value
            return await committed()

    assert run(place()) == rows


def test_the_error_of_what_replaces_it_is_that_of_the_task(app: AsyncCelery) -> None:
    async def place() -> list[int]:
        async with view(app):
            result = note_and_replace.delay(1, "failing")
            assert result.state == states.FAILURE
            with pytest.raises(LookupError, match="replaced"):
                result.get()
            return await committed()

    assert run(place()) == []
