"""Only the broker is set: a warning says where results go, and where redis_client connects."""

import asyncio
import logging
import threading

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from tests.support.settings import MakeApp, build
from tomskit.celery import CeleryConfig
from tomskit.redis import RedisConfig, RedisProvider
from tomskit.sqlalchemy import DatabaseConfig
from tomskit.sqlalchemy.database import Database


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING and record.name.startswith("tomskit")
    ]


@pytest.mark.parametrize(
    "given",
    [
        {"CELERY_BROKER_REDIS_HOST": "broker"},
        {"CELERY_BROKER_REDIS_PORT": 6380},
        {"CELERY_BROKER_REDIS_PASSWORD": "s3cret"},
        {"CELERY_BROKER_URL": "redis://:s3cret@broker/0"},
        {"CELERY_BROKER_URL": "amqp://me:s3cret@broker//"},
    ],
)
def test_a_warning_says_once_where_results_go(
    given: dict[str, object], make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(build(**given))
    assert said(caplog) == []
    assert app.backend.as_uri() == "redis://localhost:6379/1"
    thread = threading.Thread(target=lambda: app.backend)  # each has a backend of its own
    thread.start()
    thread.join()
    [line] = said(caplog)
    assert "Results go to redis://localhost:6379/1" in line
    assert "CELERY_RESULT_BACKEND_REDIS_HOST" in line
    assert "s3cret" not in line


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"CELERY_BROKER_REDIS_DB": 3},
        {"CELERY_BROKER_URL": "redis://broker", "CELERY_RESULT_BACKEND": "redis://results"},
        {"CELERY_BROKER_REDIS_HOST": "broker", "CELERY_RESULT_BACKEND_REDIS_HOST": "localhost"},
        {"CELERY_BROKER_REDIS_HOST": "broker", "CELERY_RESULT_BACKEND_REDIS_DB": 1},
        {"CELERY_BROKER_REDIS_HOST": "broker", "CELERY_TASK_IGNORE_RESULT": True},
        {
            "CELERY_BROKER_REDIS_HOST": "sentinel",
            "CELERY_USE_SENTINEL": True,
            "CELERY_SENTINEL_MASTER_NAME": "main",
        },
    ],
)
def test_no_warning_where_the_default_is_meant(
    given: dict[str, object], make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    assert make_app(build(**given)).backend is not None
    assert said(caplog) == []


def test_no_warning_where_the_app_was_given_a_backend(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(CeleryConfig(CELERY_BROKER_REDIS_HOST="broker"), backend="cache+memory://")
    assert app.backend is not None
    assert said(caplog) == []


def test_a_warning_says_where_the_redis_of_a_worker_is(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    make_app(CeleryConfig(CELERY_BROKER_REDIS_HOST="broker")).name_defaults()
    [line] = said(caplog)
    assert "redis_client connects to redis://localhost:6379/0" in line
    assert "CELERY_WORKER_REDIS_HOST" in line


def test_no_warning_where_the_redis_of_a_worker_was_given(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CeleryConfig(CELERY_BROKER_REDIS_HOST="broker")
    make_app(config, redis=RedisConfig()).name_defaults()
    make_app(config, providers=[RedisProvider(RedisConfig())]).name_defaults()
    make_app(build(CELERY_BROKER_REDIS_HOST="b", CELERY_WORKER_REDIS_DB=2)).name_defaults()
    make_app(CeleryConfig()).name_defaults()
    monkeypatch.setenv("REDIS_URL", "redis://environment")
    make_app(CeleryConfig(CELERY_BROKER_REDIS_HOST="broker")).name_defaults()
    assert said(caplog) == []


# -- the port of MySQL


def error_of_a_session(config: DatabaseConfig) -> str:
    """Why a session of this database cannot connect."""
    database = Database()

    async def connect() -> None:
        database.open(config)
        try:
            async with database.scope():
                await database.session.execute(text("SELECT 1"))
        finally:
            await database.close()

    with pytest.raises(OperationalError) as caught:
        asyncio.run(connect())
    return str(caught.value)


def test_a_mysql_server_that_does_not_answer_on_the_default_port() -> None:
    told = error_of_a_session(DatabaseConfig(DB_HOST="127.0.0.1"))
    assert "MySQL listens on port 3306" in told
    assert "CELERY_DB_PORT" in told


def test_the_port_of_mysql_is_not_named_where_one_was_given() -> None:
    given = error_of_a_session(DatabaseConfig(DB_HOST="127.0.0.1", DB_PORT=1))
    by_url = DatabaseConfig(SQLALCHEMY_DATABASE_URI="mysql+aiomysql://127.0.0.1:1/d")
    assert "3306" not in given + error_of_a_session(by_url)


def test_a_result_database_on_the_default_port_is_a_warning(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Celery tries eleven times for each of its own tries, for some twenty seconds.
    monkeypatch.setattr("celery.backends.database.session.PREPARE_MODELS_MAX_RETRIES", 1)
    app = make_app(CeleryConfig(CELERY_RESULT_BACKEND_TYPE="database", CELERY_DB_HOST="127.0.0.1"))
    with pytest.raises(OperationalError):  # Celery makes its tables at once
        assert app.backend is None
    [line] = said(caplog)
    assert "MySQL listens on port 3306" in line
    caplog.clear()
    other = CeleryConfig(CELERY_RESULT_BACKEND_TYPE="database", CELERY_DB_PORT=5432)
    with pytest.raises(OperationalError):
        assert make_app(other).backend is None
    assert said(caplog) == []
