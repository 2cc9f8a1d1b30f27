"""URLs in place of parts: what the property says is what is used."""

import warnings
from collections.abc import Callable
from typing import cast

import pytest
from celery.backends.rpc import RPCBackend
from pydantic import SecretStr, ValidationError
from sqlalchemy import create_engine, make_url
from sqlalchemy.ext.asyncio import create_async_engine

from tests.support.settings import MakeApp, backend_of, build, settings_of
from tomskit import TomsKitBaseSettings
from tomskit.celery import CeleryConfig
from tomskit.redis import RedisConfig
from tomskit.settings import SettingsWarning
from tomskit.sqlalchemy import DatabaseConfig

BROKER = "redis://me:p%20w@broker.example:7001/3"
RESULTS = "rediss://:q%2Fw@results.example/4"
DATABASE = "postgresql+asyncpg://me:p%20w@db.example:7003/shop?ssl=require"

Build = Callable[..., TomsKitBaseSettings]
build_redis = cast("Build", RedisConfig)
build_database = cast("Build", DatabaseConfig)


def urls_of(config: TomsKitBaseSettings) -> dict[str, object]:
    """What the properties of a configuration say."""
    names = ["CELERY_BROKER_URL", "CELERY_RESULT_BACKEND", "SQLALCHEMY_DATABASE_URI"]
    names += ["SQLALCHEMY_DATABASE_SYNC_URI", "REDIS_URL"]
    said = {name: cast("object", getattr(config, name, None)) for name in names}
    if isinstance(config, CeleryConfig):
        said["REDIS_URL"] = config.redis_config().REDIS_URL
    return said


# -- what is used


@pytest.mark.parametrize("given", ["argument", "environment"])
def test_celery_uses_the_urls(
    given: str, monkeypatch: pytest.MonkeyPatch, make_app: MakeApp
) -> None:
    urls = {"CELERY_BROKER_URL": BROKER, "CELERY_RESULT_BACKEND": RESULTS}
    if given == "environment":
        for name, url in urls.items():
            monkeypatch.setenv(name, url)
        config = CeleryConfig()
    else:
        config = build(**urls)
    app = make_app(config)
    assert (config.CELERY_BROKER_URL, config.CELERY_RESULT_BACKEND) == (BROKER, RESULTS)
    assert (app.conf.broker_url, app.conf.result_backend) == (BROKER, RESULTS)
    for connection in (app.connection_for_read(), app.connection_for_write()):
        assert (connection.hostname, connection.port) == ("broker.example", 7001)
        assert (connection.userid, connection.password) == ("me", "p w")
        assert connection.virtual_host == "3"
    parameters = backend_of(app).connparams
    assert (parameters["host"], parameters["port"], parameters["db"]) == (
        "results.example",
        6379,
        4,
    )
    assert parameters["password"] == "q/w"
    assert config.CELERY_BROKER_REDIS_HOST == "broker.example"
    assert config.CELERY_RESULT_BACKEND_REDIS_PASSWORD == "q/w"


