"""URLs of brokers and of result backends, as Celery and kombu read them."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from difflib import get_close_matches
from functools import cache
from inspect import signature
from typing import Annotated, Final
from urllib.parse import parse_qsl, urlsplit

from celery.app.backends import BACKEND_ALIASES
from kombu.transport import TRANSPORT_ALIASES
from pydantic import AfterValidator
from redis import Connection, SSLConnection, UnixDomainSocketConnection

from tomskit.addresses import RedisAddress
from tomskit.errors import ConfigurationError
from tomskit.settings import Url
from tomskit.sqlalchemy.schemes import parse_database_url, synchronous
from tomskit.urls import named_options, parse_redis_url, synchronous_scheme

__all__ = ("REDIS_SCHEMES", "BackendUrl", "BrokerUrl", "redis_address", "scheme_of")

_REDIS: Final = ("redis", "rediss")
_SENTINEL: Final = "sentinel"
_SOCKET: Final = "redis+socket"
REDIS_SCHEMES: Final = frozenset({*_REDIS, _SENTINEL, _SOCKET})
"""Those of brokers and result backends that are Redis."""
_READ_BY_TRANSPORTS: Final = frozenset(
    {"azureservicebus", "azurestoragequeues", "gcpubsub", "mongodb", "sqla", "sqlalchemy"}
)
"""Schemes of URLs that kombu leaves to the transport; others it takes apart itself."""
_OPTIONS_OF_KOMBU: Final = frozenset(
    {"heartbeat", "connect_timeout", "login_method", "insist", "credential_provider"}
)
_OPTIONS_OF_SOCKETS: Final = frozenset({"client_name", "credential_provider"})
"""What kombu passes on from the URL of a Unix socket as a text, and redis-py takes as one."""
_ALIKE: Final = 0.7
"""How much of a scheme must agree: a letter or two may be wrong."""
_WITH_HOST: Final = frozenset({"amqp", "amqps", "pyamqp", "librabbitmq", "mongodb"})


def scheme_of(url: str) -> str:
    """What stands before ``://`` in the first of the URLs, or the whole text."""
    return url.partition("://")[0]


def redis_address(url: str) -> RedisAddress | None:
    """What the URL of one Redis server says; None for any other."""
    if ";" in url or scheme_of(url) not in {*_REDIS, _SOCKET}:
        return None
    return parse_redis_url(url)


def _broker_url(text: str | None) -> str | None:
    # kombu tries several URLs, separated by semicolons, in turn.
    urls = [] if text is None else text.split(";")
    if len(urls) > 1 and _SOCKET in map(scheme_of, urls):
        raise ConfigurationError(
            f"kombu cannot change from one server to another where one is reached by a Unix socket: write "
            f"one {_SOCKET}:// URL, in its path a semicolon as %3B"
        )
    for url in urls:
        scheme, separator, _ = url.partition("://")
        if not separator:
            raise ConfigurationError(
                "it is not a URL: write redis://user:password@host:port/db, or that of another broker"
            )
        _check(url, scheme.partition("+")[0], TRANSPORT_ALIASES.keys(), "kombu", "transport")
        if scheme == _SOCKET:
            _check_socket_for_kombu(url)
        elif scheme.isalpha() and scheme not in _READ_BY_TRANSPORTS:
            _check_for_kombu(url)
    return text


def _check_for_kombu(url: str) -> None:
    parts = urlsplit(url)
    unknown = [
        one
        for one in dict(parse_qsl(parts.query, keep_blank_values=True))
        if not one.startswith("ssl_") and one not in _OPTIONS_OF_KOMBU
    ]
    if unknown:
        raise ConfigurationError(
            f"kombu does not take these options in the URL of a broker{named_options(unknown)}: a "
            "database number stands after the host and /, the rest are settings of their own"
        )
    if parts.scheme in {*_REDIS, _SENTINEL} and parts.path.strip("/") and parts.path.endswith("/"):
        raise ConfigurationError("the URL ends with the database number, without a / behind it")


