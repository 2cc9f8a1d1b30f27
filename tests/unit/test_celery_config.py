"""CeleryConfig: every field takes effect, whichever way it is given and applied."""

import json
import logging
import pickle
import re
import sys
from collections.abc import Callable
from contextlib import closing
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Literal, cast, get_args

import pytest
from celery import Celery
from celery.app.defaults import DEFAULTS as CELERY_DEFAULTS
from pydantic import Field, ValidationError
from typing_extensions import override

from tests.support.settings import MakeApp, backend_of, build, new_app, settings_of
from tomskit import TomsKitBaseSettings
from tomskit.celery import AsyncCelery, CeleryConfig
from tomskit.celery.serializers import register_orjson_serializer
from tomskit.redis import RedisConfig
from tomskit.sqlalchemy import DatabaseConfig

# Most tests here set every field, also those that have no effect beside others.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.* ha(s|ve) no effect. :tomskit.variables.SettingsWarning"
)

SECRET = "s3cret w0rd"

# Section 2 of the contract, word for word.
CONTRACT: dict[str, object] = {
    "CELERY_BROKER_REDIS_HOST": "localhost",
    "CELERY_BROKER_REDIS_PORT": 6379,
    "CELERY_BROKER_REDIS_USERNAME": None,
    "CELERY_BROKER_REDIS_PASSWORD": None,
    "CELERY_BROKER_REDIS_DB": 0,
    "CELERY_USE_SENTINEL": False,
    "CELERY_SENTINEL_MASTER_NAME": None,
    "CELERY_SENTINEL_PASSWORD": None,
    "CELERY_SENTINEL_SOCKET_TIMEOUT": 0.1,
    "CELERY_RESULT_BACKEND_TYPE": "redis",
    "CELERY_RESULT_BACKEND_REDIS_HOST": "localhost",
    "CELERY_RESULT_BACKEND_REDIS_PORT": 6379,
    "CELERY_RESULT_BACKEND_REDIS_USERNAME": None,
    "CELERY_RESULT_BACKEND_REDIS_PASSWORD": None,
    "CELERY_RESULT_BACKEND_REDIS_DB": 1,
    "CELERY_RESULT_BACKEND_DATABASE_URI_SCHEME": "mysql",
    "CELERY_TASK_SERIALIZER": "json",
    "CELERY_RESULT_SERIALIZER": "json",
    "CELERY_ACCEPT_CONTENT": ["json"],
    "CELERY_TIMEZONE": "UTC",
    "CELERY_ENABLE_UTC": True,
    "CELERY_TASK_TRACK_STARTED": True,
    "CELERY_TASK_IGNORE_RESULT": False,
    "CELERY_TASK_TIME_LIMIT": None,
    "CELERY_TASK_SOFT_TIME_LIMIT": None,
    "CELERY_RESULT_EXPIRES": None,
    "CELERY_DB_HOST": "localhost",
    "CELERY_DB_PORT": 5432,
    "CELERY_DB_USERNAME": "",
    "CELERY_DB_PASSWORD": "",
    "CELERY_DB_DATABASE": "tomskitdb",
    "CELERY_DB_CHARSET": "",
    "CELERY_DB_EXTRAS": "",
    "CELERY_SQLALCHEMY_DATABASE_URI_SCHEME": "mysql+aiomysql",
    "CELERY_SQLALCHEMY_DATABASE_SYNC_URI_SCHEME": "mysql+pymysql",
    "CELERY_SQLALCHEMY_POOL_SIZE": 300,
    "CELERY_SQLALCHEMY_MAX_OVERFLOW": 10,
    "CELERY_SQLALCHEMY_POOL_RECYCLE": 3600,
    "CELERY_SQLALCHEMY_POOL_PRE_PING": False,
    "CELERY_SQLALCHEMY_ECHO": False,
    "CELERY_SQLALCHEMY_POOL_ECHO": False,
    "CELERY_WORKER_REDIS_HOST": "localhost",
    "CELERY_WORKER_REDIS_PORT": 6379,
    "CELERY_WORKER_REDIS_USERNAME": None,
    "CELERY_WORKER_REDIS_PASSWORD": None,
    "CELERY_WORKER_REDIS_DB": 0,
    # Ours, where the contract names them.
    "CELERY_SENTINELS": None,
    "CELERY_BROKER_REDIS_USE_SSL": False,
    "CELERY_RESULT_BACKEND_REDIS_USE_SSL": False,
    "CELERY_WORKER_REDIS_USE_SSL": False,
    "CELERY_WORKER_POOL": "prefork",
    "CELERY_WORKER_CONCURRENCY": None,
}

