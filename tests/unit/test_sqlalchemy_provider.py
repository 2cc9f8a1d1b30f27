"""DatabaseProvider: the database as a resource of tasks."""

import asyncio

import pytest
import sqlalchemy.ext.asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tomskit.errors import NotInitializedError
from tomskit.protocols import ResourceProvider
from tomskit.sqlalchemy import DatabaseConfig
from tomskit.sqlalchemy.database import db
from tomskit.sqlalchemy.provider import DatabaseProvider


def test_it_is_a_provider_by_the_name_of_the_database(sqlite: DatabaseConfig) -> None:
    provider = DatabaseProvider(sqlite)

    assert isinstance(provider, ResourceProvider)
    assert provider.name == "database"
    assert provider.config is sqlite


def test_the_engine_is_there_between_startup_and_shutdown(sqlite: DatabaseConfig) -> None:
    async def main() -> None:
        provider = DatabaseProvider(sqlite)
        await provider.startup()
        async with db.engine.connect() as connection:
            assert (await connection.execute(text("SELECT 42"))).scalar_one() == 42
        await provider.shutdown()
        with pytest.raises(NotInitializedError):
            _ = db.engine

    asyncio.run(main())


def test_each_task_has_a_session_within_its_scope_only(sqlite: DatabaseConfig) -> None:
    async def main() -> None:
        provider = DatabaseProvider(sqlite)
        await provider.startup()

        async def task() -> object:
            async with provider.task_scope():
                assert (await db.session.execute(text("SELECT 42"))).scalar_one() == 42
                return db.session

        first, second = await asyncio.gather(task(), task())
        assert first is not second
        with pytest.raises(NotInitializedError):
            _ = db.session
        await provider.shutdown()

    asyncio.run(main())


def test_shutting_down_what_was_not_started_does_nothing(sqlite: DatabaseConfig) -> None:
    asyncio.run(DatabaseProvider(sqlite).shutdown())


def test_the_engine_is_made_by_the_function_that_a_tracing_library_has_replaced(
    sqlite: DatabaseConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[AsyncEngine] = []

    def create_async_engine(url: str, **options: object) -> AsyncEngine:
        made.append(original(url, **options))
        return made[-1]

    original = sqlalchemy.ext.asyncio.create_async_engine
    # As OpenTelemetry's instrumentation of SQLAlchemy does it, after tomskit has been imported.
    monkeypatch.setattr("sqlalchemy.ext.asyncio.create_async_engine", create_async_engine)

    async def main() -> None:
        provider = DatabaseProvider(sqlite)
        await provider.startup()
        assert made == [db.engine]
        await provider.shutdown()

    asyncio.run(main())
