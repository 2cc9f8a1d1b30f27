"""URLs of brokers and of result backends, as Celery and kombu read them."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Annotated, Final
from urllib.parse import urlsplit

from celery.app.backends import BACKEND_ALIASES
from kombu.transport import TRANSPORT_ALIASES
from pydantic import AfterValidator

from tomskit.errors import ConfigurationError
from tomskit.settings import Url
from tomskit.sqlalchemy.schemes import parse_database_url, synchronous
from tomskit.urls import RedisAddress, parse_redis_url

__all__ = ("BackendUrl", "BrokerUrl", "redis_address", "scheme_of")

_REDIS: Final = ("redis", "rediss")
_SENTINEL: Final = "sentinel"
_WITH_HOST: Final = frozenset({"amqp", "amqps", "pyamqp", "librabbitmq", "mongodb"})


def scheme_of(url: str) -> str:
    """What stands before ``://`` in the first of the URLs, or the whole text."""
    return url.partition("://")[0]


def redis_address(url: str) -> RedisAddress | None:
    """What the URL of one Redis server says; None for any other."""
    if ";" in url or scheme_of(url) not in _REDIS:
        return None
    return parse_redis_url(url)


def _broker_url(text: str | None) -> str | None:
    # kombu tries several URLs, separated by semicolons, in turn.
    for url in (text or "").split(";") if text is not None else ():
        scheme, separator, _ = url.partition("://")
        if not separator:
            raise ConfigurationError(
                "it is no URL: write redis://user:password@host:port/db, or that of another broker"
            )
        _check(url, scheme.partition("+")[0], TRANSPORT_ALIASES.keys(), "kombu", "transport")
    return text


def _backend_url(text: str | None) -> str | None:
    if text is None:
        return None
    scheme, separator, _ = text.partition("://")
    kind, plus, _ = scheme.partition("+")
    if kind in {"db", "database"} and separator:
        url = text.partition("+")[2] if plus else text
        synchronous(parse_database_url(url).scheme)
        return text
    for url in text.split(";") if kind == _SENTINEL else [text]:
        # Its parts may be written with or without the scheme.
        complete = url if "://" in url or not separator else f"{scheme}://{url}"
        _check(complete, kind, BACKEND_ALIASES.keys(), "Celery", "result backend")
    return text


def _check(url: str, kind: str, known: AbstractSet[str], library: str, what: str) -> None:
    # A path such as package.module:Class is imported when it is needed.
    if kind not in known and "." not in kind:
        # Without the text: where the scheme is missing, it begins with what may be a password.
        raise ConfigurationError(
            f"{library} knows no such {what}: the URL begins with one of {', '.join(sorted(known))}"
        )
    if kind in {*_REDIS, _SENTINEL}:
        parse_redis_url(url, schemes=(kind,))
        return
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ConfigurationError(
            "the URL's port is no number from 1 to 65535; "
            "in a user name or password write % / ? # @ : as %25 %2F %3F %23 %40 %3A"
        ) from None
    if kind in _WITH_HOST and (not host or port == 0):
        raise ConfigurationError("the URL names no host, or port 0")


BrokerUrl = Annotated[Url, AfterValidator(_broker_url)]
"""The URL of a broker that kombu knows, such as ``redis://user:password@host:port/db``."""

BackendUrl = Annotated[Url, AfterValidator(_backend_url)]
"""The URL of a result backend that Celery knows, such as ``redis://user:password@host:port/db``."""