FIELDS = sorted(info.alias or name for name, info in CeleryConfig.model_fields.items())
INFO = {info.alias or name: info for name, info in CeleryConfig.model_fields.items()}
ATTRIBUTES = {info.alias or name: name for name, info in CeleryConfig.model_fields.items()}
OF_CELERY = [field for field in FIELDS if field.removeprefix("CELERY_").lower() in CELERY_DEFAULTS]

# What a value may look like. A field takes the first that fits its type as it is.
CANDIDATES: list[object] = [
    ["json", "pickle"],
    {"name": {"option": "value"}},
    {"name": {"task": "shop.report", "schedule": 5}},
    True,
    False,
    7,
    0.25,
    2.5,
    "other",
    "a=1",
    "redis://other.example:7/8",
    "postgresql+asyncpg://other.example:7/shop",
    "sqlite+aiosqlite",
    "sqlite",
    "Europe/Berlin",
    "5/m",
    "gzip",
    "%(levelname)s %(message)s",
]

# Some fields say nothing unless another is set.
SURROUNDINGS: list[dict[str, object]] = [
    {},
    {"CELERY_USE_SENTINEL": True, "CELERY_SENTINEL_MASTER_NAME": "master"},
    {"CELERY_SENTINEL_MASTER_NAME": "master"},
    {"CELERY_BROKER_REDIS_USE_SSL": True, "CELERY_RESULT_BACKEND_REDIS_USE_SSL": True},
    {"CELERY_RESULT_BACKEND_TYPE": "database"},
]


def effects(app: AsyncCelery) -> dict[str, object]:
    """All that a field can bring about."""
    return {
        **settings_of(app),
        "engine": app.db_config.SQLALCHEMY_DATABASE_URI,
        "synchronous engine": app.db_config.SQLALCHEMY_DATABASE_SYNC_URI,
        "engine options": app.db_config.SQLALCHEMY_ENGINE_OPTIONS,
        "engine's connections": app.db_config.SQLALCHEMY_CONNECT_TIMEOUT,
        "client": app.redis_config.REDIS_URL,
        "client's pool": app.redis_config.REDIS_MAX_CONNECTIONS,
        "client's sockets": (
            app.redis_config.REDIS_SOCKET_TIMEOUT,
            app.redis_config.REDIS_SOCKET_CONNECT_TIMEOUT,
            app.redis_config.REDIS_SOCKET_KEEPALIVE,
            app.redis_config.REDIS_HEALTH_CHECK_INTERVAL,
        ),
        "client's TLS": app.redis_config.REDIS_TLS_OPTIONS,
        "asyncio pool": (
            app.config.CELERY_WORKER_SYNC_CONCURRENCY,
            app.config.CELERY_FETCH_BYTES,
            app.config.CELERY_WORKER_SLOW_CALLBACK_DURATION,
            app.config.CELERY_WORKER_LEAN_PATH,
        ),
        "Redis": app.config.CELERY_REDIS_FAST_PATH,
        "errors": app.config.CELERY_RESULT_ERROR_MODULES,
        "health file": app.config.CELERY_WORKER_HEALTH_FILE,
        "once": (app.config.CELERY_OUTBOX_INTERVAL, app.config.CELERY_ONCE_KEEP),
    }


@cache
def effects_of(settings: str) -> dict[str, object]:
    """The effects of some settings, which are given as JSON."""
    with closing(
        new_app("tests", config=build(**json.loads(settings)), set_as_current=False)
    ) as app:
        return effects(app)