def test_an_argument_wins_over_celerys_own_variables(
    monkeypatch: pytest.MonkeyPatch, make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"):
        monkeypatch.setenv(name, "redis://environment")
    monkeypatch.setenv("CELERY_RESULT_BACKEND", "redis://environment")
    app = make_app(
        CeleryConfig(
            CELERY_BROKER_URL=BROKER,
            CELERY_BROKER_READ_URL="redis://read",
            CELERY_BROKER_WRITE_URL="redis://write",
            CELERY_RESULT_BACKEND=RESULTS,
        )
    )
    assert app.conf.broker_url == BROKER
    assert app.connection_for_read().hostname == "read"
    assert app.connection_for_write().hostname == "write"
    assert app.conf.result_backend == RESULTS
    assert backend_of(app).connparams["host"] == "results.example"
    assert "The environment variable CELERY_BROKER_URL" in caplog.text
    assert "p w" not in caplog.text


def test_parts_alone_win_over_nothing_that_the_environment_says_later(
    monkeypatch: pytest.MonkeyPatch, make_app: MakeApp
) -> None:
    config = CeleryConfig(CELERY_BROKER_REDIS_HOST="parts")
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://later")
    app = make_app(config)
    assert app.conf.broker_url == config.CELERY_BROKER_URL == "redis://parts:6379/0"


def test_a_config_that_is_given_by_name_says_what_is_used(
    monkeypatch: pytest.MonkeyPatch, make_app: MakeApp
) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://environment")
    app = make_app()
    app.config_from_object(f"{__name__}:NAMED")
    assert app.conf.broker_url == BROKER
    assert app.connection_for_write().hostname == "broker.example"


NAMED = CeleryConfig(CELERY_BROKER_URL=BROKER)


def test_the_apps_own_argument_wins_over_the_environment(
    monkeypatch: pytest.MonkeyPatch, make_app: MakeApp
) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://environment")
    app = make_app(CeleryConfig(), broker="memory://")
    assert app.conf.broker_url == "memory://"


def test_without_a_config_the_environment_wins_as_in_celery(
    monkeypatch: pytest.MonkeyPatch, make_app: MakeApp
) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://environment")
    app = make_app(broker="memory://")
    assert app.conf.broker_url == "redis://environment"
    assert app.config.CELERY_BROKER_URL == "redis://environment"


def test_tls_of_a_url_follows_the_settings_for_certificates(make_app: MakeApp) -> None:
    app = make_app(
        CeleryConfig(
            CELERY_BROKER_URL="rediss://broker/0",
            CELERY_BROKER_REDIS_SSL_CA_CERTS="/ca",
            CELERY_RESULT_BACKEND="rediss://results/0",
        )
    )
    assert app.conf.broker_use_ssl == {
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": True,
        "ssl_ca_certs": "/ca",
    }
    assert app.connection_for_write().ssl == app.conf.broker_use_ssl
    assert settings_of(app)["redis_backend_use_ssl"] == {
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": True,
    }


def test_other_brokers_and_backends(make_app: MakeApp) -> None:
    app = make_app(
        CeleryConfig(
            CELERY_BROKER_URL="amqp://u:p@rabbit:5673/shop;amqp://u:p@rabbit2//",
            CELERY_RESULT_BACKEND="rpc://",
        )
    )
    connection = app.connection_for_write()
    assert (connection.transport_cls, connection.hostname) == ("amqp", "rabbit")
    assert connection.virtual_host == "shop"
    assert isinstance(app.celery_backend, RPCBackend)


def test_a_sentinel_url_takes_the_masters_name_from_its_setting(make_app: MakeApp) -> None:
    url = "sentinel://:p@a:26379/0;sentinel://:p@b:26379/0"
    config = CeleryConfig(
        CELERY_BROKER_URL=url, CELERY_RESULT_BACKEND=url, CELERY_SENTINEL_MASTER_NAME="main"
    )
    options = make_app(config).conf.broker_transport_options
    assert options["master_name"] == "main"
    assert config.CELERY_RESULT_BACKEND_TRANSPORT_OPTIONS["master_name"] == "main"
    for name in ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"):
        with pytest.raises(ValidationError, match=f"{name} needs CELERY_SENTINEL_MASTER_NAME"):
            build(**{name: url})


@pytest.mark.parametrize("given", ["argument", "environment", "celery"])
def test_sqlalchemy_uses_the_url(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if given == "argument":
        config = DatabaseConfig(SQLALCHEMY_DATABASE_URI=DATABASE)
    elif given == "environment":
        monkeypatch.setenv("SQLALCHEMY_DATABASE_URI", DATABASE)
        config = DatabaseConfig()
    else:
        celery = CeleryConfig(CELERY_SQLALCHEMY_DATABASE_URI=DATABASE)
        assert celery.SQLALCHEMY_DATABASE_URI == DATABASE
        config = celery.database_config()
    assert config.SQLALCHEMY_DATABASE_URI == DATABASE
    engine = create_async_engine(config.SQLALCHEMY_DATABASE_URI, **config.SQLALCHEMY_ENGINE_OPTIONS)
    assert engine.url == make_url(DATABASE)
    synchronous = create_engine(config.SQLALCHEMY_DATABASE_SYNC_URI).url
    # What asyncpg calls ssl.
    query = {"sslmode": "require"}
    assert synchronous == make_url(DATABASE).set(drivername="postgresql+psycopg", query=query)
    assert (config.DB_HOST, config.DB_PORT, config.DB_PASSWORD) == ("db.example", 7003, "p w")


@pytest.mark.parametrize(
    ("url", "synchronous"),
    [
        ("mysql+aiomysql://u:p@h/d", "mysql+pymysql://u:p@h:3306/d"),
        ("sqlite+aiosqlite:///shop.db", "sqlite:///shop.db"),
        ("postgresql+psycopg://h/d", "postgresql+psycopg://h:5432/d"),
    ],
)
def test_the_synchronous_uri_is_that_of_the_same_database(url: str, synchronous: str) -> None:
    assert synchronous == DatabaseConfig(SQLALCHEMY_DATABASE_URI=url).SQLALCHEMY_DATABASE_SYNC_URI


def test_results_go_to_the_database_of_the_url() -> None:
    config = CeleryConfig(
        CELERY_SQLALCHEMY_DATABASE_URI="sqlite+aiosqlite:///shop.db",
        CELERY_RESULT_BACKEND_TYPE="database",
    )
    assert config.CELERY_RESULT_BACKEND == "db+sqlite:///shop.db"


@pytest.mark.parametrize("given", ["argument", "environment", "celery"])
def test_redis_uses_the_url(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if given == "argument":
        config = RedisConfig(REDIS_URL=RESULTS)
    elif given == "environment":
        monkeypatch.setenv("REDIS_URL", RESULTS)
        config = RedisConfig()
    else:
        config = CeleryConfig(CELERY_WORKER_REDIS_URL=RESULTS).redis_config()
    assert config.REDIS_URL == RESULTS
    assert (config.REDIS_HOST, config.REDIS_PORT, config.REDIS_DB) == ("results.example", 6379, 4)
    assert (config.REDIS_PASSWORD, config.REDIS_USE_SSL) == ("q/w", True)
    moved = config.model_copy(update={"REDIS_HOST": "moved"})
    assert moved.REDIS_URL == "rediss://:q%2Fw@moved:6379/4"


def test_a_url_may_be_a_secret_and_shows_in_no_repr(make_app: MakeApp) -> None:
    config = build(
        CELERY_BROKER_URL=SecretStr(BROKER),
        CELERY_RESULT_BACKEND=RESULTS,
        CELERY_BROKER_READ_URL=BROKER,
        CELERY_SQLALCHEMY_DATABASE_URI=DATABASE,
        CELERY_WORKER_REDIS_URL=RESULTS,
    )
    app = make_app(config)
    shown = f"{config!r} {vars(config)} {app.conf!r} {app.db_config!r} {app.redis_config!r}"
    for secret in ("p%20w", "p w", "q%2Fw", "q/w"):
        assert secret not in shown


# -- a URL and parts


@pytest.mark.parametrize(
    ("make", "values", "named"),
    [
        (
            build,
            {"CELERY_BROKER_URL": BROKER, "CELERY_BROKER_REDIS_HOST": "parts"},
            "CELERY_BROKER_REDIS_HOST",
        ),
        (
            build,
            {"CELERY_BROKER_URL": "amqp://rabbit//", "CELERY_BROKER_REDIS_PASSWORD": "parts"},
            "CELERY_BROKER_REDIS_PASSWORD",
        ),
        (
            build,
            {"CELERY_RESULT_BACKEND": RESULTS, "CELERY_RESULT_BACKEND_TYPE": "database"},
            "CELERY_RESULT_BACKEND_TYPE",
        ),
        (
            build,
            {"CELERY_SQLALCHEMY_DATABASE_URI": DATABASE, "CELERY_DB_HOST": "parts"},
            "CELERY_DB_HOST",
        ),
        (
            build,
            {"CELERY_WORKER_REDIS_URL": RESULTS, "CELERY_WORKER_REDIS_USE_SSL": False},
            "CELERY_WORKER_REDIS_USE_SSL",
        ),
        (build_redis, {"REDIS_URL": RESULTS, "REDIS_DB": 9}, "REDIS_DB"),
        (
            build_database,
            {"SQLALCHEMY_DATABASE_URI": DATABASE, "DB_PORT": 1, "DB_CHARSET": "utf8"},
            "DB_CHARSET, DB_PORT",
        ),
        (
            build_database,
            {
                "SQLALCHEMY_DATABASE_URI": DATABASE,
                "SQLALCHEMY_DATABASE_SYNC_URI_SCHEME": "mysql+pymysql",
            },
            "SQLALCHEMY_DATABASE_SYNC_URI_SCHEME",
        ),
    ],
)
@pytest.mark.parametrize("given", ["argument", "environment"])
def test_of_a_url_and_parts_the_url_is_used_with_a_warning_that_names_both(
    make: Build,
    values: dict[str, object],
    named: str,
    given: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = next(iter(values))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if given == "environment":
            for name, value in values.items():
                monkeypatch.setenv(name, str(value))
            config = make()
        else:
            config = make(**values)
    for name in values:
        monkeypatch.delenv(name, raising=False)
    alone = make(**{url: values[url]})
    assert urls_of(config) == urls_of(alone)
    assert [one.category for one in caught] == [SettingsWarning]
    assert f"Remove either {url} or {named}:" in str(caught[0].message)
    assert "p%20w" not in str(caught[0].message)


def test_a_synchronous_driver_may_be_chosen_beside_the_url() -> None:
    config = DatabaseConfig(
        SQLALCHEMY_DATABASE_URI=DATABASE,
        SQLALCHEMY_DATABASE_SYNC_URI_SCHEME="postgresql+psycopg2",
    )
    assert config.SQLALCHEMY_DATABASE_SYNC_URI.startswith("postgresql+psycopg2://me:p%20w@")


# -- errors


@pytest.mark.parametrize(
    ("make", "name", "value"),
    [
        (make, name, value)
        for make, name in [
            (build, "CELERY_BROKER_URL"),
            (build, "CELERY_BROKER_READ_URL"),
            (build, "CELERY_RESULT_BACKEND"),
            (build, "CELERY_WORKER_REDIS_URL"),
            (build_redis, "REDIS_URL"),
        ]
        for value in [
            "s3cret",
            "s3cret://host",
            "http://:s3cret@host/0",
            "redis://",
            "redis://:s3cret@/0",
            "redis://:s3cret@:6379/0",
            "redis://:s3cret@host:port/0",
            "redis://:s3cret@host:0/0",
            "redis://:s3cret@host:65536/0",
            "redis://:s3cret@host/zero",
            "redis://:s3cret@host/-1",
            "redis://:s3cret/more@host/0",
            "redis://:s3cret#more@host/0",
        ]
    ]
    + [
        (build_redis, "REDIS_URL", "redis://host/0?socket_timeout=3"),
        (build, "CELERY_BROKER_URL", "amqp://u:s3cret@"),
        (build, "CELERY_BROKER_URL", "redis://a/0;redis://b/s3cret"),
        (build, "CELERY_BROKER_URL", "db+sqlite:///x"),
        (build, "CELERY_RESULT_BACKEND", "amqp://u:s3cret@h"),
        (build, "CELERY_RESULT_BACKEND", "db+postgresql+asyncpg://u:s3cret@h/d"),
        (build, "CELERY_RESULT_BACKEND", "db+nothing://u:s3cret@h/d"),
    ]
    + [
        (make, name, value)
        for make, name in [
            (build, "CELERY_SQLALCHEMY_DATABASE_URI"),
            (build_database, "SQLALCHEMY_DATABASE_URI"),
        ]
        for value in [
            "s3cret",
            "mysql+aiomysql://u:s3cret@/d",
            "mysql+aiomysql://u:s3cret@h:port/d",
            "mysql+aiomysql://u:s3cret@h:0/d",
            "mysql+aiomysql://u:s3cret@h:65536/d",
            "mysql+pymysql://u:s3cret@h/d",
            "sqlite:///s3cret",
            "redis://:s3cret@h/0",
        ]
    ],
)
def test_a_url_that_cannot_work_is_an_error_that_names_the_setting(
    make: Build, name: str, value: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        make(**{name: value})
    assert [error["loc"] for error in caught.value.errors()] == [(name,)]
    assert "s3cret" not in f"{caught.value} {caught.value.errors()}"


@pytest.mark.parametrize(
    ("name", "scheme", "instead"),
    [
        ("SQLALCHEMY_DATABASE_URI_SCHEME", "mysql+pymysql", "mysql+aiomysql or mysql+asyncmy"),
        ("SQLALCHEMY_DATABASE_URI_SCHEME", "mysql", "mysql+aiomysql"),
        ("SQLALCHEMY_DATABASE_URI_SCHEME", "sqlite", "sqlite+aiosqlite"),
        ("SQLALCHEMY_DATABASE_URI_SCHEME", "postgresql+psycopg2", "postgresql+asyncpg"),
        ("SQLALCHEMY_DATABASE_URI_SCHEME", "mysql+nothing", "mysql+aiomysql"),
        ("SQLALCHEMY_DATABASE_SYNC_URI_SCHEME", "mysql+aiomysql", "mysql+pymysql"),
        ("SQLALCHEMY_DATABASE_SYNC_URI_SCHEME", "postgresql+asyncpg", "postgresql+psycopg"),
        ("SQLALCHEMY_DATABASE_SYNC_URI_SCHEME", "sqlite+aiosqlite", "sqlite"),
    ],
)
def test_a_scheme_that_cannot_work_is_an_error_that_names_those_that_do(
    name: str, scheme: str, instead: str
) -> None:
    for make, field in ((build_database, name), (build, f"CELERY_{name}")):
        with pytest.raises(ValidationError) as caught:
            make(**{field: scheme})
        assert [error["loc"] for error in caught.value.errors()] == [(field,)]
        assert instead in str(caught.value)


@pytest.mark.parametrize("scheme", ["mysql+aiomysql", "db+sqlite+aiosqlite", "postgresql+asyncpg"])
def test_a_result_database_needs_a_synchronous_driver(scheme: str) -> None:
    with pytest.raises(ValidationError, match="is not a synchronous driver"):
        CeleryConfig(CELERY_RESULT_BACKEND_DATABASE_URI_SCHEME=scheme)


@pytest.mark.parametrize(
    "scheme", ["mysql+asyncmy", "mariadb+asyncmy", "mssql+aioodbc", "oracle+oracledb"]
)
def test_asynchronous_drivers_that_are_not_installed_are_known(scheme: str) -> None:
    assert DatabaseConfig(SQLALCHEMY_DATABASE_URI_SCHEME=scheme).SQLALCHEMY_DATABASE_URI.startswith(
        f"{scheme}://"
    )


def test_a_list_of_sentinels_may_be_json() -> None:
    config = CeleryConfig(
        CELERY_USE_SENTINEL=True,
        CELERY_SENTINEL_MASTER_NAME="m",
        CELERY_SENTINELS='["a:1", "[::1]:2"]',
    )
    assert config.CELERY_BROKER_URL == "sentinel://a:1/0;sentinel://[::1]:2/0"


# -- URLs that their reader does not take


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("redis://:hush@h/0?db=5", r"kombu does not take these options .*\(db\)"),
        ("redis://:hush@h?socket_timeout=3", r"\(socket_timeout\).* settings of their own"),
        ("redis://u:12?hush=c@h", "kombu does not take these options in the URL of a broker:"),
        ("amqp://u:hush@h?foo=1", "kombu does not take these options"),
        ("filesystem://?foo=1", "kombu does not take these options"),
        ("redis://:hush@h/1/", "ends with the database number"),
    ],
)
def test_a_broker_that_kombu_could_not_reach_is_refused(url: str, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason) as caught:
        CeleryConfig(CELERY_BROKER_URL=url)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("redis://:hush@h?foo=1", "redis-py does not take these options"),
        ("redis://h?password=hush", "redis-py does not take these options.*in front of the host"),
    ],
)
def test_results_that_celery_could_not_store_are_refused(url: str, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason) as caught:
        CeleryConfig(CELERY_RESULT_BACKEND=url)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "amqp://h?heartbeat=5&ssl_ca_certs=/ca.pem",
        "redis://h//2",
        "redis://a;redis://b/1",
        "sqla+sqlite:///a.db?timeout=1",
    ],
)
def test_a_broker_that_kombu_takes_is_accepted(url: str, make_app: MakeApp) -> None:
    app = make_app(CeleryConfig(CELERY_BROKER_URL=url, CELERY_RESULT_BACKEND="cache+memory://"))

    with app.connection_for_write() as connection:
        assert connection.as_uri()


