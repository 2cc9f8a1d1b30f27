"""CeleryConfig: every field takes effect, whichever way it is given and applied."""

import json
import logging
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Literal, Protocol, cast, get_args

import pytest
from celery import Celery
from celery.app import backends
from celery.app.defaults import DEFAULTS as CELERY_DEFAULTS
from celery.backends.redis import RedisBackend, SentinelBackend
from kombu import Connection
from pydantic import Field, ValidationError
from sqlalchemy import create_engine, make_url
from typing_extensions import override

from tomskit import TomsKitBaseSettings
from tomskit.celery import AsyncCelery, CeleryConfig
from tomskit.celery.serializers import register_orjson_serializer
from tomskit.redis import RedisConfig
from tomskit.sqlalchemy import DatabaseConfig

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

FIELDS = sorted(CeleryConfig.model_fields)
OF_CELERY = [field for field in FIELDS if field.removeprefix("CELERY_").lower() in CELERY_DEFAULTS]

# What a value may look like. A field takes the first that fits its type as it is.
CANDIDATES: list[object] = [
    ["json", "pickle"],
    {"name": {"option": "value"}},
    True,
    False,
    7,
    0.25,
    "other",
    "a=1",
    "Europe/Berlin",
    "5/m",
]

# Some fields say nothing unless another is set.
SURROUNDINGS: list[dict[str, object]] = [
    {},
    {"CELERY_USE_SENTINEL": True, "CELERY_SENTINEL_MASTER_NAME": "master"},
    {"CELERY_SENTINEL_MASTER_NAME": "master"},
    {"CELERY_BROKER_REDIS_USE_SSL": True, "CELERY_RESULT_BACKEND_REDIS_USE_SSL": True},
    {"CELERY_RESULT_BACKEND_TYPE": "database"},
]


class _Backend(Protocol):
    connparams: dict[str, object]
    expires: object
    always_retry: object
    serializer: object


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("CELERY_", "DB_", "SQLALCHEMY_", "REDIS_")):
            monkeypatch.delenv(name)


MakeApp = Callable[..., AsyncCelery]

# As an environment does it: with no regard to the types.
build = cast("Callable[..., CeleryConfig]", CeleryConfig)
_make_app = cast("Callable[..., AsyncCelery]", AsyncCelery)


@pytest.fixture
def make_app() -> Iterator[MakeApp]:
    """Make apps that are closed after the test and never become the current one."""
    made: list[AsyncCelery] = []

    def make(config: CeleryConfig | None = None, **options: object) -> AsyncCelery:
        made.append(_make_app("tests", config=config, set_as_current=False, **options))
        return made[-1]

    yield make
    for app in made:
        app.close()


def backend_of(app: Celery) -> _Backend:
    return cast("_Backend", app.backend)


def settings_of(app: Celery) -> dict[str, object]:
    return dict(cast("dict[str, object]", app.conf))


def effects(app: AsyncCelery) -> dict[str, object]:
    """All that a field can bring about."""
    return {
        **settings_of(app),
        "engine": app.db_config.SQLALCHEMY_DATABASE_URI,
        "synchronous engine": app.db_config.SQLALCHEMY_DATABASE_SYNC_URI,
        "engine options": app.db_config.SQLALCHEMY_ENGINE_OPTIONS,
        "client": app.redis_config.REDIS_URL,
        "client's pool": app.redis_config.REDIS_MAX_CONNECTIONS,
        "client's TLS": app.redis_config.REDIS_TLS_OPTIONS,
        "asyncio pool": (
            app.config.CELERY_WORKER_SYNC_CONCURRENCY,
            app.config.CELERY_WORKER_SLOW_CALLBACK_DURATION,
        ),
        "Redis": app.config.CELERY_REDIS_FAST_PATH,
    }


@cache
def effects_of(settings: str) -> dict[str, object]:
    """The effects of some settings, which are given as JSON."""
    with closing(
        _make_app("tests", config=build(**json.loads(settings)), set_as_current=False)
    ) as app:
        return effects(app)


@cache
def other_value(field: str) -> object:
    """A value that is not the default and that the field's type takes without a conversion."""
    info = CeleryConfig.model_fields[field]
    for candidate in [*get_args(info.annotation), *CANDIDATES]:
        if candidate == info.default or isinstance(candidate, type):
            continue
        try:
            config = build(**{"CELERY_SENTINEL_MASTER_NAME": "m", field: candidate})
        except ValidationError:
            continue
        taken = cast("object", getattr(config, field))
        if taken == candidate and type(taken) is type(candidate):
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


@pytest.mark.parametrize("field", FIELDS)
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
    assert CeleryConfig.model_fields[field].description


