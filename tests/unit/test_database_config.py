"""DatabaseConfig: defaults, URLs and engine options that the real engines take."""

import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import cast

import pytest
from pydantic import ValidationError
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from tomskit import TomsKitBaseSettings
from tomskit.celery import CeleryConfig
from tomskit.sqlalchemy import DatabaseConfig

DEFAULTS: dict[str, object] = {
    "DB_HOST": "localhost",
    "DB_PORT": 5432,
    "DB_USERNAME": "",
    "DB_PASSWORD": "",
    "DB_DATABASE": "tomskitdb",
    "DB_CHARSET": "",
    "DB_EXTRAS": "",
    "SQLALCHEMY_DATABASE_URI_SCHEME": "mysql+aiomysql",
    "SQLALCHEMY_DATABASE_SYNC_URI_SCHEME": "mysql+pymysql",
    "SQLALCHEMY_POOL_SIZE": 300,
    "SQLALCHEMY_MAX_OVERFLOW": 10,
    "SQLALCHEMY_POOL_RECYCLE": 3600,
    "SQLALCHEMY_POOL_PRE_PING": False,
    "SQLALCHEMY_CONNECT_TIMEOUT": 10.0,
    "SQLALCHEMY_ECHO": False,
    "SQLALCHEMY_POOL_ECHO": False,
}


# As an environment does it: with no regard to the types.
build = cast("Callable[..., DatabaseConfig]", DatabaseConfig)
build_celery = cast("Callable[..., CeleryConfig]", CeleryConfig)


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("CELERY_", "DB_", "SQLALCHEMY_")):
            monkeypatch.delenv(name)


def test_it_is_one_of_our_settings() -> None:
    assert issubclass(DatabaseConfig, TomsKitBaseSettings)


def test_the_defaults_are_those_of_the_contract() -> None:
    assert DatabaseConfig().model_dump() == DEFAULTS


def test_values_come_from_environment_variables_of_the_same_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DB_HOST", "db.example")
    monkeypatch.setenv("DB_PASSWORD", "p w")
    monkeypatch.setenv("SQLALCHEMY_POOL_SIZE", "5")
    config = DatabaseConfig()
    assert config.SQLALCHEMY_DATABASE_URI == ("mysql+aiomysql://:p%20w@db.example:5432/tomskitdb")
    assert config.SQLALCHEMY_ENGINE_OPTIONS.get("pool_size") == 5


def test_both_uris_name_the_same_database_with_their_own_driver() -> None:
    config = DatabaseConfig(
        DB_HOST="::1",
        DB_PORT=3306,
        DB_USERNAME="u@",
        DB_PASSWORD="p +/",
        DB_DATABASE="shop",
        DB_CHARSET="utf8mb4",
        DB_EXTRAS="ssl_ca=/ca%20file&connect_timeout=3",
    )
    asynchronous = make_url(config.SQLALCHEMY_DATABASE_URI)
    synchronous = make_url(config.SQLALCHEMY_DATABASE_SYNC_URI)
    assert asynchronous.drivername == "mysql+aiomysql"
    assert synchronous.drivername == "mysql+pymysql"
    assert asynchronous.set(drivername="x") == synchronous.set(drivername="x")
    assert asynchronous.host == "::1"
    assert asynchronous.password == "p +/"
    assert asynchronous.query == {
        "charset": "utf8mb4",
        "ssl_ca": "/ca file",
        "connect_timeout": "3",
    }


def test_a_url_for_asyncpg_with_the_option_of_another_driver_is_refused() -> None:
    url = "postgresql+asyncpg://u:hush@h/shop?sslmode=require"

    with pytest.raises(ValidationError, match="write ssl in the URL, as in ssl=require") as caught:
        DatabaseConfig(SQLALCHEMY_DATABASE_URI=url)

    assert "hush" not in str(caught.value)


