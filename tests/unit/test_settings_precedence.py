"""Whatever the arguments, the environment and the file say, the rule of precedence holds.

And what a property says is what Celery, SQLAlchemy and redis-py use.
"""

import asyncio
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Literal, Protocol, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kombu import Connection
from pydantic import SecretStr, ValidationError
from redis.asyncio.connection import parse_url
from sqlalchemy import make_url

from tests.support.examples import examples
from tests.support.settings import backend_of, new_app
from tomskit import TomsKitBaseSettings
from tomskit.celery import CeleryConfig
from tomskit.redis import RedisConfig
from tomskit.redis.redis_pool import RedisClients
from tomskit.settings import SettingsWarning
from tomskit.sqlalchemy import DatabaseConfig
from tomskit.sqlalchemy.database import Database

Source = Literal["argument", "environment", "file"]
SOURCES: list[Source] = ["argument", "environment", "file"]
Said = Mapping[str, Mapping[Source, str]]
"""What each source says of a variable."""

CONFIGS: list[type[TomsKitBaseSettings]] = [CeleryConfig, DatabaseConfig, RedisConfig]

# Texts that some field takes: every field takes two of them.
TEXTS = [
    *("0", "1", "2", "7", "0.5", "true", "false"),
    *("a", "b.example", "a,b", "b,c", '["c", "d"]', "a=1", "b=2&c=3"),
    *('{"a": {"b": 1}}', "{}", "UTC", "Europe/Berlin", "5/m", "6/h", "gzip", "bzip2"),
    *("%(message)s", "%(name)s", '{"a": {"task": "b", "schedule": 1}}'),
    *("required", "none", "redis", "database", "prefork", "threads", "fork", "spawn"),
    *("sqlite+aiosqlite", "postgresql+asyncpg", "sqlite", "postgresql+psycopg"),
    *("redis://a:1/2", "rediss://u:p@b.example/3"),
    *("sqlite+aiosqlite:///a.db", "postgresql+asyncpg://u:p@a/d"),
]
# The variable of this name is a file of `celery beat`.
NOT_FROM_VARIABLES = {"CELERY_BEAT_SCHEDULE"}


@cache
def refusals(config: type[TomsKitBaseSettings], text: str) -> set[object]:
    """The settings that do not take a text."""
    try:
        config.model_validate(dict.fromkeys(names_of(config), text))
    except ValidationError as refusal:
        return {error["loc"][0] for error in refusal.errors()}
    return set()


@cache
def texts_of(config: type[TomsKitBaseSettings], name: str) -> list[str]:
    """The texts that a setting takes."""
    return [text for text in TEXTS if name not in refusals(config, text)]


def names_of(config: type[TomsKitBaseSettings]) -> list[str]:
    return [info.alias or name for name, info in config.model_fields.items()]