@pytest.mark.parametrize("spelling", ["json, pickle", '["json", "pickle"]', "[json,pickle]"])
def test_a_list_in_the_environment_is_separated_by_commas(
    spelling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELERY_ACCEPT_CONTENT", spelling)
    assert CeleryConfig().CELERY_ACCEPT_CONTENT == ["json", "pickle"]


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
        if CeleryConfig.model_fields[field].default is None and not field.endswith("LOG_FORMAT")
    ],
)
def test_none_leaves_celerys_default(field: str, setting: str, make_app: MakeApp) -> None:
    app = make_app(build(**{field: None}))
    assert settings_of(app)[setting] == CELERY_DEFAULTS[setting]
    assert not app.conf.value_set_for(setting)


def test_results_are_kept_for_a_day_by_default(make_app: MakeApp) -> None:
    backend = backend_of(make_app(CeleryConfig()))
    assert backend.expires == 86400


def test_a_database_backend_keeps_celerys_retries(make_app: MakeApp, tmp_path: Path) -> None:
    backend = backend_of(make_app(_sqlite_results(tmp_path)))
    assert backend.always_retry is True


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
        ("CELERY_BEAT_SCHEDULE", "{"),
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


@pytest.mark.parametrize("name", ["UTC", "utc", "Europe/Berlin"])
def test_a_time_zone_that_exists_is_taken(name: str, make_app: MakeApp) -> None:
    assert settings_of(make_app(CeleryConfig(CELERY_TIMEZONE=name)))["timezone"] == name


@pytest.mark.parametrize("soft", [5, 4.5])
def test_a_soft_limit_may_be_as_long_as_the_hard_one(soft: float) -> None:
    config = CeleryConfig(CELERY_TASK_TIME_LIMIT=5, CELERY_TASK_SOFT_TIME_LIMIT=soft)
    assert soft == config.CELERY_TASK_SOFT_TIME_LIMIT


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


# -- broker and results in Redis


def test_credentials_with_a_space_arrive_at_kombu_and_at_the_result_backend(
    make_app: MakeApp,
) -> None:
    app = make_app(
        CeleryConfig(
            CELERY_BROKER_REDIS_HOST="::1",
            CELERY_BROKER_REDIS_USERNAME="u s+r",
            CELERY_BROKER_REDIS_PASSWORD="p w+d%20",
            CELERY_RESULT_BACKEND_REDIS_USERNAME="r s",
            CELERY_RESULT_BACKEND_REDIS_PASSWORD="q w;+",
            CELERY_RESULT_BACKEND_REDIS_DB=4,
        )
    )
    assert "+" not in app.conf.broker_url
    with app.connection_for_write() as broker:
        found = (broker.hostname, broker.userid, broker.password, broker.virtual_host)
    assert found == ("::1", "u s+r", "p w+d%20", "0")
    results = _connparams(app)
    assert (results["username"], results["password"], results["db"]) == ("r s", "q w;+", 4)


def test_every_sentinel_is_known_to_kombu_and_to_the_result_backend(make_app: MakeApp) -> None:
    app = make_app(
        CeleryConfig(
            CELERY_USE_SENTINEL=True,
            CELERY_SENTINEL_MASTER_NAME="master",
            CELERY_SENTINEL_USERNAME="sentinel",
            CELERY_SENTINEL_PASSWORD="its own",
            CELERY_SENTINELS="a:1, b, [::1]:3",
            CELERY_BROKER_REDIS_PASSWORD="p w",
            CELERY_RESULT_BACKEND_REDIS_PASSWORD="q w",
        )
    )
    with app.connection_for_write() as broker:
        assert broker.transport_cls == "sentinel"
        assert broker.alt == [
            "sentinel://:p%20w@a:1/0",
            "sentinel://:p%20w@b:26379/0",
            "sentinel://:p%20w@[::1]:3/0",
        ]
        assert broker.transport_options == app.conf.broker_transport_options
    options = {
        "master_name": "master",
        "sentinel_kwargs": {
            "socket_timeout": 0.1,
            "username": "sentinel",
            "password": "its own",
        },
    }
    assert app.conf.broker_transport_options == options
    assert app.conf.result_backend_transport_options == options
    assert isinstance(app.backend, SentinelBackend)
    results = _connparams(app)
    hosts = cast("list[dict[str, object]]", results["hosts"])
    assert [(host["host"], host["port"]) for host in hosts] == [("a", 1), ("b", 26379), ("::1", 3)]
    assert (results["password"], results["db"]) == ("q w", 1)


def test_without_a_list_the_broker_is_the_one_sentinel(make_app: MakeApp) -> None:
    config = CeleryConfig(
        CELERY_USE_SENTINEL=True,
        CELERY_SENTINEL_MASTER_NAME="master",
        CELERY_BROKER_REDIS_HOST="watch",
        CELERY_BROKER_REDIS_PORT=26380,
        CELERY_RESULT_BACKEND_REDIS_HOST="elsewhere",
    )
    assert config.CELERY_BROKER_URL == "sentinel://watch:26380/0"
    assert config.CELERY_RESULT_BACKEND == "sentinel://watch:26380/1"


