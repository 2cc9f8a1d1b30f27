"""Origin: of which app, and for which broker, a message in the table of messages is.

Several apps may have their messages in one database. Which broker a URL stands for cannot be seen from
the URL alone: another host may be a proxy, or where the same broker was moved to. So a broker is taken
for another one if its virtual host (with Redis its database and key prefix) is another one, or if both its
host and the app's name are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from tomskit.celery._app import AsyncApp
from tomskit.celery._settings.urls import redis_address

__all__ = ("origin_of", "patterns_of")

_PART: Final = 5
"""Characters of each part of an origin: 25 bits."""

_origins: Final[WeakKeyDictionary[AsyncApp, str]] = WeakKeyDictionary()


def origin_of(app: AsyncApp) -> str:
    """The end of the ids of an app's messages: what its virtual host, its host and its name are."""
    known = _origins.get(app)
    if known is None:
        with app.connection_for_write() as connection:
            # Whether it is encrypted, or found by Sentinels, says nothing about which one it is.
            family = connection.get_transport_cls().driver_type
            info: dict[str, Any] = connection.info()
            urls: list[str] = connection.alt
        options: Mapping[str, object] = app.conf.broker_transport_options or {}
        # kombu leaves the URL of a Unix socket in one piece.
        by_socket = redis_address(str(info["hostname"]))
        if by_socket is not None:
            info |= {"hostname": by_socket.host, "port": "", "virtual_host": str(by_socket.db)}
        virtual_host = _virtual_host(family, str(info["virtual_host"] or ""), options)
        parts = virtual_host, _host(info, urls), str(app.main or "")
        known = _origins[app] = "." + "".join(map(_short, parts))
    return known


def patterns_of(app: AsyncApp) -> tuple[str, str]:
    """What the ids of messages are like that an app may publish, for ``LIKE``."""
    origin = origin_of(app)
    virtual_host, host, name = (origin[1 + _PART * part :][:_PART] for part in range(3))
    anything = "_" * _PART
    return f"%.{virtual_host}{host}{anything}", f"%.{virtual_host}{anything}{name}"


def _virtual_host(family: str, name: str, options: Mapping[str, object]) -> str:
    name = name.strip("/")
    if family == "redis":
        name = f"{name or 0} {options.get('global_keyprefix') or ''}"
    return f"{family} {name}"


def _host(info: Mapping[str, Any], urls: list[str]) -> str:
    if len(urls) > 1:
        return ";".join(sorted(urlsplit(url).netloc.rpartition("@")[2] for url in urls))
    return f"{info['hostname']}:{info['port']}"


def _short(text: str) -> str:
    digest = int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8])
    return "".join(_ALPHABET[digest >> shift & 31] for shift in range(0, 5 * _PART, 5))


_ALPHABET: Final = "0123456789abcdefghijklmnopqrstuv"