@contextmanager
def sources(said: Said) -> Generator[dict[str, object]]:
    """An environment and a file that say this; gives the arguments."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        for name in list(os.environ):
            if name.startswith(("CELERY_", "DB_", "SQLALCHEMY_", "REDIS_")):
                patch.delenv(name)
        file = Path(folder, "settings.env")
        lines: list[str] = []
        arguments: dict[str, object] = {}
        for name, texts in said.items():
            if "environment" in texts:
                patch.setenv(name, texts["environment"])
            if "file" in texts:
                lines.append(f"{name}='{texts['file']}'\n")
            if "argument" in texts:
                arguments[name] = texts["argument"]
        file.write_text("".join(lines), encoding="utf-8")
        patch.setenv("TOMSKIT_ENV_FILE", str(file))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SettingsWarning)
            yield arguments


def rule(said: Said) -> dict[str, object]:
    """What holds: arguments before the environment before the file; empty variables do not count."""
    in_force: dict[str, object] = {}
    for name, texts in said.items():
        variables = [texts[one] for one in ("environment", "file") if texts.get(one)]
        if "argument" in texts:
            in_force[name] = texts["argument"]
        elif variables:
            in_force[name] = variables[0]
    return in_force


def outcome(make: Callable[[], TomsKitBaseSettings]) -> object:
    """All that a configuration is, or which settings it refuses."""
    try:
        config = make()
    except ValidationError as refusal:
        return [error["loc"] for error in refusal.errors()]
    return vars(config), config.model_fields_set


# Several at once: to make a configuration takes longer than to look at another field of it.
AT_ONCE = 3


def few_at_once(config: type[TomsKitBaseSettings]) -> list[list[str]]:
    """Every setting, in groups of some that do not belong together."""
    names = names_of(config)
    groups = -(-len(names) // AT_ONCE)
    return [names[first::groups] for first in range(groups)]


@st.composite
def what_sources_say(draw: st.DrawFn, config: type[TomsKitBaseSettings], names: list[str]) -> Said:
    others = draw(st.lists(st.sampled_from(names_of(config)), max_size=2))
    said: dict[str, dict[Source, str]] = {}
    for one in dict.fromkeys([*names, *others]):
        texts = st.sampled_from(texts_of(config, one))
        possible = SOURCES[:1] if one in NOT_FROM_VARIABLES else SOURCES
        who = draw(st.lists(st.sampled_from(possible), unique=True, max_size=3))
        said[one] = {
            source: draw(texts if source == "argument" else texts | st.just("")) for source in who
        }
    return said


@pytest.mark.parametrize(
    ("config", "names"), [(config, names) for config in CONFIGS for names in few_at_once(config)]
)
@settings(max_examples=4)
@given(data=st.data())
def test_arguments_win_over_the_environment_and_that_over_the_file(
    config: type[TomsKitBaseSettings], names: list[str], data: st.DataObject
) -> None:
    for name in names:
        assert len(texts_of(config, name)) > 1, f"TEXTS has nothing for {name}"
    said = data.draw(what_sources_say(config, names))
    make = cast("Callable[..., TomsKitBaseSettings]", config)
    with sources(said) as arguments:
        found = outcome(lambda: make(**arguments))
    with sources({}):
        expected = outcome(lambda: make(**rule(said)))
    assert found == expected


# -- what the properties say

HOSTS = st.sampled_from(["a", "b.example", "::1"])
PORTS = st.integers(1, 65535).map(str)
DBS = st.integers(0, 15).map(str)
PASSWORDS = st.text(
    st.characters(codec="utf-8", exclude_characters="'\\\x00\r\n$", exclude_categories=["Cs"]),
    min_size=1,
    max_size=5,
)
REDIS_URLS = st.sampled_from(
    ["redis://c:1/2", "redis://u:p%20w@d.example/3", "redis://:%2F@[::1]:9", "redis://e"]
)
BROKER_URLS = REDIS_URLS | st.sampled_from(["amqp://u:p%20w@r/v", "amqp://r:1//", "memory://"])
DATABASE_URLS = st.sampled_from(
    ["mysql+aiomysql://u:p%20w@c/d", "postgresql+asyncpg://c:1/d?ssl=require"]
)


def server(prefix: str) -> dict[str, st.SearchStrategy[str]]:
    return {
        f"{prefix}REDIS_HOST": HOSTS,
        f"{prefix}REDIS_PORT": PORTS,
        f"{prefix}REDIS_USERNAME": PASSWORDS,
        f"{prefix}REDIS_PASSWORD": PASSWORDS,
        f"{prefix}REDIS_DB": DBS,
    }


def database(prefix: str) -> dict[str, st.SearchStrategy[str]]:
    return {
        f"{prefix}DB_HOST": HOSTS,
        f"{prefix}DB_PORT": PORTS,
        f"{prefix}DB_USERNAME": PASSWORDS,
        f"{prefix}DB_PASSWORD": PASSWORDS,
        f"{prefix}SQLALCHEMY_DATABASE_URI": DATABASE_URLS,
    }


PLACES: dict[str, st.SearchStrategy[str]] = {
    **server("CELERY_BROKER_"),
    **server("CELERY_RESULT_BACKEND_"),
    **server("CELERY_WORKER_"),
    **server(""),
    **database("CELERY_"),
    **database(""),
    "CELERY_BROKER_URL": BROKER_URLS,
    "CELERY_BROKER_READ_URL": BROKER_URLS,
    "CELERY_BROKER_WRITE_URL": BROKER_URLS,
    "CELERY_RESULT_BACKEND": REDIS_URLS,
    "CELERY_WORKER_REDIS_URL": REDIS_URLS,
    "REDIS_URL": REDIS_URLS,
}


@st.composite
def places(draw: st.DrawFn) -> Said:
    said: dict[str, dict[Source, str]] = {}
    for name in draw(st.lists(st.sampled_from(sorted(PLACES)), unique=True, max_size=12)):
        possible = SOURCES if name.startswith("CELERY_") else SOURCES[1:]
        who = draw(st.lists(st.sampled_from(possible), unique=True, min_size=1, max_size=3))
        said[name] = {source: draw(PLACES[name]) for source in who}
    return said


def address(url: str) -> dict[str, object]:
    """What redis-py makes of a URL."""
    return {"port": 6379, "db": 0, **cast("dict[str, object]", parse_url(url))}


def described(connection: Connection) -> tuple[object, ...]:
    return (
        connection.transport_cls,
        connection.hostname,
        connection.port,
        connection.userid,
        connection.password,
        connection.virtual_host,
    )


class _Client(Protocol):
    def get_connection_kwargs(self) -> dict[str, object]: ...


def client_of(config: RedisConfig) -> dict[str, object]:
    """Where the client really connects."""
    clients = RedisClients()

    async def open_client() -> dict[str, object]:
        clients.open(config)
        try:
            client = clients.current()
            return cast("_Client", client).get_connection_kwargs()
        finally:
            await clients.close()

    return asyncio.run(open_client())


def engine_url_of(config: DatabaseConfig) -> object:
    """Where the engine really connects."""
    sessions = Database()

    async def open_engine() -> object:
        sessions.open(config)
        try:
            return sessions.engine.url
        finally:
            await sessions.close()

    return asyncio.run(open_engine())


@settings(max_examples=examples(100))
@given(places())
def test_what_a_property_says_is_what_is_used(said: Said) -> None:
    with sources(said) as arguments:
        config = cast("Callable[..., CeleryConfig]", CeleryConfig)(**arguments)
        with closing(new_app("tests", config=config, set_as_current=False)) as app:
            broker = config.CELERY_BROKER_URL
            read = config.CELERY_BROKER_READ_URL or broker
            write = config.CELERY_BROKER_WRITE_URL or broker
            results = config.CELERY_RESULT_BACKEND
            assert (app.conf.broker_url, app.conf.result_backend) == (broker, results)
            assert described(app.connection()) == described(Connection(write))
            assert described(app.connection_for_read()) == described(Connection(read))
            used = backend_of(app).connparams
            expected = address(results)
            assert {name: used.get(name) for name in expected} == expected
            assert engine_url_of(app.db_config) == make_url(config.SQLALCHEMY_DATABASE_URI)
            assert app.db_config.SQLALCHEMY_DATABASE_URI == config.SQLALCHEMY_DATABASE_URI
            used = client_of(app.redis_config)
            expected = address(app.redis_config.REDIS_URL)
            assert {name: used.get(name) for name in expected} == expected


def test_a_secret_may_be_given_in_every_source() -> None:
    with sources({"REDIS_PASSWORD": {"environment": "e", "file": "f"}}):
        assert RedisConfig().REDIS_PASSWORD == "e"
        assert RedisConfig(REDIS_PASSWORD=SecretStr("a")).REDIS_PASSWORD == "a"


def test_json_is_read_from_the_file() -> None:
    routes = {"shop.*": {"queue": "shop"}}
    with sources({"CELERY_TASK_ROUTES": {"file": json.dumps(routes)}}):
        assert routes == CeleryConfig().CELERY_TASK_ROUTES
