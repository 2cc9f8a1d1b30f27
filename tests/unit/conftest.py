"""What unit tests share: a clean process, and an app on SQLite."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tomskit.celery import AsyncCelery, AsyncRuntime, celery_context
from tomskit.sqlalchemy import DatabaseConfig

_SETTINGS = ("CELERY_", "DB_", "SQLALCHEMY_", "REDIS_")


@pytest.fixture(autouse=True)
def clean_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No settings from outside, and neither an app nor a runtime before and after."""
    for name in list(os.environ):
        if name.startswith(_SETTINGS):
            monkeypatch.delenv(name)
    monkeypatch.setattr("celery._state._tls.current_app", None)
    monkeypatch.setattr("celery._state.default_app", None)
    token = celery_context.set(None)
    yield
    AsyncRuntime.shutdown()
    celery_context.reset(token)


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
