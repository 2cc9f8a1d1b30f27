"""CeleryConfig's resources: where tasks find their database and their Redis."""

import pytest

from tests.support.settings import MakeApp, build
from tomskit.celery import CeleryConfig
from tomskit.defaults import is_configured
from tomskit.errors import ConfigurationError
from tomskit.redis import RedisConfig
from tomskit.settings import SettingsWarning
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


class _Shop(CeleryConfig):
    CELERY_DB_HOST: str = "db"
    CELERY_DB_PORT: int = 3306
    CELERY_SQLALCHEMY_POOL_SIZE: int = 20
    CELERY_WORKER_REDIS_HOST: str = "cache"
    CELERY_WORKER_REDIS_MAX_CONNECTIONS: int = 7


class TestDefaultsThatASubclassHasChanged:
    def test_hold(self, make_app: MakeApp) -> None:
        app = make_app(_Shop())
        assert app.db_config.SQLALCHEMY_DATABASE_URI == "mysql+aiomysql://db:3306/tomskitdb"
        assert app.db_config.SQLALCHEMY_POOL_SIZE == 20
        assert app.db_config.mysql_port_is_missing is False
        assert app.redis_config.REDIS_URL == "redis://cache:6379/0"
        assert app.redis_config.REDIS_MAX_CONNECTIONS == 7

    def test_hold_beside_a_field_that_was_set(self, make_app: MakeApp) -> None:
        app = make_app(_Shop(CELERY_DB_DATABASE="shop", CELERY_WORKER_REDIS_DB=3))
        assert app.db_config.SQLALCHEMY_DATABASE_URI == "mysql+aiomysql://db:3306/shop"
        assert app.redis_config.REDIS_URL == "redis://cache:6379/3"

    def test_the_environment_wins_over_them(
        self, monkeypatch: pytest.MonkeyPatch, make_app: MakeApp
    ) -> None:
        monkeypatch.setenv("DB_HOST", "environment")
        monkeypatch.setenv("REDIS_HOST", "environment")
        app = make_app(_Shop())
        assert (app.db_config.DB_HOST, app.db_config.DB_PORT) == ("environment", 3306)
        assert (app.redis_config.REDIS_HOST, app.redis_config.REDIS_MAX_CONNECTIONS) == (
            "environment",
            7,
        )

    def test_a_url_of_the_environment_wins_over_all_of_its_parts(
        self, monkeypatch: pytest.MonkeyPatch, make_app: MakeApp
    ) -> None:
        monkeypatch.setenv("SQLALCHEMY_DATABASE_URI", "postgresql+asyncpg://other/orders")
        monkeypatch.setenv("REDIS_URL", "redis://other:6380/1")
        app = make_app(_Shop())
        assert app.db_config.SQLALCHEMY_DATABASE_URI == "postgresql+asyncpg://other/orders"
        assert app.db_config.DB_HOST == "other"
        assert app.db_config.SQLALCHEMY_POOL_SIZE == 20
        assert app.redis_config.REDIS_URL == "redis://other:6380/1"
        assert app.redis_config.REDIS_MAX_CONNECTIONS == 7

    def test_say_where_results_go(self) -> None:
        class Broker(CeleryConfig):
            CELERY_BROKER_REDIS_HOST: str = "broker"

        class Both(Broker):
            CELERY_RESULT_BACKEND_REDIS_HOST: str = "results"

        assert "CELERY_RESULT_BACKEND_REDIS_HOST" in str(Broker().remark_on_results())
        assert Both().remark_on_results() is None
        assert "CELERY_WORKER_REDIS_HOST" in str(Broker().remark_on_redis())
        assert _Shop(CELERY_BROKER_REDIS_HOST="broker").remark_on_redis() is None

    def test_of_nothing_is_no_configuration(self) -> None:
        class Same(CeleryConfig):
            CELERY_DB_HOST: str = "localhost"

        assert not is_configured(Same().database_config())
        assert not is_configured(CeleryConfig().redis_config())
        assert is_configured(_Shop().database_config())

    def test_of_a_database_count_as_its_configuration(self) -> None:
        class Orders(DatabaseConfig):
            DB_HOST: str = "orders"

        assert is_configured(Orders())
        assert not is_configured(DatabaseConfig())


