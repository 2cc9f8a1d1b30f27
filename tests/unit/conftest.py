"""What unit tests share: a clean process, and an app on SQLite."""

import os
from pathlib import Path

import pytest

from tomskit.celery import AsyncCelery
from tomskit.sqlalchemy import DatabaseConfig

_SETTINGS = ("CELERY_", "DB_", "SQLALCHEMY_", "REDIS_")


@pytest.fixture(autouse=True)
def clean_environment(clean_process: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings from outside, and neither an app nor a runtime before and after."""
    for name in list(os.environ):
        if name.startswith(_SETTINGS):
            monkeypatch.delenv(name)


@pytest.fixture
def sqlite(tmp_path: Path) -> DatabaseConfig:
    return DatabaseConfig(
        SQLALCHEMY_DATABASE_URI_SCHEME="sqlite+aiosqlite",
        DB_DATABASE=str(tmp_path / "test.db"),
    )


@pytest.fixture
def app(sqlite: DatabaseConfig) -> AsyncCelery:
    """An app that runs tasks where they are called."""
    return AsyncCelery(
        "test",
        broker="memory://",
        backend="cache+memory://",
        database=sqlite,
        task_always_eager=True,
        task_store_eager_result=False,
    )
