"""RedisConfig: defaults, environment, the URL, TLS and what does not fit together."""

import os
from collections.abc import Callable
from typing import cast

import pytest
from pydantic import ValidationError
from redis.asyncio import ConnectionPool

from tomskit import TomsKitBaseSettings
from tomskit.redis import RedisConfig
from tomskit.settings import SettingsWarning

DEFAULTS: dict[str, object] = {
    "REDIS_HOST": "localhost",
    "REDIS_PORT": 6379,
    "REDIS_USERNAME": None,
    "REDIS_PASSWORD": None,
    "REDIS_DB": 0,
    "REDIS_MAX_CONNECTIONS": 32,
    "REDIS_SOCKET_TIMEOUT": None,
    "REDIS_SOCKET_CONNECT_TIMEOUT": 5.0,
    "REDIS_SOCKET_KEEPALIVE": True,
    "REDIS_HEALTH_CHECK_INTERVAL": 25.0,
    "REDIS_USE_SSL": False,
    "REDIS_SSL_CERT_REQS": "required",
    "REDIS_SSL_CHECK_HOSTNAME": True,
    "REDIS_SSL_CA_CERTS": None,
    "REDIS_SSL_CERTFILE": None,
    "REDIS_SSL_KEYFILE": None,
    "REDIS_USE_SENTINEL": False,
    "REDIS_SENTINELS": None,
    "REDIS_SENTINEL_MASTER_NAME": None,
    "REDIS_SENTINEL_USERNAME": None,
    "REDIS_SENTINEL_PASSWORD": None,
    "REDIS_SENTINEL_SOCKET_TIMEOUT": 0.1,
    "REDIS_USE_CLUSTER": False,
    "REDIS_CLUSTER_NODES": None,
}


# As an environment does it: with no regard to the types.
build = cast("Callable[..., RedisConfig]", RedisConfig)


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("REDIS_")]:
        monkeypatch.delenv(name)


def test_it_is_one_of_our_settings() -> None:
    assert issubclass(RedisConfig, TomsKitBaseSettings)


def test_the_defaults_are_those_of_the_contract() -> None:
    assert RedisConfig().model_dump() == DEFAULTS


def test_values_come_from_environment_variables_of_the_same_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REDIS_HOST", "redis.example")
    monkeypatch.setenv("REDIS_PORT", "7000")
    monkeypatch.setenv("REDIS_PASSWORD", "p w")
    config = RedisConfig()
    assert config.REDIS_URL == "redis://:p%20w@redis.example:7000/0"


def test_an_argument_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_DB", "3")
    assert RedisConfig(REDIS_DB=4).REDIS_DB == 4


def test_a_lower_case_environment_variable_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("redis_db", "3")
    with pytest.warns(SettingsWarning, match="redis_db .did you mean REDIS_DB"):
        assert RedisConfig().REDIS_DB == 0


def test_redis_py_reads_the_url_as_configured() -> None:
    config = RedisConfig(
        REDIS_HOST="[::1]", REDIS_PORT=7, REDIS_USERNAME="u s", REDIS_PASSWORD="p+%", REDIS_DB=5
    )
    read = cast("Callable[[str], ConnectionPool]", ConnectionPool.from_url)  # pyright: ignore[reportUnknownMemberType]  (redis-py leaves **kwargs without a type)
    found = cast("dict[str, object]", read(config.REDIS_URL).connection_kwargs)
    assert {name: found[name] for name in ("host", "port", "username", "password", "db")} == {
        "host": "::1",
        "port": 7,
        "username": "u s",
        "password": "p+%",
        "db": 5,
    }


def test_tls_checks_certificates_and_names_by_default() -> None:
    config = RedisConfig(REDIS_USE_SSL=True)
    assert config.REDIS_URL == "rediss://localhost:6379/0"
    assert config.REDIS_TLS_OPTIONS == {"ssl_cert_reqs": "required", "ssl_check_hostname": True}


def test_tls_files_are_passed_on_where_they_are_set() -> None:
    config = RedisConfig(
        REDIS_USE_SSL=True,
        REDIS_SSL_CA_CERTS="/ca",
        REDIS_SSL_CERTFILE="/cert",
        REDIS_SSL_KEYFILE="/key",
    )
    assert config.REDIS_TLS_OPTIONS == {
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": True,
        "ssl_ca_certs": "/ca",
        "ssl_certfile": "/cert",
        "ssl_keyfile": "/key",
    }


def test_without_a_certificate_check_there_is_no_name_check() -> None:
    config = RedisConfig(REDIS_USE_SSL=True, REDIS_SSL_CERT_REQS="none")
    assert config.REDIS_TLS_OPTIONS == {"ssl_cert_reqs": "none", "ssl_check_hostname": False}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDIS_HOST", ""),
        ("REDIS_HOST", "redis://h"),
        ("REDIS_HOST", "h:6379"),
        ("REDIS_PORT", 0),
        ("REDIS_PORT", 65536),
        ("REDIS_PORT", "x"),
        ("REDIS_DB", -1),
        ("REDIS_MAX_CONNECTIONS", 0),
        ("REDIS_PASSWORD", 1),
        ("REDIS_SSL_CERT_REQS", "maybe"),
        ("REDIS_SENTINELS", "h:x"),
        ("REDIS_CLUSTER_NODES", "h:x"),
        ("REDIS_SENTINEL_SOCKET_TIMEOUT", 0),
        ("REDIS_SENTINEL_SOCKET_TIMEOUT", float("inf")),
        ("REDIS_HOTS", "h"),
    ],
)
def test_a_bad_value_is_an_error_that_names_the_field(name: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        build(**{name: value})
    assert [error["loc"] for error in caught.value.errors()] == [(name,)]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"REDIS_USE_SENTINEL": True}, "REDIS_SENTINEL_MASTER_NAME"),
        (
            {
                "REDIS_USE_SENTINEL": True,
                "REDIS_SENTINEL_MASTER_NAME": "m",
                "REDIS_USE_CLUSTER": True,
            },
            "exclude each other",
        ),
        ({"REDIS_USE_CLUSTER": True, "REDIS_DB": 1}, "REDIS_DB"),
    ],
)
def test_values_that_do_not_fit_together_are_refused(
    values: dict[str, object], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        build(**values)


def test_secrets_are_in_no_repr_and_no_str() -> None:
    config = RedisConfig(
        REDIS_PASSWORD="s3cret",
        REDIS_USE_SENTINEL=True,
        REDIS_SENTINEL_MASTER_NAME="main",
        REDIS_SENTINEL_PASSWORD="s3cret",
    )
    assert "s3cret" not in repr(config)
    assert "s3cret" not in str(config)


def test_secrets_are_nowhere_in_an_error() -> None:
    with pytest.raises(ValidationError) as caught:
        RedisConfig(REDIS_PASSWORD="s3cret", REDIS_USE_SENTINEL=True)
    error = caught.value
    assert "s3cret" not in f"{error} {error!r} {error.errors()} {error.json()}"
    assert error.__cause__ is None
    assert error.__context__ is None
