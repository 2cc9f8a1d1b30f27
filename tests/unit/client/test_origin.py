"""Which apps may publish each other's messages, as far as the ids of these tell."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tomskit.celery import AsyncCelery, CeleryConfig
from tomskit.celery._client.origin import origin_of, patterns_of


def app_of(url: str, name: str = "shop", **options: Any) -> AsyncCelery:
    app = AsyncCelery(name, config=CeleryConfig(), broker=url, set_as_current=False)
    app.conf.update(options)
    return app


def publishes(app: AsyncCelery, other: AsyncCelery) -> bool:
    """Whether an app publishes what another one has left."""
    row = f"{1:016x}{'v' * 16}{origin_of(other)}"
    assert len(row) <= 48
    patterns = [re.escape(one).replace("%", ".*").replace("_", ".") for one in patterns_of(app)]
    return any(re.fullmatch(one, row) for one in patterns)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("redis://a", "redis://:secret@a:6379/0"),
        ("redis://a/3", "rediss://b:6380/3?ssl_cert_reqs=none"),
        ("redis://a/3", "sentinel://b:26379/3;sentinel://c:26379/3"),
        ("amqp://a//", "pyamqp://me:secret@b:5673"),
        ("amqp://a/shop", "amqps://b/shop"),
        ("memory://", "memory://"),
        ("redis://a/3", "redis+socket://:secret@/a?virtual_host=3"),
    ],
)
def test_one_broker_may_have_several_urls(one: str, other: str) -> None:
    assert publishes(app_of(one), app_of(other))
    assert publishes(app_of(other), app_of(one))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("redis://a/0", "redis://a/1"),
        ("amqp://a/shop", "amqp://a/reports"),
        ("redis://a/1", "amqp://a/1"),
        ("redis+socket:///a", "redis+socket:///a?virtual_host=1"),
    ],
)
def test_another_virtual_host_is_another_broker(one: str, other: str) -> None:
    assert not publishes(app_of(one), app_of(other))
    assert not publishes(app_of(other), app_of(one))


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("redis://a", "redis://a", True),
        ("redis://a", "redis://a:6380", False),
        ("sentinel://a:1;sentinel://b:2", "sentinel://:secret@b:2;sentinel://a:1", True),
        ("amqp://a;amqp://b", "amqp://a;amqp://c", False),
        ("redis+socket:///a", "redis+socket://:secret@/a?virtual_host=0", True),
        ("redis+socket:///a", "redis+socket:///b", False),
    ],
)
def test_a_host_tells_apps_of_two_names_apart(one: str, other: str, is_same: bool) -> None:
    assert publishes(app_of(one, "web"), app_of(other, "worker")) is is_same


def test_a_key_prefix_tells_apps_apart() -> None:
    one = app_of("redis://a", broker_transport_options={"global_keyprefix": "one"})
    assert publishes(one, one)
    assert not publishes(one, app_of("redis://a"))


def test_an_app_needs_no_name() -> None:
    unnamed = AsyncCelery(config=CeleryConfig(), broker="redis://a", set_as_current=False)
    assert publishes(unnamed, app_of("redis://a"))