@cache
def other_value(field: str) -> object:
    """A value that is not the default and that the field's type takes without a conversion."""
    info = INFO[field]
    for candidate in [*get_args(info.annotation), *CANDIDATES]:
        if candidate == info.default or isinstance(candidate, type):
            continue
        try:
            config = build(**{"CELERY_SENTINEL_MASTER_NAME": "m", field: candidate})
        except ValidationError:
            continue
        taken = cast("object", getattr(config, ATTRIBUTES[field]))
        kind = str if isinstance(taken, str) else type(taken)  # a password is a str of our own
        if taken == candidate and kind is type(candidate):
            return candidate
    raise AssertionError(f"CANDIDATES has nothing for {field}: {info}")


def as_environment(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


# -- fields


def test_it_is_one_of_our_settings() -> None:
    assert issubclass(CeleryConfig, TomsKitBaseSettings)


@pytest.mark.parametrize(("field", "default"), CONTRACT.items())
def test_the_default_is_that_of_the_contract(field: str, default: object) -> None:
    value = cast("object", getattr(CeleryConfig(), field))
    assert value == default
    assert type(value) is type(default)


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_takes_effect(field: str, make_app: MakeApp) -> None:
    value = other_value(field)

    def makes_a_difference(surroundings: dict[str, object]) -> bool:
        try:
            config = build(**{**surroundings, field: value})
        except ValidationError:  # sentinels without a master's name
            return False
        return effects(make_app(config)) != effects_of(json.dumps(surroundings))

    assert any(map(makes_a_difference, SURROUNDINGS))


@pytest.mark.parametrize("field", OF_CELERY)
def test_a_field_named_like_a_setting_of_celerys_sets_that_one(
    field: str, make_app: MakeApp
) -> None:
    value = other_value(field)
    app = make_app(build(**{field: value}))
    assert settings_of(app)[field.removeprefix("CELERY_").lower()] == value


# The variable CELERY_BEAT_SCHEDULE is the name of a file for `celery beat`.
@pytest.mark.parametrize("field", [field for field in FIELDS if field != "CELERY_BEAT_SCHEDULE"])
def test_every_field_is_an_environment_variable_of_the_same_name(
    field: str, monkeypatch: pytest.MonkeyPatch, make_app: MakeApp
) -> None:
    value = other_value(field)
    # A master's name does no harm, and CELERY_USE_SENTINEL needs one.
    given = build(**{"CELERY_SENTINEL_MASTER_NAME": "m", field: value})
    monkeypatch.setenv("CELERY_SENTINEL_MASTER_NAME", "m")
    monkeypatch.setenv(field, as_environment(value))
    read = CeleryConfig()
    assert read == given
    assert read.model_fields_set == given.model_fields_set
    assert effects(make_app(read)) == effects(make_app(given))


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_is_described(field: str) -> None:
    assert INFO[field].description


def test_every_default_agrees_with_celerys_own_unless_the_contract_says_otherwise(
    make_app: MakeApp,
) -> None:
    ours, celerys = settings_of(make_app(CeleryConfig())), settings_of(Celery("x"))
    different = {name for name, value in ours.items() if celerys.get(name) != value}
    assert different == {
        "broker_url",
        "result_backend",
        "task_track_started",
        "timezone",
        "broker_connection_retry_on_startup",
        # How long is waited for a server is decided here, not by the system.
        "broker_transport_options",
        "redis_backend_health_check_interval",
        "redis_retry_on_timeout",
        "redis_socket_connect_timeout",
        "redis_socket_keepalive",
        "redis_socket_timeout",
        "task_reject_on_worker_lost",
        "imports",
        "include",
        "accept_content",
        "worker_log_format",
        "worker_task_log_format",
    }


# -- ways to apply it


def test_config_from_object_does_what_config_does(make_app: MakeApp) -> None:
    config = CeleryConfig(CELERY_TASK_TIME_LIMIT=60, CELERY_DB_HOST="db")
    by_argument, by_call = make_app(config), make_app()
    by_call.config_from_object(config)
    assert effects(by_call) == effects(by_argument)
    assert by_call.config is config


def test_both_ways_at_once_are_harmless(make_app: MakeApp) -> None:
    config = CeleryConfig(CELERY_TASK_TIME_LIMIT=60, CELERY_WORKER_REDIS_DB=5)
    once, twice = make_app(config), make_app(config)
    twice.config_from_object(config)
    assert effects(twice) == effects(once)


def test_a_namespace_changes_nothing(make_app: MakeApp) -> None:
    config = CeleryConfig(CELERY_TASK_TIME_LIMIT=60)
    app = make_app()
    app.config_from_object(config, namespace="CELERY")
    assert app.conf.task_time_limit == 60


def test_a_config_is_found_by_module_and_attribute(
    monkeypatch: pytest.MonkeyPatch, make_app: MakeApp
) -> None:
    module = ModuleType("tests_settings")
    config = CeleryConfig(CELERY_BROKER_REDIS_DB=9)
    module.__dict__["celery_config"] = config
    monkeypatch.setitem(sys.modules, "tests_settings", module)
    app = make_app()
    app.config_from_object("tests_settings:celery_config")
    assert app.config is config
    assert app.conf.broker_url == "redis://localhost:6379/9"


def test_the_broker_is_redis_and_not_celerys_default(make_app: MakeApp) -> None:
    app = make_app()
    app.config_from_object(CeleryConfig())
    with app.connection_for_write() as connection:
        assert (connection.transport_cls, connection.hostname) == ("redis", "localhost")


def test_settings_among_the_apps_arguments_win(make_app: MakeApp) -> None:
    app = make_app(CeleryConfig(CELERY_INCLUDE=["a"]), broker="memory://", include=["b"])
    assert app.conf.broker_url == "memory://"
    assert app.conf.include == ["b"]


@pytest.mark.parametrize(
    ("field", "setting"),
    [
        (field, field.removeprefix("CELERY_").lower())
        for field in OF_CELERY
        if INFO[field].default is None and not field.endswith("LOG_FORMAT")
        # Without a URL it is made of other fields.
        if ATTRIBUTES[field] == field
    ],
)
def test_none_leaves_celerys_default(field: str, setting: str, make_app: MakeApp) -> None:
    app = make_app(build(**{field: None}))
    assert settings_of(app)[setting] == CELERY_DEFAULTS[setting]
    assert not app.conf.value_set_for(setting)


def test_a_subclass_may_add_any_setting_of_celerys(
    monkeypatch: pytest.MonkeyPatch, make_app: MakeApp
) -> None:
    class Mine(CeleryConfig):
        CELERY_WORKER_TIMER_PRECISION: float = 2.5
        CELERY_TASK_PROTOCOL: int = Field(default=2, ge=1, le=2)
        MY_OWN: str = "mine"

    monkeypatch.setenv("CELERY_TASK_PROTOCOL", "1")
    app = make_app(Mine())
    assert app.conf.worker_timer_precision == 2.5
    assert app.conf.task_protocol == 1
    assert "my_own" not in app.conf
    assert cast("Mine", app.config).MY_OWN == "mine"


def test_a_subclass_may_compute_the_broker_itself(make_app: MakeApp) -> None:
    class Mine(CeleryConfig):
        @property
        @override
        def CELERY_BROKER_URL(self) -> str:
            return "memory://"

    assert make_app(Mine()).conf.broker_url == "memory://"


# -- errors


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("CELERY_BROKER_REDIS_HOST", "redis://h"),
        ("CELERY_BROKER_REDIS_PORT", 0),
        ("CELERY_BROKER_REDIS_PORT", 65536),
        ("CELERY_BROKER_REDIS_DB", -1),
        ("CELERY_BROKER_REDIS_SSL_CERT_REQS", "maybe"),
        ("CELERY_RESULT_BACKEND_TYPE", "amqp"),
        ("CELERY_RESULT_BACKEND_DATABASE_URI_SCHEME", "mysql://"),
        ("CELERY_SENTINELS", "h:x"),
        ("CELERY_SENTINELS", f"user:{SECRET}@h:1"),
        ("CELERY_SENTINEL_SOCKET_TIMEOUT", 0),
        ("CELERY_TASK_TIME_LIMIT", 0),
        ("CELERY_TASK_TIME_LIMIT", float("nan")),
        ("CELERY_TASK_DEFAULT_RATE_LIMIT", "often"),
        ("CELERY_TASK_DEFAULT_RATE_LIMIT", "5/d"),
        ("CELERY_TIMEZONE", "Europe/Atlantis"),
        ("CELERY_TIMEZONE", "../etc/passwd"),
        ("CELERY_TASK_ROUTES", "no JSON"),
        ("CELERY_TASK_ROUTES", "[]"),
        ("CELERY_DB_EXTRAS", SECRET),
        ("CELERY_WORKER_POOL", "gevent"),
        ("CELERY_WORKER_CONCURRENCY", 0),
        ("CELERY_RESULT_BACKEND_REDIS_PASSWORD", [SECRET]),
    ],
)
def test_a_bad_value_is_an_error_that_names_the_field(field: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        build(**{field: value})
    assert [error["loc"] for error in caught.value.errors()] == [(field,)]
    assert field in str(caught.value)
    assert SECRET not in f"{caught.value} {caught.value.errors()}"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("CELERY_BROKER_REDIS_PORT", "abc"),
        ("CELERY_ENABLE_UTC", "perhaps"),
        ("CELERY_BEAT_ENTRIES", "{"),
        ("CELERY_SENTINELS", "h:x"),
    ],
)
def test_a_bad_environment_variable_is_an_error_that_names_the_field(
    field: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(field, value)
    with pytest.raises(ValidationError) as caught:
        CeleryConfig()
    assert [error["loc"] for error in caught.value.errors()] == [(field,)]


def test_a_misspelt_argument_is_an_error() -> None:
    with pytest.raises(ValidationError, match="There is no such setting") as caught:
        build(CELERY_TASK_TIMELIMIT=3)
    assert [error["loc"] for error in caught.value.errors()] == [("CELERY_TASK_TIMELIMIT",)]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("CELERY_TASK_TIMELIMIT", ": did you mean CELERY_TASK_TIME_LIMIT?"),
        ("CELERY_BROKR_URL", ": did you mean CELERY_BROKER_URL?"),
        ("broker_url", ": did you mean CELERY_BROKER_URL?"),
        ("worker_pool", ": did you mean CELERY_WORKER_POOL?"),
        ("hamsters", ""),
    ],
)
def test_a_misspelt_argument_names_the_nearest_setting(name: str, meant: str) -> None:
    with pytest.raises(ValidationError) as caught:
        build(**{name: "secret-4711"})
    assert [error["msg"] for error in caught.value.errors()] == [f"There is no such setting{meant}"]
    assert "secret-4711" not in str(caught.value)


