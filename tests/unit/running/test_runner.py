"""AsyncTaskRunner without a worker."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Never, cast

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import NullPool

from tomskit.celery import AsyncCelery, AsyncRuntime, AsyncTaskRunner, async_shared_task
from tomskit.errors import EventLoopError, NotACoroutineFunctionError, NotInitializedError
from tomskit.redis.redis_pool import redis_client
from tomskit.sqlalchemy.database import db


async def add(a: int, *, b: int) -> int:
    await asyncio.sleep(0)
    return a + b


async def engine() -> AsyncEngine:
    await db.session.execute(text("SELECT 1"))
    return db.engine


def test_run_passes_arguments_and_returns_the_result(app: AsyncCelery) -> None:
    assert AsyncTaskRunner(add).run(1, b=2) == 3


def test_each_run_has_a_loop_of_its_own(app: AsyncCelery) -> None:
    async def loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    assert AsyncTaskRunner(loop).run() is not AsyncTaskRunner(loop).run()
    assert AsyncTaskRunner(loop).run() is not AsyncRuntime.run(loop())


def test_session_belongs_to_the_loop(app: AsyncCelery) -> None:
    shared = AsyncRuntime.run(engine())

    own = AsyncTaskRunner(engine).run()

    assert own is not shared
    assert AsyncRuntime.run(engine()) is shared


def test_without_use_db_there_is_no_session(app: AsyncCelery) -> None:
    with pytest.raises(NotInitializedError, match=r"db\.scope"):
        AsyncTaskRunner(engine, use_db=False).run()


def test_without_use_redis_there_is_no_client(app: AsyncCelery) -> None:
    async def use() -> None:
        await redis_client.get("key")

    with pytest.raises(NotInitializedError, match="use_redis=True"):
        AsyncTaskRunner(use).run()


def test_everything_is_released_when_the_function_raises(app: AsyncCelery) -> None:
    engines: list[AsyncEngine] = []

    async def fail() -> None:
        engines.append(await engine())
        raise LookupError("lost")

    with pytest.raises(LookupError, match="lost"):
        AsyncTaskRunner(fail).run()

    pool = engines[0].pool
    # SQLAlchemy 2.0 uses the one for SQLite that keeps no connection.
    assert isinstance(pool, NullPool) or "Connections in pool: 0" in pool.status()


def test_plain_function_is_refused_at_once() -> None:
    def plain() -> int:
        return 1

    wrong = cast("Callable[[], Coroutine[object, Never, int]]", plain)
    with pytest.raises(NotACoroutineFunctionError, match="async def") as caught:
        AsyncTaskRunner(wrong)
    assert isinstance(caught.value, TypeError)


def test_task_is_refused_and_its_function_is_not(app: AsyncCelery) -> None:
    @async_shared_task
    async def task(a: int) -> int:
        return a + 1

    with pytest.raises(NotACoroutineFunctionError, match=r"task\.func"):
        AsyncTaskRunner(cast("Callable[[int], Coroutine[object, Never, int]]", task))
    assert AsyncTaskRunner(task.func).run(1) == 2


@pytest.mark.parametrize(
    ("use_db", "use_redis", "missing"),
    [(True, False, "database engine"), (True, True, "redis client"), (False, True, "redis client")],
)
def test_without_an_app_it_says_what_is_missing(
    use_db: bool, use_redis: bool, missing: str
) -> None:
    with pytest.raises(NotInitializedError, match=f"no {missing}.*app = AsyncCelery") as caught:
        AsyncTaskRunner(add, use_db=use_db, use_redis=use_redis).run(1, b=2)
    assert isinstance(caught.value, RuntimeError)


def test_without_an_app_a_function_that_needs_nothing_runs() -> None:
    assert AsyncTaskRunner(add, use_db=False).run(1, b=2) == 3


def test_in_a_running_loop_it_says_to_await(app: AsyncCelery) -> None:
    async def nested() -> int:
        return AsyncTaskRunner(add).run(1, b=2)

    with pytest.raises(EventLoopError, match="await"):
        asyncio.run(nested())
