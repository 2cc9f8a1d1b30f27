"""Settings that have no effect are named in a warning, with what would change that."""

import warnings
from collections.abc import Callable, Mapping
from typing import Final, cast

import pytest

from tomskit import TomsKitBaseSettings
from tomskit.celery import CeleryConfig
from tomskit.redis import RedisConfig
from tomskit.settings import SettingsWarning

Build = Callable[..., TomsKitBaseSettings]

IGNORED: Final[tuple[tuple[type[TomsKitBaseSettings], Mapping[str, str], str], ...]] = (
    (RedisConfig, {"REDIS_CLUSTER_NODES": "a:1"}, "REDIS_USE_CLUSTER=true"),
    (RedisConfig, {"REDIS_SENTINELS": "a:1"}, "REDIS_USE_SENTINEL=true"),
    (RedisConfig, {"REDIS_SSL_CA_CERTS": "/ca.pem"}, "REDIS_USE_SSL=true"),
    (CeleryConfig, {"CELERY_SENTINELS": "a:1"}, "CELERY_USE_SENTINEL=true"),
    (CeleryConfig, {"CELERY_SENTINEL_PASSWORD": "hush"}, "CELERY_USE_SENTINEL=true"),
    *(
        (
            CeleryConfig,
            {f"CELERY_{part}_REDIS_SSL_CERT_REQS": "none"},
            f"CELERY_{part}_REDIS_USE_SSL=true",
        )
        for part in ("BROKER", "RESULT_BACKEND", "WORKER")
    ),
    (
        CeleryConfig,
        {"CELERY_RESULT_BACKEND_DATABASE_URI_SCHEME": "postgresql"},
        "CELERY_RESULT_BACKEND_TYPE=database",
    ),
)
WITH_OTHERS: Final[
    tuple[tuple[type[TomsKitBaseSettings], Mapping[str, str], Mapping[str, str], str], ...]
] = (
    (
        RedisConfig,
        {"REDIS_USE_CLUSTER": "1", "REDIS_CLUSTER_NODES": "a:1"},
        {"REDIS_PORT": "7000"},
        "REDIS_CLUSTER_NODES says where",
    ),
    # The nodes without a port have that one.
    (
        RedisConfig,
        {"REDIS_USE_CLUSTER": "1", "REDIS_CLUSTER_NODES": "a:1,b", "REDIS_PORT": "7000"},
        {"REDIS_HOST": "c"},
        "REDIS_CLUSTER_NODES says where",
    ),
    (
        RedisConfig,
        {
            "REDIS_USE_SENTINEL": "1",
            "REDIS_SENTINELS": "a:1",
            "REDIS_SENTINEL_MASTER_NAME": "main",
        },
        {"REDIS_HOST": "b"},
        "REDIS_SENTINELS says where",
    ),
    (
        CeleryConfig,
        {
            "CELERY_USE_SENTINEL": "1",
            "CELERY_SENTINELS": "a:1",
            "CELERY_SENTINEL_MASTER_NAME": "main",
        },
        {"CELERY_BROKER_REDIS_HOST": "b", "CELERY_RESULT_BACKEND_REDIS_HOST": "c"},
        "the sentinels say where",
    ),
    (
        CeleryConfig,
        {"CELERY_BROKER_URL": "sentinel://a:1", "CELERY_SENTINEL_MASTER_NAME": "main"},
        {"CELERY_SENTINELS": "b:1"},
        "a URL says where the sentinels are",
    ),
    (
        CeleryConfig,
        {"CELERY_RESULT_BACKEND": "rpc://"},
        {"CELERY_RESULT_SOCKET_TIMEOUT": "3"},
        "the result backend is not Redis",
    ),
    (
        CeleryConfig,
        {"CELERY_BROKER_URL": "amqp://a"},
        {"CELERY_BROKER_SOCKET_KEEPALIVE": "true", "CELERY_REDIS_FAST_PATH": "true"},
        "the broker is not Redis",
    ),
)


def remarks_on(config: type[TomsKitBaseSettings], settings: Mapping[str, str]) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cast("Build", config)(**settings)
    assert all(one.category is SettingsWarning for one in caught)
    return [str(one.message) for one in caught]


@pytest.mark.parametrize(("config", "settings", "way_out"), IGNORED)
def test_a_setting_whose_switch_is_off_is_named(
    config: type[TomsKitBaseSettings], settings: Mapping[str, str], way_out: str
) -> None:
    [remark] = remarks_on(config, settings)

    assert remark.startswith(f"{', '.join(sorted(settings))} has no effect: ")
    assert way_out in remark
    assert "hush" not in remark


@pytest.mark.parametrize(("config", "settings", "way_out"), IGNORED)
def test_so_is_one_of_the_environment(
    config: type[TomsKitBaseSettings],
    settings: Mapping[str, str],
    way_out: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, text in settings.items():
        monkeypatch.setenv(name, text)

    [remark] = remarks_on(config, {})

    assert way_out in remark


@pytest.mark.parametrize(("config", "settings", "ignored", "reason"), WITH_OTHERS)
def test_a_setting_that_another_one_replaces_is_named(
    config: type[TomsKitBaseSettings],
    settings: Mapping[str, str],
    ignored: Mapping[str, str],
    reason: str,
) -> None:
    assert remarks_on(config, settings) == []

    [remark] = remarks_on(config, {**settings, **ignored})

    assert remark.startswith(f"{', '.join(sorted(ignored))} ha")
    assert reason in remark


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        (RedisConfig, {"REDIS_USE_SSL": "1", "REDIS_SSL_CA_CERTS": "/ca.pem"}),
        (RedisConfig, {"REDIS_URL": "rediss://a", "REDIS_SSL_CA_CERTS": "/ca.pem"}),
        (
            CeleryConfig,
            {"CELERY_RESULT_BACKEND": "sentinel://a:1", "CELERY_SENTINEL_MASTER_NAME": "main"},
        ),
        (
            CeleryConfig,
            {"CELERY_BROKER_URL": "rediss://a", "CELERY_BROKER_REDIS_SSL_CERT_REQS": "none"},
        ),
        (CeleryConfig, {"CELERY_BROKER_URL": "amqp://a", "CELERY_REDIS_FAST_PATH": "false"}),
        # Somebody has decided.
        (RedisConfig, {"REDIS_USE_SENTINEL": "0", "REDIS_SENTINEL_MASTER_NAME": "main"}),
        (RedisConfig, {"REDIS_USE_CLUSTER": "0", "REDIS_CLUSTER_NODES": "a:1"}),
        (CeleryConfig, {"CELERY_USE_SENTINEL": "0", "CELERY_SENTINELS": "a:1"}),
    ],
)
def test_what_has_an_effect_is_not(
    config: type[TomsKitBaseSettings], settings: Mapping[str, str]
) -> None:
    assert remarks_on(config, settings) == []