def test_an_unknown_environment_variable_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERY_SOMETHING_ELSE", "1")
    assert CeleryConfig() == CeleryConfig()


def test_a_settings_file_may_hold_more_than_our_fields(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("CELERY_BROKER_REDIS_DB=4\nSOMETHING_ELSE=1\n")

    class FromFile(CeleryConfig, env_file=file): ...

    assert FromFile().CELERY_BROKER_REDIS_DB == 4
    assert build(_env_file=file).CELERY_BROKER_REDIS_DB == 4


def test_a_subclass_may_use_aliases_and_take_more_arguments() -> None:
    class Aliased(TomsKitBaseSettings):
        NAME: str = Field(default="", validation_alias="OTHER_NAME")

    class Open(TomsKitBaseSettings, extra="allow"): ...

    aliased = cast("Callable[..., Aliased]", Aliased)(OTHER_NAME="x")
    assert aliased.NAME == "x"
    assert cast("Callable[..., Open]", Open)(ANY=1).model_extra == {"ANY": 1}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"CELERY_USE_SENTINEL": True}, "needs CELERY_SENTINEL_MASTER_NAME"),
        (
            {"CELERY_TASK_TIME_LIMIT": 5, "CELERY_TASK_SOFT_TIME_LIMIT": 6},
            "CELERY_TASK_SOFT_TIME_LIMIT is longer",
        ),
    ],
)
def test_values_that_do_not_fit_together_are_refused(
    values: dict[str, object], message: str
) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        build(**values, CELERY_DB_PASSWORD=SECRET)
    assert SECRET not in f"{caught.value.errors()} {caught.value.json()}"


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("config", {"CELERY_TASK_TIME_LIMIT": 3}, "config= takes a CeleryConfig, not a dict"),
        (
            "config",
            DatabaseConfig,
            "config.DatabaseConfig'>: give others to app.config_from_object()",
        ),
        ("database", CeleryConfig(), "database= takes a DatabaseConfig, not a CeleryConfig"),
        ("database", "sqlite+aiosqlite://", "not a str: write DatabaseConfig(DB_HOST=...)"),
        ("redis", "redis://:hush@localhost", "redis= takes a RedisConfig, not a str"),
        (
            "redis",
            RedisConfig,
            "config.RedisConfig'>: write RedisConfig(REDIS_URL=...)",
        ),
    ],
)
def test_what_is_no_configuration_is_refused(name: str, given: object, said: str) -> None:
    with pytest.raises(TypeError, match=re.escape(said)) as caught:
        new_app("tests", set_as_current=False, **{name: given})

    assert "hush" not in str(caught.value)


