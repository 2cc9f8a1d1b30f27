"""URLs of a Redis that is reached by a Unix socket."""

import sys
from collections.abc import Callable
from typing import Any, cast

import pytest
import redis
from celery import Celery
from pydantic import ValidationError

from tests.support.settings import MakeApp, backend_of, build
from tomskit import TomsKitBaseSettings
from tomskit.celery import AsyncCelery, CeleryConfig
from tomskit.redis import RedisConfig
from tomskit.settings import SettingsWarning

SOCKET = "redis+socket://me:p%20w@/run/redis.sock"
LONGEST = 107 if sys.platform == "linux" else 103

Build = Callable[..., TomsKitBaseSettings]
build_redis = cast("Build", RedisConfig)


def parameters_of_broker(app: Celery) -> dict[str, Any]:
    """What redis-py is told."""
    with app.connection_for_write() as connection:
        channel: Any = cast("Any", connection.transport).Channel
        made = channel.__new__(channel)
        made.connection = connection.transport
        made.connection.client = connection
        for name, value in app.conf.broker_transport_options.items():
            setattr(made, name, value)
        parameters: dict[str, Any] = made._connparams()
    return parameters


def test_celery_and_kombu_reach_it(make_app: MakeApp) -> None:
    config = build(
        CELERY_BROKER_URL=f"{SOCKET}?virtual_host=3", CELERY_RESULT_BACKEND=f"{SOCKET}?db=4"
    )

    app = make_app(config)

    for parameters, db in ((parameters_of_broker(app), 3), (backend_of(app).connparams, 4)):
        assert parameters["connection_class"] is redis.UnixDomainSocketConnection
        assert (parameters["path"], parameters["db"]) == ("/run/redis.sock", db)
        assert (parameters["username"], parameters["password"]) == ("me", "p w")
        assert parameters["socket_timeout"] == 10
    used = {config.CELERY_BROKER_URL, config.CELERY_RESULT_BACKEND}
    assert used == {f"{SOCKET}?virtual_host=3", f"{SOCKET}?db=4"}


def test_results_number_their_database_as_the_broker_does(make_app: MakeApp) -> None:
    app = make_app(build(CELERY_RESULT_BACKEND=f"{SOCKET}?virtual_host=4"))

    assert backend_of(app).connparams["db"] == 4


def test_plain_celery_takes_the_settings() -> None:
    """Celery passes options of TCP on to redis-py, which does not take them."""
    config = build(CELERY_BROKER_URL=SOCKET, CELERY_RESULT_BACKEND=SOCKET)
    app = Celery(set_as_current=False, changes=config.celery_settings())

    parameters = backend_of(app).connparams

    redis.ConnectionPool(**cast("dict[str, Any]", parameters)).make_connection()


def test_an_app_may_set_it_past_the_settings() -> None:
    app = AsyncCelery(config=CeleryConfig(), set_as_current=False)
    app.conf.update(result_backend=SOCKET)

    parameters: dict[str, Any] = backend_of(app).connparams

    assert parameters["socket_connect_timeout"] == 5
    redis.ConnectionPool(**parameters).make_connection()


@pytest.mark.parametrize("name", ["CELERY_WORKER_REDIS_URL", "REDIS_URL"])
@pytest.mark.parametrize(
    "url",
    [
        "unix://me:p%20w@/run/redis.sock?db=5",
        "redis+socket://me:p%20w@/run/redis.sock?virtual_host=5",
        "redis+socket://me:p%20w@/run/redis.sock?db=5",
    ],
)
def test_redis_client_has_the_url_of_redis_py_and_that_of_celery(name: str, url: str) -> None:
    made = build(**{name: url}) if name != "REDIS_URL" else build_redis(**{name: url})

    config = made.redis_config() if isinstance(made, CeleryConfig) else made
    assert isinstance(config, RedisConfig)
    # redis-py reads it.
    cast("Any", redis.Redis).from_url(config.REDIS_URL).close()
    assert config.REDIS_URL == "unix://me:p%20w@/run/redis.sock?db=5"
    assert (config.REDIS_HOST, config.REDIS_DB) == ("/run/redis.sock", 5)
    assert (config.REDIS_USERNAME, config.REDIS_PASSWORD) == ("me", "p w")


def test_the_url_follows_what_is_changed() -> None:
    config = RedisConfig(REDIS_URL="unix://:p%20w@/run/a%3Fb")

    assert config.model_copy(update={"REDIS_DB": 2}).REDIS_URL == "unix://:p%20w@/run/a%3Fb?db=2"
    assert config.model_copy(update={"REDIS_HOST": "h"}).REDIS_URL == "redis://:p%20w@h:6379/0"


def test_parts_beside_the_url_have_no_effect(make_app: MakeApp) -> None:
    with pytest.warns(SettingsWarning, match="Remove either CELERY_BROKER_URL or .*USE_SSL"):
        config = build(CELERY_BROKER_URL=SOCKET, CELERY_BROKER_REDIS_USE_SSL=True)

    assert not make_app(config).conf.broker_use_ssl


