"""CeleryConfig's resources: where tasks find their database and their Redis."""

import pytest

from tests.support.settings import MakeApp, build
from tomskit.celery import CeleryConfig
from tomskit.redis import RedisConfig
from tomskit.sqlalchemy import DatabaseConfig


def test_the_database_argument_comes_first(make_app: MakeApp) -> None:
    database = DatabaseConfig(DB_HOST="argument")
    app = make_app(CeleryConfig(CELERY_DB_HOST="field"), database=database)
    assert app.db_config is database


@pytest.mark.parametrize(
    ("field", "value"), [("CELERY_DB_PORT", 5432), ("CELERY_SQLALCHEMY_ECHO", False)]
)
def test_one_database_field_that_was_set_is_enough(
    field: str, value: object, monkeypatch: pytest.MonkeyPatch, make_app: MakeApp
) -> None:
    monkeypatch.setenv("DB_HOST", "environment")
    app = make_app(build(**{field: value}))
    assert app.db_config.DB_HOST == "localhost"


def test_a_database_field_from_the_environment_counts_as_set(
    monkeypatch: pytest.MonkeyPatch, make_app: MakeApp
) -> None:
    monkeypatch.setenv("DB_HOST", "environment")
    monkeypatch.setenv("CELERY_DB_DATABASE", "celery")
    app = make_app(CeleryConfig())
    assert (app.db_config.DB_HOST, app.db_config.DB_DATABASE) == ("localhost", "celery")


def test_without_database_fields_the_database_has_its_own_environment(
    monkeypatch: pytest.MonkeyPatch, make_app: MakeApp
) -> None:
    monkeypatch.setenv("DB_HOST", "environment")
    app = make_app(
        CeleryConfig(
            CELERY_RESULT_BACKEND_TYPE="database",
            CELERY_RESULT_BACKEND_DATABASE_URI_SCHEME="sqlite",
        )
    )
    assert app.db_config.DB_HOST == "environment"


def test_the_redis_argument_comes_first(make_app: MakeApp) -> None:
    redis = RedisConfig(REDIS_HOST="argument")
    app = make_app(CeleryConfig(CELERY_WORKER_REDIS_HOST="field"), redis=redis)
    assert app.redis_config is redis


def test_one_redis_field_that_was_set_is_enough(
    monkeypatch: pytest.MonkeyPatch, make_app: MakeApp
) -> None:
    monkeypatch.setenv("REDIS_HOST", "environment")
    app = make_app(CeleryConfig(CELERY_WORKER_REDIS_DB=0))
    assert app.redis_config.REDIS_HOST == "localhost"


def test_without_redis_fields_redis_has_its_own_environment(
    monkeypatch: pytest.MonkeyPatch, make_app: MakeApp
) -> None:
    monkeypatch.setenv("REDIS_HOST", "environment")
    app = make_app(CeleryConfig(CELERY_WORKER_POOL="solo", CELERY_BROKER_REDIS_DB=3))
    assert app.redis_config.REDIS_HOST == "environment"


def test_without_a_config_the_fields_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, make_app: MakeApp
) -> None:
    monkeypatch.setenv("CELERY_DB_HOST", "db")
    monkeypatch.setenv("CELERY_WORKER_REDIS_HOST", "redis")
    app = make_app()
    assert (app.db_config.DB_HOST, app.redis_config.REDIS_HOST) == ("db", "redis")


def test_a_later_config_replaces_what_came_of_the_first(make_app: MakeApp) -> None:
    app = make_app(CeleryConfig(CELERY_DB_HOST="first"))
    assert app.db_config.DB_HOST == "first"
    app.config_from_object(CeleryConfig(CELERY_DB_HOST="second"))
    assert app.db_config.DB_HOST == "second"