def test_a_report_says_that_no_database_is_configured(make_app: MakeApp) -> None:
    assert "database  -> not configured" in make_app().bugreport()
    shown = make_app(CeleryConfig(CELERY_DB_HOST="db")).bugreport()
    assert "database  -> mysql+aiomysql://db:5432/tomskitdb" in shown


@pytest.mark.parametrize(
    ("name", "way_out"),
    [
        ("CELERY_BROKER_URL", r"give it as an argument, Shop\(CELERY_BROKER_URL=\.\.\.\)"),
        ("CELERY_SQLALCHEMY_DATABASE_URI", "or in the environment"),
        ("CELERY_BROKER_TRANSPORT_OPTIONS", "it is computed from other settings"),
    ],
)
@pytest.mark.filterwarnings("ignore:Field name:UserWarning")
def test_a_default_that_would_have_no_effect_is_refused(name: str, way_out: str) -> None:
    members = {"__annotations__": {name: str}, name: "redis://broker/0", "__module__": __name__}
    with pytest.raises(ConfigurationError, match=f"{name} in the class Shop .*{way_out}"):
        type("Shop", (CeleryConfig,), members)


class Everything(CeleryConfig, DatabaseConfig, RedisConfig):
    """All settings of a project in one class."""

    REDIS_DB: int = 4


def test_one_class_for_everything(monkeypatch: pytest.MonkeyPatch, make_app: MakeApp) -> None:
    monkeypatch.setenv("DB_USERNAME", "shop")
    settings = Everything(
        CELERY_BROKER_REDIS_HOST="broker", DB_HOST="database", DB_PORT=3306, REDIS_HOST="redis"
    )
    app = make_app(settings)

    uri = "mysql+aiomysql://shop@database:3306/tomskitdb"
    assert settings.SQLALCHEMY_DATABASE_URI == app.db_config.SQLALCHEMY_DATABASE_URI == uri
    assert uri.replace("aiomysql", "pymysql") == settings.SQLALCHEMY_DATABASE_SYNC_URI
    assert (app.redis_config.REDIS_HOST, app.redis_config.REDIS_DB) == ("redis", 4)
    assert app.conf.broker_url == "redis://broker:6379/0"


def test_one_class_for_everything_with_urls() -> None:
    settings = Everything(
        SQLALCHEMY_DATABASE_URI="postgresql+asyncpg://u:p%40@database:5433/shop?ssl=require",
        REDIS_URL="redis://redis:6380/2",
    )

    assert settings.database_config().SQLALCHEMY_DATABASE_URI == (
        "postgresql+asyncpg://u:p%40@database:5433/shop?ssl=require"
    )
    assert settings.redis_config().REDIS_PORT == 6380


def test_one_class_for_everything_prefers_the_fields_for_tasks() -> None:
    settings = Everything(DB_HOST="database", CELERY_DB_HOST="tasks", CELERY_DB_PORT=3306)

    assert settings.database_config().DB_HOST == "tasks"


class Stores(DatabaseConfig, RedisConfig): ...


def test_one_class_for_database_and_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://redis:6380/2")
    monkeypatch.setenv("SQLALCHEMY_DATABASE_URI", "mysql+aiomysql://u:p@database:3306/shop")
    stores = Stores()

    assert (stores.REDIS_HOST, stores.REDIS_PORT, stores.REDIS_DB) == ("redis", 6380, 2)
    assert (stores.DB_HOST, stores.DB_PORT, stores.DB_USERNAME) == ("database", 3306, "u")


def test_one_class_for_everything_knows_all_earlier_and_misspelt_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REDIS_CLUSTERS", "a:1,b:2")
    monkeypatch.setenv("REDIS_USE_CLUSTER", "true")
    monkeypatch.setenv("REDIS_DB", "0")
    monkeypatch.setenv("DB_USER", "shop")
    with pytest.warns(SettingsWarning) as caught:
        settings = Everything()

    said = " ".join(str(one.message) for one in caught)
    assert settings.REDIS_CLUSTER_NODES == "a:1,b:2"
    assert "REDIS_CLUSTERS is now called REDIS_CLUSTER_NODES" in said
    assert "DB_USER (did you mean DB_USERNAME?)" in said
