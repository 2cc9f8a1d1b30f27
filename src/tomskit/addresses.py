"""What the URL of a Redis server says, and how that of a Unix socket is read; no I/O."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from tomskit.errors import ConfigurationError

__all__ = (
    "ENCODED",
    "NUMBER",
    "REDIS_PORT",
    "SOCKET_SCHEMES",
    "RedisAddress",
    "is_socket",
    "parse_socket_url",
)

REDIS_PORT: Final = 6379

ENCODED: Final = "; in a user name or password write % / ? # @ : as %25 %2F %3F %23 %40 %3A"
"""The end of what is said of a URL that cannot be read."""

NUMBER: Final = re.compile("[0-9]{1,9}")
"""That of a database."""


class RedisAddress(NamedTuple):
    """What the URL of a Redis server says."""

    host: str
    """The path of its Unix socket, where it is reached by one; the port then means nothing."""
    port: int
    db: int
    username: str | None
    password: str | None
    tls: bool
    options: Mapping[str, str]
    """The query, without the database number."""


def is_socket(host: str) -> bool:
    """Whether a server is reached by a Unix socket: no host begins with a slash."""
    return host.startswith("/")


SOCKET_SCHEMES: Final = ("redis+socket", "unix")
"""Those of Celery and kombu, and of redis-py."""

_NUMBERED_BY: Final = ("db", "virtual_host")
"""What the number of the database is called: by redis-py and Celery, which prefer it, and by kombu and Celery."""

_LONGEST: Final = 107 if sys.platform == "linux" else 103
"""How many bytes the path of a Unix socket may have."""


def parse_socket_url(scheme: str, rest: str) -> RedisAddress:
    """Parse ``redis+socket://user:password@/path?virtual_host=db``, or ``unix://user:password@/path?db=db``.

    Args:
        scheme: What stands before ``://``.
        rest: What stands behind it.

    Raises:
        ConfigurationError: It is no such URL. The message does not contain the text, which may hold
            a password.
    """
    written = f"write {scheme}://:password@/path{ENCODED}"
    try:
        parts = urlsplit(f"redis://{rest}", allow_fragments=False)
    except ValueError:  # an IPv6 address that does not end
        parts = urlsplit("redis://host")
    where, path = parts.netloc.rpartition("@")[2], unquote(parts.path)
    if where:
        raise ConfigurationError(
            f"the path of a Unix socket begins with /, and no host stands before it: {written}"
        )
    # What follows a # is no part of the path to who reads the URL.
    if not path.strip("/") or "#" in parts.path or "\0" in path:
        raise ConfigurationError(f"the URL names no path of a Unix socket: {written}")
    if len(os.fsencode(path)) > _LONGEST:
        raise ConfigurationError(
            f"the path of a Unix socket may have {_LONGEST} bytes: let Redis listen at a shorter one, or make "
            "a symbolic link to its folder"
        )
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    numbers = [options.pop(name, "").strip("/") for name in _NUMBERED_BY]
    db = next(filter(None, numbers), "0")
    if not NUMBER.fullmatch(db):
        raise ConfigurationError("the database in the URL of a Unix socket is a number")
    return RedisAddress(
        host=path,
        port=REDIS_PORT,
        db=int(db),
        username=unquote(parts.username or "") or None,
        password=unquote(parts.password or "") or None,
        tls=False,
        options=options,
    )
