"""CeleryConfig's broker: what kombu and the result backend read of it."""

from typing import cast

import pytest
from celery.backends.redis import RedisBackend, SentinelBackend
from kombu import Connection
from pydantic import ValidationError

from tests.support.settings import MakeApp, backend_of
from tomskit.celery import CeleryConfig
from tomskit.settings import SettingsWarning

SOCKETS = {
    "socket_timeout": 10.0,
    "socket_connect_timeout": 5.0,
    "socket_keepalive": True,
    "health_check_interval": 25.0,
}


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
    results = backend_of(app).connparams
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
    assert app.conf.broker_transport_options == {**SOCKETS, **options}
    assert app.conf.result_backend_transport_options == options
    assert isinstance(app.backend, SentinelBackend)
    results = backend_of(app).connparams
    hosts = cast("list[dict[str, object]]", results["hosts"])
    assert [(host["host"], host["port"]) for host in hosts] == [("a", 1), ("b", 26379), ("::1", 3)]
    assert (results["password"], results["db"]) == ("q w", 1)


def test_without_a_list_the_broker_is_the_one_sentinel(make_app: MakeApp) -> None:
    with pytest.warns(SettingsWarning, match="CELERY_RESULT_BACKEND_REDIS_HOST has no effect"):
        config = CeleryConfig(
            CELERY_USE_SENTINEL=True,
            CELERY_SENTINEL_MASTER_NAME="master",
            CELERY_BROKER_REDIS_HOST="watch",
            CELERY_BROKER_REDIS_PORT=26380,
            CELERY_RESULT_BACKEND_REDIS_HOST="elsewhere",
        )
    assert config.CELERY_BROKER_URL == "sentinel://watch:26380/0"
    assert config.CELERY_RESULT_BACKEND == "sentinel://watch:26380/1"


def test_without_sentinels_the_transport_options_are_those_of_sockets() -> None:
    config = CeleryConfig()
    assert config.CELERY_BROKER_TRANSPORT_OPTIONS == SOCKETS
    assert config.CELERY_RESULT_BACKEND_TRANSPORT_OPTIONS == {}


def test_the_visibility_timeout_is_a_transport_option() -> None:
    config = CeleryConfig(CELERY_BROKER_VISIBILITY_TIMEOUT=60)
    assert config.CELERY_BROKER_TRANSPORT_OPTIONS == {**SOCKETS, "visibility_timeout": 60}


def test_the_timeouts_of_sockets_reach_kombu(make_app: MakeApp) -> None:
    app = make_app(
        CeleryConfig(
            CELERY_BROKER_SOCKET_TIMEOUT=7,
            CELERY_BROKER_SOCKET_CONNECT_TIMEOUT=3,
            CELERY_BROKER_SOCKET_KEEPALIVE=False,
            CELERY_BROKER_HEALTH_CHECK_INTERVAL=0,
        )
    )
    found = {name: app.conf.broker_transport_options[name] for name in SOCKETS}
    assert found == {
        "socket_timeout": 7,
        "socket_connect_timeout": 3,
        "socket_keepalive": False,
        "health_check_interval": 0,
    }


def test_a_timeout_that_is_shorter_than_a_blocking_command_is_refused() -> None:
    with pytest.raises(ValidationError, match="CELERY_BROKER_SOCKET_TIMEOUT"):
        CeleryConfig(CELERY_BROKER_SOCKET_TIMEOUT=0.5)


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
    assert str(backend_of(app).connparams["ssl_cert_reqs"]) == "2"  # ssl.CERT_REQUIRED


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


def test_a_broker_url_is_read_by_kombu_alone() -> None:
    connection = Connection(CeleryConfig(CELERY_BROKER_REDIS_DB=3).CELERY_BROKER_URL)
    assert (connection.transport_cls, connection.virtual_host) == ("redis", "3")