def _check_socket_for_kombu(url: str) -> None:
    options = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
    unknown = options.keys() - _OPTIONS_OF_SOCKETS - {"virtual_host"}
    if unknown:
        raise ConfigurationError(
            f"kombu does not take these options in the URL of a broker{named_options(unknown)}: a "
            "database number is ?virtual_host=, user name and password stand in front of the path, and "
            "the rest are settings of their own"
        )


def _backend_url(text: str | None) -> str | None:
    if text is None:
        return None
    scheme, separator, _ = text.partition("://")
    kind, plus, _ = scheme.partition("+")
    if kind in {"db", "database"} and separator:
        url = text.partition("+")[2] if plus else text
        database = synchronous(parse_database_url(url).scheme)
        # Without a driver SQLAlchemy takes one that is hardly installed.
        return text.replace(f"{database}://", f"{synchronous_scheme(database)}://", 1)
    for url in text.split(";") if kind == _SENTINEL else [text]:
        # Its parts may be written with or without the scheme.
        complete = url if "://" in url or not separator else f"{scheme}://{url}"
        _check(complete, kind, BACKEND_ALIASES.keys(), "Celery", "result backend")
        if kind in {*_REDIS, _SENTINEL}:
            _check_for_redis(complete)
    return text


def _check_for_redis(url: str) -> None:
    options = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
    by_socket = scheme_of(url) == _SOCKET
    known = _options_of_redis(by_socket=by_socket) | {"virtual_host", "max_connections"}
    unknown = options.keys() - (known - {"username", "password", "path"})
    if unknown:
        raise ConfigurationError(
            f"redis-py does not take these options in the URL{named_options(unknown)}: user "
            f"name and password stand in front of the {'path' if by_socket else 'host'}"
        )


@cache
def _options_of_redis(*, by_socket: bool) -> frozenset[str]:
    classes = (UnixDomainSocketConnection,) if by_socket else (Connection, SSLConnection)
    kinds = {base for one in classes for base in one.__mro__} - {object}
    return frozenset(name for one in kinds for name in signature(one).parameters)


def _check(url: str, kind: str, known: AbstractSet[str], library: str, what: str) -> None:
    scheme = scheme_of(url)
    if scheme != _SOCKET and (
        kind in {"unix", "socket"} or (kind in {*_REDIS, _SENTINEL} and "+socket" in scheme)
    ):
        raise ConfigurationError(
            f"{library} reaches Redis by a Unix socket with {_SOCKET}://user:password@/path?virtual_host=db"
        )
    # A path such as package.module:Class is imported when it is needed.
    if kind not in known and "." not in kind:
        # Without the text: where the scheme is missing, it begins with what may be a password.
        raise ConfigurationError(f"{library} knows no such {what}: {_meant(url, kind, known)}")
    if kind in {*_REDIS, _SENTINEL}:
        parse_redis_url(url, schemes=(_SOCKET if scheme == _SOCKET else kind,))
        return
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ConfigurationError(
            "the URL's port is not a number from 1 to 65535; "
            "in a user name or password write % / ? # @ : as %25 %2F %3F %23 %40 %3A"
        ) from None
    if kind in _WITH_HOST and (not host or port == 0):
        raise ConfigurationError("the URL names no host, or port 0")


def _meant(url: str, kind: str, known: AbstractSet[str]) -> str:
    # kombu has some names in capitals as well.
    names = sorted({name.lower() for name in known})
    if "://" in url and (nearest := get_close_matches(kind, names, n=1, cutoff=_ALIKE)):
        return f"did you mean {nearest[0]}://?"
    return f"the URL begins with one of {', '.join(names)}"


BrokerUrl = Annotated[Url, AfterValidator(_broker_url)]
"""The URL of a broker that kombu knows, such as ``redis://user:password@host:port/db``.

By a Unix socket it is ``redis+socket://user:password@/path?virtual_host=db``.
"""

BackendUrl = Annotated[Url, AfterValidator(_backend_url)]
"""The URL of a result backend that Celery knows, such as ``redis://user:password@host:port/db``.

By a Unix socket it is as that of a broker.
"""