def test_without_sentinels_there_are_no_transport_options() -> None:
    config = CeleryConfig()
    assert config.CELERY_BROKER_TRANSPORT_OPTIONS == {}
    assert config.CELERY_RESULT_BACKEND_TRANSPORT_OPTIONS == {}


def test_the_visibility_timeout_is_a_transport_option() -> None:
    config = CeleryConfig(CELERY_BROKER_VISIBILITY_TIMEOUT=60)
    assert config.CELERY_BROKER_TRANSPORT_OPTIONS == {"visibility_timeout": 60}


def test_tls_checks_certificates_by_default(make_app: MakeApp) -> None:
    app = make_app(
        CeleryConfig(
            CELERY_BROKER_REDIS_USE_SSL=True,
            CELERY_BROKER_REDIS_SSL_CA_CERTS="/ca",
            CELERY_RESULT_BACKEND_REDIS_USE_SSL=True,
            CELERY_RESULT_BACKEND_REDIS_SSL_CERTFILE="/cert",
            CELERY_RESULT_BACKEND_REDIS_SSL_KEYFILE="/key",
        )
    )
    checked = {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
    assert app.conf.broker_url == "rediss://localhost:6379/0"
    assert app.conf.broker_use_ssl == {**checked, "ssl_ca_certs": "/ca"}
    assert app.conf.redis_backend_use_ssl == {
        **checked,
        "ssl_certfile": "/cert",
        "ssl_keyfile": "/key",
    }
    with app.connection_for_write() as broker:
        assert broker.ssl == app.conf.broker_use_ssl
    assert isinstance(app.backend, RedisBackend)
    assert str(_connparams(app)["ssl_cert_reqs"]) == "2"  # ssl.CERT_REQUIRED


def test_tls_holds_for_the_sentinels_too() -> None:
    config = CeleryConfig(
        CELERY_USE_SENTINEL=True,
        CELERY_SENTINEL_MASTER_NAME="m",
        CELERY_BROKER_REDIS_USE_SSL=True,
    )
    assert config.CELERY_BROKER_TRANSPORT_OPTIONS["sentinel_kwargs"] == {
        "socket_timeout": 0.1,
        "ssl": True,
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": True,
    }
    assert config.CELERY_RESULT_BACKEND_TRANSPORT_OPTIONS["sentinel_kwargs"] == {
        "socket_timeout": 0.1
    }


def test_without_tls_nothing_is_said_about_it(make_app: MakeApp) -> None:
    app = make_app(CeleryConfig())
    assert app.conf.broker_use_ssl is False
    assert app.conf.redis_backend_use_ssl is None


def _connparams(app: Celery) -> dict[str, object]:
    return backend_of(app).connparams


# -- results in a database


@pytest.mark.parametrize("scheme", ["mysql", "db+mysql", "mysql+pymysql"])
def test_a_mysql_result_database_has_the_driver_that_is_installed(scheme: str) -> None:
    config = CeleryConfig(
        CELERY_RESULT_BACKEND_TYPE="database",
        CELERY_RESULT_BACKEND_DATABASE_URI_SCHEME=scheme,
        CELERY_DB_PASSWORD="p w+",
        CELERY_DB_CHARSET="utf8mb4",
    )
    cls, url = cast("tuple[type[object], str]", backends.by_url(config.CELERY_RESULT_BACKEND))
    assert cls.__name__ == "DatabaseBackend"
    assert create_engine(url).driver == "pymysql"
    assert make_url(url).password == "p w+"
    assert make_url(url).query == {"charset": "utf8mb4"}


def test_a_result_database_has_no_transport_options() -> None:
    config = CeleryConfig(
        CELERY_RESULT_BACKEND_TYPE="database",
        CELERY_USE_SENTINEL=True,
        CELERY_SENTINEL_MASTER_NAME="m",
    )
    assert config.CELERY_RESULT_BACKEND_TRANSPORT_OPTIONS == {}


def test_results_are_stored_in_an_sqlite_file(make_app: MakeApp, tmp_path: Path) -> None:
    backend = make_app(_sqlite_results(tmp_path)).backend
    backend.store_result("id", {"a": 1}, "SUCCESS")
    assert backend.get_result("id") == {"a": 1}


def _sqlite_results(folder: Path) -> CeleryConfig:
    return CeleryConfig(
        CELERY_RESULT_BACKEND_TYPE="database",
        CELERY_RESULT_BACKEND_DATABASE_URI_SCHEME="sqlite",
        CELERY_DB_DATABASE=str(folder / "results 1.db"),
    )


# -- where tasks find their database and their Redis


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
    app = make_app(CeleryConfig(CELERY_RESULT_BACKEND_DATABASE_URI_SCHEME="sqlite"))
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


def test_a_broker_url_is_read_by_kombu_alone() -> None:
    connection = Connection(CeleryConfig(CELERY_BROKER_REDIS_DB=3).CELERY_BROKER_URL)
    assert (connection.transport_cls, connection.virtual_host) == ("redis", "3")