def test_a_synchronous_uri_has_the_mode_of_tls_under_its_own_drivers_name() -> None:
    config = DatabaseConfig(SQLALCHEMY_DATABASE_URI="postgresql+asyncpg://h/shop?ssl=require")

    assert config.SQLALCHEMY_DATABASE_URI == "postgresql+asyncpg://h/shop?ssl=require"
    assert config.SQLALCHEMY_DATABASE_SYNC_URI == "postgresql+psycopg://h:5432/shop?sslmode=require"


def test_each_uri_has_the_charset_under_its_own_drivers_name() -> None:
    config = DatabaseConfig(
        DB_CHARSET="utf8",
        SQLALCHEMY_DATABASE_URI_SCHEME="postgresql+asyncpg",
        SQLALCHEMY_DATABASE_SYNC_URI_SCHEME="postgresql+psycopg",
    )
    assert make_url(config.SQLALCHEMY_DATABASE_URI).query == {}
    assert make_url(config.SQLALCHEMY_DATABASE_SYNC_URI).query == {"client_encoding": "utf8"}


def test_a_bare_synchronous_scheme_names_the_installed_driver() -> None:
    config = DatabaseConfig(SQLALCHEMY_DATABASE_SYNC_URI_SCHEME="mysql")
    assert create_engine(config.SQLALCHEMY_DATABASE_SYNC_URI).driver == "pymysql"


@pytest.mark.parametrize(
    "scheme", ["mysql+aiomysql", "postgresql+asyncpg", "postgresql+psycopg", "sqlite+aiosqlite"]
)
def test_an_engine_takes_the_uri_and_the_options(scheme: str, tmp_path: Path) -> None:
    config = DatabaseConfig(
        SQLALCHEMY_DATABASE_URI_SCHEME=scheme,
        DB_DATABASE=str(tmp_path / "x.db") if scheme.startswith("sqlite") else "shop",
        DB_CHARSET="utf8",
    )
    engine = create_async_engine(config.SQLALCHEMY_DATABASE_URI, **config.SQLALCHEMY_ENGINE_OPTIONS)
    assert f"{engine.dialect.name}+{engine.driver}" == scheme


def test_the_engines_pool_behaves_as_configured() -> None:
    config = DatabaseConfig(
        SQLALCHEMY_POOL_SIZE=7,
        SQLALCHEMY_MAX_OVERFLOW=3,
        SQLALCHEMY_POOL_RECYCLE=60,
        SQLALCHEMY_POOL_PRE_PING=True,
        SQLALCHEMY_ECHO=True,
        SQLALCHEMY_POOL_ECHO=True,
    )
    assert config.SQLALCHEMY_ENGINE_OPTIONS == {
        "pool_size": 7,
        "max_overflow": 3,
        "pool_recycle": 60,
        "pool_pre_ping": True,
        "echo": True,
        "echo_pool": True,
    }
    engine = create_async_engine(config.SQLALCHEMY_DATABASE_URI, **config.SQLALCHEMY_ENGINE_OPTIONS)
    assert isinstance(engine.pool, AsyncAdaptedQueuePool)
    assert engine.pool.size() == 7
    assert engine.echo is True


