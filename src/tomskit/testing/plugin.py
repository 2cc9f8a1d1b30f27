"""Fixtures for pytest, which finds them by itself where tomskit is installed."""

from __future__ import annotations

import warnings
from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sqlalchemy import MetaData

    from tomskit.celery import AsyncCelery, CeleryConfig
    from tomskit.redis import RedisConfig
    from tomskit.sqlalchemy import DatabaseConfig
    from tomskit.testing.sending import SentTask

# Each run of pytest imports this module, in projects that do not use it as well: so it imports
# everything else when it is needed.


@pytest.fixture
def tomskit_config() -> CeleryConfig:
    """The configuration of `tomskit_app`; override it in your conftest.py."""
    from tomskit.celery import CeleryConfig

    return CeleryConfig()


@pytest.fixture
def tomskit_database(tmp_path: Path) -> DatabaseConfig | None:
    """The database of `tomskit_app`: a SQLite file of the test's own, where aiosqlite is installed."""
    from sqlalchemy import URL

    from tomskit.settings import SettingsWarning
    from tomskit.sqlalchemy import DatabaseConfig

    if find_spec("aiosqlite") is None:
        return None
    with warnings.catch_warnings():
        # The environment, or .env, may name the database of the application: never that one.
        warnings.simplefilter("ignore", SettingsWarning)
        url = URL.create("sqlite+aiosqlite", database=str(tmp_path / "tomskit.db"))
        return DatabaseConfig(SQLALCHEMY_DATABASE_URI=url.render_as_string())


@pytest.fixture
def tomskit_redis() -> RedisConfig | None:
    """Where ``redis_client`` goes in tests with `tomskit_app`; None is where `tomskit_config` says."""
    return None


@pytest.fixture
def tomskit_metadata() -> MetaData | None:
    """The tables that the test's database gets, beside those of once; override it to return ``Base.metadata``."""
    return None


@pytest.fixture
def tomskit_app(
    tomskit_config: CeleryConfig,
    tomskit_database: DatabaseConfig | None,
    tomskit_redis: RedisConfig | None,
    tomskit_metadata: MetaData | None,
) -> Generator[AsyncCelery]:
    """An app of the test's own, current and with its runtime, with broker and results in memory."""
    from tomskit.celery import AsyncCelery, AsyncRuntime
    from tomskit.sqlalchemy.database import db
    from tomskit.testing.apps import running

    app = AsyncCelery(
        "tests",
        config=tomskit_config,
        database=tomskit_database,
        redis=tomskit_redis,
        broker="memory://",
        backend="cache+memory://",
        changes={"broker_read_url": "memory://", "broker_write_url": "memory://"},
        set_as_current=False,
    )
    with running(app):
        if tomskit_metadata is not None:
            metadata = tomskit_metadata

            async def create_tables() -> None:
                async with db.engine.begin() as connection:
                    await connection.run_sync(metadata.create_all)
                await db.create_tables()

            AsyncRuntime.run(create_tables())
        yield app
        with app.connection_for_write() as connection:
            for queue in app.amqp.queues.values():
                # Queues in memory belong to the process: the next test would find the messages.
                queue(connection.default_channel).purge()


@pytest.fixture
def tomskit_sent(tomskit_app: AsyncCelery) -> Generator[list[SentTask]]:
    """The tasks that the test sends, which are caught instead of published."""
    from tomskit.testing.sending import sent

    with sent(tomskit_app) as caught:
        yield caught


@pytest.fixture
def tomskit_worker(tomskit_app: AsyncCelery) -> Generator[None]:
    """A worker of `tomskit_app` in this process, in threads."""
    from tomskit.testing.workers import worker

    with worker(tomskit_app):
        yield