def test_options_of_redis_py_reach_it(make_app: MakeApp) -> None:
    app = make_app(
        CeleryConfig(
            CELERY_BROKER_URL="memory://",
            CELERY_RESULT_BACKEND="redis://h/3?socket_timeout=4&health_check_interval=7",
        )
    )

    parameters = backend_of(app).connparams
    assert (parameters["socket_timeout"], parameters["health_check_interval"]) == (4.0, 7)


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("db+mysql://u:p@h/d", "db+mysql+pymysql://u:p@h/d"),
        ("db+postgresql://u@h/d", "db+postgresql+psycopg://u@h/d"),
        ("db+mysql+mysqldb://u@h/d", "db+mysql+mysqldb://u@h/d"),
        ("db+sqlite:///a.db", "db+sqlite:///a.db"),
    ],
)
def test_a_url_of_results_without_a_driver_names_the_installed_one(given: str, used: str) -> None:
    config = CeleryConfig(CELERY_RESULT_BACKEND=given)

    assert used == config.CELERY_RESULT_BACKEND
    # The driver can be imported.
    if "mysqldb" not in used:
        create_engine(used.removeprefix("db+"))


@pytest.mark.parametrize("space", ["\n", " ", "\r\n"])
def test_space_around_a_url_is_removed(space: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", f"{BROKER}{space}")
    monkeypatch.setenv("CELERY_RESULT_BACKEND", f"{space}{RESULTS}")

    config = CeleryConfig()

    assert (config.CELERY_BROKER_URL, config.CELERY_RESULT_BACKEND) == (BROKER, RESULTS)
    database = build_database(SQLALCHEMY_DATABASE_URI=f"{space}{DATABASE}{space}")
    assert urls_of(database)["SQLALCHEMY_DATABASE_URI"] == DATABASE
    assert urls_of(build_redis(REDIS_URL=f"redis://a{space}"))["REDIS_URL"] == "redis://a"


def test_no_repr_of_a_url_shows_its_password() -> None:
    config = CeleryConfig(
        CELERY_BROKER_REDIS_PASSWORD="hush",
        CELERY_RESULT_BACKEND_REDIS_PASSWORD="hush",
        CELERY_DB_PASSWORD="hush",
        CELERY_DB_EXTRAS="password=hush",
        CELERY_WORKER_REDIS_PASSWORD="hush",
    )
    results = CeleryConfig(CELERY_RESULT_BACKEND_TYPE="database", CELERY_DB_PASSWORD="hush")

    said = {**urls_of(config), "database": results.CELERY_RESULT_BACKEND}
    assert all("hush" in str(url) for url in said.values())
    assert "hush" not in repr([said, vars(config), config.database_config()])


@pytest.mark.parametrize(
    ("scheme", "synchronous"),
    [
        ("postgresql+asyncpg", "postgresql+psycopg"),
        ("sqlite+aiosqlite", "sqlite"),
        ("mysql+asyncmy", "mysql+pymysql"),
    ],
)
def test_the_synchronous_driver_is_one_of_the_same_database(scheme: str, synchronous: str) -> None:
    database = build_database(SQLALCHEMY_DATABASE_URI_SCHEME=scheme)
    config = build(
        CELERY_SQLALCHEMY_DATABASE_URI_SCHEME=scheme, CELERY_RESULT_BACKEND_TYPE="database"
    )

    assert (
        make_url(str(urls_of(database)["SQLALCHEMY_DATABASE_SYNC_URI"])).drivername == synchronous
    )
    assert make_url(config.SQLALCHEMY_DATABASE_SYNC_URI).drivername == synchronous
    assert f"db+{config.SQLALCHEMY_DATABASE_SYNC_URI}" == config.CELERY_RESULT_BACKEND


def test_a_synchronous_driver_that_was_chosen_stays() -> None:
    database = DatabaseConfig(
        SQLALCHEMY_DATABASE_URI_SCHEME="postgresql+asyncpg",
        SQLALCHEMY_DATABASE_SYNC_URI_SCHEME="postgresql+psycopg2",
    )

    assert make_url(database.SQLALCHEMY_DATABASE_SYNC_URI).drivername == "postgresql+psycopg2"