def test_sqlite_gets_no_pool_sizes() -> None:
    config = DatabaseConfig(SQLALCHEMY_DATABASE_URI_SCHEME="sqlite+aiosqlite")
    assert config.SQLALCHEMY_ENGINE_OPTIONS == {
        "pool_recycle": 3600,
        "pool_pre_ping": False,
        "echo": False,
        "echo_pool": False,
    }


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            "rel %41?+ä.db",
            marks=pytest.mark.skipif(
                version("sqlalchemy").startswith("2.0."),
                reason="SQLAlchemy 2.0 reads no '?' in a path",
            ),
        ),
        "rel %41+ä.db",
        "sub/rel.db",
    ],
)
def test_a_relative_sqlite_path_is_the_file_that_is_written(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sub").mkdir()
    _write(DatabaseConfig(DB_DATABASE=name, SQLALCHEMY_DATABASE_SYNC_URI_SCHEME="sqlite"))
    assert (tmp_path / name).is_file()


def test_an_absolute_sqlite_path_is_the_file_that_is_written(tmp_path: Path) -> None:
    file = tmp_path / "a b.db"
    _write(DatabaseConfig(DB_DATABASE=str(file), SQLALCHEMY_DATABASE_SYNC_URI_SCHEME="sqlite"))
    assert file.is_file()


def test_sqlite_in_memory_writes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _write(DatabaseConfig(DB_DATABASE=":memory:", SQLALCHEMY_DATABASE_SYNC_URI_SCHEME="sqlite"))
    assert list(tmp_path.iterdir()) == []


def _write(config: DatabaseConfig) -> None:
    engine = create_engine(config.SQLALCHEMY_DATABASE_SYNC_URI)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (x INTEGER)"))
    engine.dispose()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DB_HOST", "mysql://h"),
        ("DB_PORT", 0),
        ("DB_PORT", 65536),
        ("DB_PASSWORD", 1),
        ("DB_EXTRAS", "s3cret"),
        ("SQLALCHEMY_DATABASE_URI_SCHEME", "mysql://"),
        ("SQLALCHEMY_DATABASE_URI_SCHEME", ""),
        ("SQLALCHEMY_DATABASE_SYNC_URI_SCHEME", "mysql+"),
        ("SQLALCHEMY_POOL_SIZE", -1),
        ("SQLALCHEMY_MAX_OVERFLOW", -2),
        ("SQLALCHEMY_POOL_RECYCLE", -2),
        ("SQLALCHEMY_ECHO", "perhaps"),
    ],
)
def test_a_bad_value_is_an_error_that_names_the_field(name: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        build(**{name: value})
    assert [error["loc"] for error in caught.value.errors()] == [(name,)]
    assert "s3cret" not in f"{caught.value} {caught.value.errors()}"


def test_secrets_are_in_no_repr_and_no_str() -> None:
    config = DatabaseConfig(DB_PASSWORD="s3cret", DB_EXTRAS="ssl_key_password=s3cret")
    assert "s3cret" not in repr(config)
    assert "s3cret" not in str(config)


def test_celerys_database_fields_are_those_of_the_database_with_a_prefix() -> None:
    mine = {f"CELERY_{name}": default for name, default in DEFAULTS.items()}
    celery = CeleryConfig().model_dump()
    assert {name: celery[name] for name in mine} == mine


def test_celery_config_computes_what_the_database_config_does() -> None:
    values: dict[str, object] = {
        "DB_HOST": "db.example",
        "DB_PASSWORD": "p w",
        "DB_CHARSET": "utf8mb4",
        "DB_EXTRAS": "a=1",
        "SQLALCHEMY_DATABASE_SYNC_URI_SCHEME": "mysql",
        "SQLALCHEMY_POOL_SIZE": 5,
    }
    database = build(**values)
    celery = build_celery(**{f"CELERY_{name}": value for name, value in values.items()})
    assert celery.SQLALCHEMY_DATABASE_URI == database.SQLALCHEMY_DATABASE_URI
    assert celery.SQLALCHEMY_DATABASE_SYNC_URI == database.SQLALCHEMY_DATABASE_SYNC_URI
    assert celery.SQLALCHEMY_ENGINE_OPTIONS == database.SQLALCHEMY_ENGINE_OPTIONS


def test_an_at_sign_in_the_password_of_a_url_is_explained() -> None:
    with pytest.raises(
        ValidationError, match=r"a host is a name .* @ : in a password as"
    ) as caught:
        DatabaseConfig(SQLALCHEMY_DATABASE_URI="mysql+aiomysql://user:hush@silent@host/shop")
    assert "silent" not in str(caught.value)