def test_the_class_of_a_configuration_will_do() -> None:
    class Mine(CeleryConfig):
        CELERY_TASK_TIME_LIMIT: float | None = 7

    app = new_app("tests", set_as_current=False, config=Mine)

    assert app.conf.task_time_limit == 7
    assert isinstance(app.config, Mine)


# -- secrets

WITH_SECRETS: dict[str, object] = {
    "CELERY_BROKER_REDIS_PASSWORD": SECRET,
    "CELERY_RESULT_BACKEND_REDIS_PASSWORD": SECRET,
    "CELERY_WORKER_REDIS_PASSWORD": SECRET,
    "CELERY_SENTINEL_PASSWORD": SECRET,
    "CELERY_DB_PASSWORD": SECRET,
}
HOW_RESULTS_ARE_KEPT: list[Literal["redis", "database"]] = ["redis", "database"]


def test_every_password_is_among_the_secrets_of_these_tests() -> None:
    assert {field for field in FIELDS if "PASSWORD" in field} <= WITH_SECRETS.keys()


@pytest.mark.parametrize("kept", HOW_RESULTS_ARE_KEPT)
@pytest.mark.parametrize("sentinel", [False, True])
def test_secrets_are_in_no_repr_no_str_and_no_log_line(
    kept: str, sentinel: bool, make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    config = build(
        **WITH_SECRETS,
        CELERY_RESULT_BACKEND_TYPE=kept,
        CELERY_USE_SENTINEL=sentinel,
        CELERY_SENTINEL_MASTER_NAME="m",
        CELERY_SENTINELS="a:1,b:2",
    )
    with caplog.at_level(logging.DEBUG):
        app = make_app(config)
        shown = [
            repr(config),
            str(config),
            repr(app),
            repr(app.conf),
            str(app.conf),
            str(app.conf.humanize()),
            str(app.bugreport()) if kept == "redis" else "",
            repr(app.db_config),
            repr(app.redis_config),
            app.connection_for_write().as_uri(),
            repr(app.connection_for_write()),
        ]
    for piece in ("s3cret", "w0rd"):
        assert piece not in "\n".join([*shown, caplog.text])


def test_extra_url_parameters_are_in_no_repr(make_app: MakeApp) -> None:
    config = CeleryConfig(
        CELERY_DB_EXTRAS="ssl_key_password=s3cret", CELERY_RESULT_BACKEND_TYPE="database"
    )
    app = make_app(config)
    assert "s3cret" not in f"{config} {config!r} {app.conf!r} {app.db_config!r}"


def test_settings_with_secrets_survive_the_way_into_a_spawned_process() -> None:
    settings = build(**WITH_SECRETS).celery_settings()
    assert pickle.loads(pickle.dumps(settings)) == settings


# -- serializers


def test_orjson_may_be_chosen_by_name(make_app: MakeApp) -> None:
    register_orjson_serializer()
    app = make_app(
        CeleryConfig(
            CELERY_TASK_SERIALIZER="orjson",
            CELERY_RESULT_SERIALIZER="orjson",
            CELERY_ACCEPT_CONTENT=["orjson", "json"],
        )
    )
    assert app.conf.task_serializer == "orjson"
    assert backend_of(app).serializer == "orjson"
