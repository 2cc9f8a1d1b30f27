"""Names of toms-fast work where they mean the same, and are never ignored silently."""

import asyncio
import warnings
from typing import Any

import pytest
from pydantic import ValidationError

import tomskit.celery
import tomskit.redis
import tomskit.sqlalchemy
from tests.support.contracts import untyped
from tomskit.celery import AsyncCelery, CeleryConfig
from tomskit.errors import NotInitializedError
from tomskit.redis import RedisConfig
from tomskit.redis.redis_pool import clients, redis_client
from tomskit.settings import SettingsWarning
from tomskit.sqlalchemy import Database, DatabaseConfig
from tomskit.sqlalchemy.database import db

# Not all of these have an effect by themselves.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.* ha(s|ve) no effect. :tomskit.variables.SettingsWarning"
)

RENAMED = {
    "REDIS_USE_CLUSTERS": ("REDIS_USE_CLUSTER", "true", True),
    "REDIS_CLUSTERS": ("REDIS_CLUSTER_NODES", "a:1,b:2", "a:1,b:2"),
    "REDIS_SENTINEL_SERVICE_NAME": ("REDIS_SENTINEL_MASTER_NAME", "main", "main"),
}
renamed = pytest.mark.parametrize("earlier", RENAMED)


def build(**values: object) -> RedisConfig:
    make: Any = RedisConfig
    config: RedisConfig = make(**values)
    return config


# -- imports


def test_names_that_are_the_same() -> None:
    assert untyped(tomskit.redis).redis_client is redis_client
    assert untyped(tomskit.sqlalchemy).db is db
    assert untyped(tomskit.celery).task_id_context_var is AsyncCelery.task_id_context


def test_modules_with_other_names() -> None:
    from tomskit.celery import celery, orjson_serializer
    from tomskit.config import TomsKitBaseSettings

    assert celery.AsyncCelery is AsyncCelery
    assert celery.async_shared_task is tomskit.celery.async_shared_task
    assert orjson_serializer.register_orjson_serializer is tomskit.celery.register_orjson_serializer
    assert issubclass(CeleryConfig, TomsKitBaseSettings)


def test_task_id_by_functions() -> None:
    context = untyped(__import__("tomskit.celery.context", fromlist=["x"]))

    with pytest.warns(DeprecationWarning, match="task_id_context"):
        context.set_task_id("one")
    with pytest.warns(DeprecationWarning, match="task_id_context"):
        assert context.get_task_id() == "one" == AsyncCelery.task_id_context.get()
    with pytest.warns(DeprecationWarning, match="task_id_context"):
        context.clear_task_id()

    assert AsyncCelery.task_id_context.get() is None


def test_wrapper_opens_and_closes_the_client() -> None:
    wrapper = untyped(tomskit.redis).RedisClientWrapper

    async def main() -> None:
        with pytest.warns(DeprecationWarning, match="RedisProvider"):
            wrapper.initialize(RedisConfig())
        assert clients.current() is not None
        with pytest.warns(DeprecationWarning, match="RedisProvider"):
            await wrapper.shutdown()
        with pytest.raises(NotInitializedError):
            clients.current()

    asyncio.run(main())


def test_database_by_its_earlier_names() -> None:
    config = DatabaseConfig(SQLALCHEMY_DATABASE_URI_SCHEME="sqlite+aiosqlite", DB_DATABASE="x.db")

    async def main() -> None:
        with pytest.warns(DeprecationWarning, match="now called Database"):
            database: Database = untyped(tomskit.sqlalchemy).DatabaseSession()
        with pytest.warns(DeprecationWarning, match="now called open"):
            untyped(database).create_session_pool_from_config(config)
        assert database.engine.dialect.name == "sqlite"
        with pytest.warns(DeprecationWarning, match="now called close"):
            await untyped(database).close_session_pool()

    asyncio.run(main())


# -- settings


@renamed
def test_variable_with_an_earlier_name(monkeypatch: pytest.MonkeyPatch, earlier: str) -> None:
    name, text, value = RENAMED[earlier]
    monkeypatch.setenv(earlier, text)

    with pytest.warns(SettingsWarning, match=f"^{earlier} is now called {name}$"):
        config = RedisConfig()

    assert getattr(config, name) == value
    with pytest.warns(DeprecationWarning, match=name):
        assert getattr(config, earlier) == value


@renamed
def test_argument_with_an_earlier_name(earlier: str) -> None:
    name, _, value = RENAMED[earlier]

    with pytest.warns(SettingsWarning, match=f"^{earlier} is now called {name}$"):
        config = build(**{earlier: value})

    assert getattr(config, name) == value
    assert name in config.model_fields_set


@renamed
def test_present_name_wins(monkeypatch: pytest.MonkeyPatch, earlier: str) -> None:
    name, text, value = RENAMED[earlier]
    monkeypatch.setenv(earlier, "false" if text == "true" else "other:3")
    monkeypatch.setenv(name, text)

    with pytest.warns(SettingsWarning, match=f"Remove {earlier}: {name} is given as well"):
        config = RedisConfig()

    assert getattr(config, name) == value


def test_argument_wins_over_a_variable_with_the_earlier_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REDIS_CLUSTERS", "a:1")

    with pytest.warns(SettingsWarning, match="now called"):
        assert RedisConfig(REDIS_CLUSTER_NODES="b:2").REDIS_CLUSTER_NODES == "b:2"


@pytest.mark.parametrize("check", ["NONE", "OPTIONAL", "REQUIRED"])
def test_certificate_checks_by_pythons_names(monkeypatch: pytest.MonkeyPatch, check: str) -> None:
    monkeypatch.setenv("REDIS_SSL_CERT_REQS", f"CERT_{check}")
    monkeypatch.setenv("CELERY_BROKER_REDIS_SSL_CERT_REQS", f"CERT_{check}")

    with pytest.warns(SettingsWarning, match=f"CERT_{check} is now written {check.lower()}"):
        assert check.lower() == RedisConfig().REDIS_SSL_CERT_REQS
    with pytest.warns(SettingsWarning, match=f"CERT_{check} is now written {check.lower()}"):
        assert check.lower() == CeleryConfig().CELERY_BROKER_REDIS_SSL_CERT_REQS


def test_another_certificate_check_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_SSL_CERT_REQS", "CERT_PERHAPS")

    with (
        warnings.catch_warnings(action="ignore"),
        pytest.raises(ValidationError, match="REDIS_SSL_CERT_REQS"),
    ):
        RedisConfig()


def test_settings_that_are_not_read_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_CLUSTERS_PASSWORD", "x")
    monkeypatch.setenv("DB_TYPE", "mysql")

    with pytest.warns(SettingsWarning, match="REDIS_CLUSTERS_PASSWORD .*REDIS_PASSWORD"):
        RedisConfig()
    with pytest.warns(SettingsWarning, match="DB_TYPE .*SQLALCHEMY_DATABASE_URI_SCHEME"):
        DatabaseConfig()
    with pytest.raises(ValidationError, match="REDIS_CLUSTERS_PASSWORD"):
        build(REDIS_CLUSTERS_PASSWORD="x")
