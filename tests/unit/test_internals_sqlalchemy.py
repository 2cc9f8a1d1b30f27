"""What tomskit relies on in SQLAlchemy beyond its public names."""

import asyncio
import inspect
import logging
from pathlib import Path
from typing import cast

import pytest
from sqlalchemy import event
from sqlalchemy.exc import MissingGreenlet
from sqlalchemy.exc import TimeoutError as SQLAlchemyTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry
from typing_extensions import override

from tomskit._internals.sqlalchemy import CREATOR, QueuePool, wait_in_session

attempts: list[str] = []
"""The outcome of each attempt to take a connection of a `_RecordingPool`."""


class _RecordingPool(QueuePool):
    @override
    def take(self) -> ConnectionPoolEntry:
        try:
            entry = super().take()
        except SQLAlchemyTimeoutError:
            attempts.append("full")
            raise
        attempts.append("connection")
        return entry


@pytest.fixture
def engine(tmp_path: Path) -> AsyncEngine:
    """An engine with a pool of one connection."""
    attempts.clear()
    return create_async_engine(
        f"sqlite+aiosqlite:///{tmp_path / 'test.db'}",
        poolclass=_RecordingPool,
        pool_size=1,
        max_overflow=0,
        pool_timeout=0.01,
        echo_pool=True,
    )


def test_the_method_that_hands_out_takes_no_arguments() -> None:
    assert list(inspect.signature(AsyncAdaptedQueuePool._do_get).parameters) == ["self"]


def test_every_connection_is_taken_by_our_method(engine: AsyncEngine) -> None:
    async def connect_twice() -> None:
        for _ in range(2):
            async with engine.connect():
                pass
        await engine.dispose()

    asyncio.run(connect_twice())
    assert attempts == ["connection", "connection"]


def test_a_full_pool_says_so_to_our_method(engine: AsyncEngine) -> None:
    async def connect_twice_at_once() -> None:
        async with engine.connect():
            with pytest.raises(SQLAlchemyTimeoutError):
                async with engine.connect():
                    pass
        await engine.dispose()

    asyncio.run(connect_twice_at_once())
    assert attempts == ["connection", "full"]


def test_a_pool_logs_as_sqlalchemys_own_do(
    engine: AsyncEngine, caplog: pytest.LogCaptureFixture
) -> None:
    """The name of its logger is made of ``__module__``."""
    caplog.set_level(logging.INFO)
    asyncio.run(engine.dispose())
    names = {record.name for record in caplog.records}
    assert names == {"sqlalchemy.pool.impl._RecordingPool"}


@pytest.mark.parametrize("driver", ["mysql+aiomysql", "postgresql+asyncpg", "postgresql+psycopg"])
def test_a_dialect_connects_with_the_function_that_it_is_given(driver: str) -> None:
    called: list[object] = []

    async def connect(*_: object, **options: object) -> object:
        called.append(options)
        raise ConnectionRefusedError

    engine = create_async_engine(f"{driver}://localhost/one")

    def on_connect(_d: object, _e: object, _a: object, options: dict[str, object]) -> None:
        options[CREATOR] = connect

    event.listen(engine.sync_engine, "do_connect", on_connect)

    async def one() -> None:
        async with engine.connect():
            pass

    with pytest.raises(ConnectionRefusedError):
        asyncio.run(one())
    [options] = called
    assert "async_creator_fn" not in cast("dict[str, object]", options)


def test_what_a_commit_calls_waits_while_coroutines_go_on(engine: AsyncEngine) -> None:
    """``await_only``."""
    done: list[str] = []

    async def main() -> None:
        go_on = asyncio.Event()

        async def wait() -> str:
            await go_on.wait()
            return "waited"

        def wait_for_it(_: object) -> None:
            done.append(wait_in_session(wait()))

        async with AsyncSession(engine) as session:
            await session.connection()
            event.listen(session.sync_session, "after_commit", wait_for_it)
            committing = asyncio.ensure_future(session.commit())
            await asyncio.sleep(0)
            done.append("meanwhile")
            go_on.set()
            await committing
        await engine.dispose()

    asyncio.run(main())
    assert done == ["meanwhile", "waited"]


def test_elsewhere_it_does_not_wait() -> None:
    async def nothing() -> None: ...

    waiting = nothing()
    with pytest.raises(MissingGreenlet):
        wait_in_session(waiting)
    waiting.close()