@pytest.mark.parametrize(
    ("make", "url", "name"),
    [
        (build, "CELERY_BROKER_URL", "CELERY_BROKER_SOCKET_KEEPALIVE"),
        (build, "CELERY_RESULT_BACKEND", "CELERY_RESULT_SOCKET_KEEPALIVE"),
        (build, "CELERY_WORKER_REDIS_URL", "CELERY_WORKER_REDIS_SOCKET_KEEPALIVE"),
        (build_redis, "REDIS_URL", "REDIS_SOCKET_KEEPALIVE"),
    ],
)
def test_there_is_nothing_to_probe(make: Build, url: str, name: str) -> None:
    with pytest.warns(SettingsWarning, match=f"{name} has no effect: .* Unix socket"):
        make(**{url: SOCKET, name: True})


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("redis+socket://:hush@run/x", "begins with /, and no host .* write redis.socket://"),
        ("redis+socket://:hush@:6379/x", "begins with /, and no host stands before it"),
        ("redis+socket://:hu/sh@/x", "begins with /"),
        ("redis+socket://[/x", "begins with /"),
        ("redis+socket://:hush@", "names no path"),
        ("redis+socket://:hush@/", "names no path"),
        ("redis+socket://:hush@/x#y", "names no path.* write .*%23"),
        ("redis+socket://:hush@/x%00y", "names no path"),
        (f"redis+socket://:hush@/{'x' * LONGEST}", f"may have {LONGEST} bytes: .*shorter"),
        (f"redis+socket://:hush@/{'%C3%A9' * LONGEST}", f"may have {LONGEST} bytes"),
        ("redis+socket://:hush@/x?virtual_host=one", "is a number"),
        ("unix://:hush@/x", r"by a Unix socket with redis\+socket://"),
        ("socket://:hush@/x", r"by a Unix socket with redis\+socket://"),
        ("rediss+socket://:hush@/x", r"by a Unix socket with redis\+socket://"),
        ("sentinel+socket://:hush@/x", r"by a Unix socket with redis\+socket://"),
    ],
)
def test_what_cannot_be_reached_is_refused(url: str, reason: str) -> None:
    for name in ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_RESULT_BACKEND"):
        with pytest.raises(ValidationError, match=reason) as caught:
            build(**{name: url})
        assert "hush" not in str(caught.value)


def test_the_longest_path_is_taken() -> None:
    path = f"/{'x' * (LONGEST - 1)}"

    assert build_redis(REDIS_URL=f"unix://{path}").model_dump()["REDIS_HOST"] == path


@pytest.mark.parametrize(
    ("name", "url", "reason"),
    [
        (
            "CELERY_BROKER_URL",
            "redis+socket:///x?db=1",
            r"\(db\): a database number is .virtual_host=",
        ),
        ("CELERY_BROKER_URL", "redis+socket:///x?socket_timeout=3", "settings of their own"),
        ("CELERY_BROKER_URL", "redis+socket:///x?password=hush", "in front of the path"),
        ("CELERY_BROKER_URL", "redis+socket:///x;redis://h", "kombu cannot change from one server"),
        ("CELERY_RESULT_BACKEND", "redis+socket:///x?password=hush", "in front of the path"),
        ("CELERY_RESULT_BACKEND", "redis+socket:///x?socket_keepalive=1", "redis-py does not take"),
        ("CELERY_RESULT_BACKEND", "redis+socket:///x?ssl_cert_reqs=none", "redis-py does not take"),
        (
            "CELERY_WORKER_REDIS_URL",
            "unix:///x?socket_timeout=3",
            "options in the URL are not read",
        ),
    ],
)
def test_options_that_their_reader_does_not_take_are_refused(
    name: str, url: str, reason: str
) -> None:
    with pytest.raises(ValidationError, match=reason) as caught:
        build(**{name: url})
    assert "hush" not in str(caught.value)


def test_options_that_their_reader_takes_reach_it(make_app: MakeApp) -> None:
    app = make_app(
        build(
            CELERY_BROKER_URL=f"{SOCKET}?client_name=sender",
            CELERY_RESULT_BACKEND=f"{SOCKET}?socket_timeout=4&health_check_interval=7",
        )
    )

    assert parameters_of_broker(app)["client_name"] == "sender"
    parameters = backend_of(app).connparams
    assert (parameters["socket_timeout"], parameters["health_check_interval"]) == (4.0, 7)


@pytest.mark.parametrize("other", ["REDIS_USE_SENTINEL", "REDIS_USE_CLUSTER"])
def test_sentinels_and_clusters_are_elsewhere(other: str) -> None:
    with pytest.raises(ValidationError, match=f"names a Unix socket: leave {other} out"):
        build_redis(REDIS_URL="unix:///x", REDIS_SENTINEL_MASTER_NAME="m", **{other: True})


def test_no_sentinel_is_a_unix_socket() -> None:
    with pytest.raises(ValidationError, match="needs CELERY_SENTINELS: sentinels are not reached"):
        build(CELERY_BROKER_URL=SOCKET, CELERY_USE_SENTINEL=True, CELERY_SENTINEL_MASTER_NAME="m")


def test_what_is_shown_has_no_password(make_app: MakeApp) -> None:
    config = build(
        CELERY_BROKER_URL=SOCKET, CELERY_RESULT_BACKEND=SOCKET, CELERY_WORKER_REDIS_URL=SOCKET
    )
    app = make_app(config)

    with app.connection_for_write() as connection:
        shown = [repr(config), config.model_dump_json(), app.bugreport(), repr(app.conf)]
        shown += [repr(connection), connection.as_uri(), app.backend.as_uri()]

    assert [text for text in shown if "p%20w" in text or "p w" in text] == []
    assert "redis+socket://me:********@/run/redis.sock" in app.bugreport()
