"""Build and parse the URLs of Redis servers, sentinels and databases; no I/O.

User names and passwords are percent-encoded, so that the reader of the URL (kombu, Celery,
redis-py, SQLAlchemy) decodes them to exactly the same text: all of them decode ``%xx`` there, and
none of them decodes ``+`` to a space.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from ipaddress import IPv6Address
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from tomskit.addresses import (
    ENCODED,
    NUMBER,
    REDIS_PORT,
    SOCKET_SCHEMES,
    RedisAddress,
    is_socket,
    parse_socket_url,
)
from tomskit.errors import ConfigurationError

__all__ = (
    "HostPort",
    "database_query",
    "database_url",
    "host_name",
    "is_sqlite",
    "named_options",
    "parse_extras",
    "parse_nodes",
    "parse_redis_url",
    "query_string",
    "redis_url",
    "sentinel_url",
    "synchronous_scheme",
)


class HostPort(NamedTuple):
    """The address of a server."""

    host: str
    port: int


def redis_url(
    host: str,
    port: int,
    db: int,
    *,
    username: str | None = None,
    password: str | None = None,
    tls: bool = False,
) -> str:
    """Build the ``redis://`` URL of one server; with `tls` it is ``rediss://``.

    Where `host` is the path of a Unix socket it is redis-py's own, ``unix://``.
    """
    if is_socket(host):
        return f"unix://{_credentials(username, password)}{quote(host)}?db={db}"
    scheme = "rediss" if tls else "redis"
    return f"{scheme}://{_credentials(username, password)}{_netloc(_encoded(host), port)}/{db}"


_REDIS_SCHEMES: Final = ("redis", "rediss", *SOCKET_SCHEMES)


def parse_redis_url(text: str, *, schemes: Sequence[str] = _REDIS_SCHEMES) -> RedisAddress:
    """Parse ``redis://user:password@host:port/db?option=value``; without a port it is 6379.

    Or, of a Unix socket, ``redis+socket://user:password@/path?virtual_host=db``, as Celery writes it, or
    ``unix://user:password@/path?db=db``, as redis-py does.

    Raises:
        ConfigurationError: It is no such URL. The message does not contain the text, which may hold
            a password.
    """
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in schemes:
        raise ConfigurationError(f"the URL begins with one of {', '.join(schemes)}, and ://")
    if scheme in SOCKET_SCHEMES:
        return parse_socket_url(scheme, rest)
    try:
        parts = urlsplit(f"redis://{rest}", allow_fragments=False)
        host, port = host_name(unquote(parts.hostname or "")), parts.port
    except ValueError:
        raise ConfigurationError(
            f"the URL names no host, or a port that is not a number from 1 to {_LAST_PORT}{ENCODED}"
        ) from None
    if port == 0:
        raise ConfigurationError(f"the URL's port is not a number from 1 to {_LAST_PORT}")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    db = options.pop("db", None) or parts.path.strip("/") or "0"
    if not NUMBER.fullmatch(db):
        raise ConfigurationError(f"after the host and / the URL has a database number{ENCODED}")
    return RedisAddress(
        host=host,
        port=port or REDIS_PORT,
        db=int(db),
        username=unquote(parts.username or "") or None,
        password=unquote(parts.password or "") or None,
        tls=scheme == "rediss",
        options=options,
    )


def named_options(options: Iterable[str]) -> str:
    """The names of a URL's options, for a message.

    Only what looks like one: of a password with a ``?`` that is not encoded, a part is taken for them.
    """
    names = [one for one in sorted(options) if _OPTION.fullmatch(one)]
    return f" ({', '.join(names)})" if names else ""


_OPTION: Final = re.compile(
    r"(ssl|socket|retry|health|client|max|decode|virtual)_[a-z_]+|db|protocol|timeout"
)


def sentinel_url(
    nodes: Iterable[HostPort],
    db: int,
    *,
    username: str | None = None,
    password: str | None = None,
) -> str:
    """Build a ``sentinel://`` URL for each node, joined with ``;``: kombu and Celery split there."""
    auth = _credentials(username, password)
    return ";".join(
        f"sentinel://{auth}{_netloc(_encoded(node.host), node.port)}/{db}" for node in nodes
    )


# These characters end a host in a URL or in a list of nodes; "%" may only precede the zone of an
# IPv6 address.
_NOT_IN_A_HOST: Final = re.compile(r"[\s\x00-\x1f\x7f/\\?#@%\[\]<>,;]")


def host_name(text: str) -> str:
    """Check that `text` is a host name or an IP address, and remove an IPv6 address's brackets.

    Raises:
        ConfigurationError: It is neither, such as a URL or a host with a port. The message does not
            contain the text, which may be a URL with a password.
    """
    host = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if ":" in host:
        address, _, zone = host.partition("%")
        valid = _is_ipv6(address) and not _NOT_IN_A_HOST.search(zone)
    else:
        valid = host == text and host != "" and not _NOT_IN_A_HOST.search(host)
    if not valid:
        raise ConfigurationError(
            "a host is a name or an IP address: without scheme, credentials, port or path"
        )
    return host


def _is_ipv6(address: str) -> bool:
    try:
        IPv6Address(address)
    except ValueError:
        return False
    return True


def parse_nodes(text: str, *, default_port: int) -> list[HostPort]:
    """Parse ``"host:port,host:port"``; the port is optional, IPv6 addresses need brackets.

    Raises:
        ConfigurationError: A node has no host, or a port that is not a number from 1 to 65535. The
            message gives the node's position in the list, not its text.
    """
    return [
        _node(part.strip(), default_port, number)
        for number, part in enumerate(text.split(","), start=1)
        if part.strip()
    ]


# An IPv6 address without brackets does not match: its last group would be taken for a port.
_NODE: Final = re.compile(r"(?P<host>\[[^\]]*\]|[^:]*)(?::(?P<port>[0-9]{1,5}))?")
_LAST_PORT: Final = 65535


def _node(text: str, default_port: int, number: int) -> HostPort:
    problem = ConfigurationError(
        f"node {number} does not name a server: write host:port, several as host:port,host:port, "
        "and an IPv6 address as [address]:port"
    )
    match = _NODE.fullmatch(text)
    if match is None:
        raise problem
    port = int(match["port"] or default_port)
    if not 0 < port <= _LAST_PORT:
        raise problem
    try:
        return HostPort(host_name(match["host"]), port)
    except ConfigurationError:
        raise problem from None


def database_url(
    scheme: str,
    *,
    host: str,
    port: int,
    username: str,
    password: str,
    database: str,
    query: Mapping[str, str | Sequence[str]],
) -> str:
    """Build a URL for SQLAlchemy.

    For SQLite `database` is the path of the file; host, port and credentials are ignored.

    Raises:
        ConfigurationError: `database` contains a ``?``, which SQLAlchemy 2.0 cannot read in a URL.
    """
    tail = f"?{query_string(query)}" if query else ""
    path = _database_path(database)
    if is_sqlite(scheme):
        return f"{scheme}:///{path}{tail}"
    # The host is not encoded: SQLAlchemy, unlike kombu and redis-py, does not decode it.
    return f"{scheme}://{_credentials(username, password)}{_netloc(host, port)}/{path}{tail}"


def query_string(query: Mapping[str, str | Sequence[str]]) -> str:
    """Write a query as ``a=1&b=2``, percent-encoded."""
    return urlencode(query, doseq=True, quote_via=quote)


def _database_path(database: str) -> str:
    if _database_name_is_decoded():
        return quote(database, safe="/:")
    if "?" in database:
        raise ConfigurationError(
            "A database name with a '?' cannot be part of a URL: SQLAlchemy would read a query."
        )
    return database


@cache
def _database_name_is_decoded() -> bool:
    """Whether the installed SQLAlchemy decodes ``%xx`` in the database name, as 2.1 and later do."""
    from sqlalchemy import make_url  # slow to import, and not needed for Redis URLs

    return make_url("sqlite:///%25").database == "%"


def database_query(scheme: str, *, charset: str, extras: str) -> dict[str, list[str]]:
    """Build the URL's query: `charset` under the driver's own name for it, then `extras`.

    `extras` is a query string (``a=1&b=2``); where it sets the character set, `charset` is ignored.
    PostgreSQL's ``ssl`` and ``sslmode`` are one option, whose name is the driver's as well.

    Raises:
        ConfigurationError: `extras` is not a query string.
    """
    name = _charset_parameter(scheme)
    query = {name: [charset]} if name and charset else {}
    query |= parse_extras(extras)
    own, other = _tls_parameters(scheme)
    if other in query and own not in query:
        # The extras are for both drivers, that of coroutines and the synchronous one.
        query[own] = query.pop(other)
    return query


def parse_extras(text: str) -> dict[str, list[str]]:
    """Parse a query string; a name may occur several times.

    Raises:
        ConfigurationError: A part has no ``=``. The message does not contain the text, which may
            hold a password.
    """
    extras: dict[str, list[str]] = {}
    if text := text.strip().removeprefix("?"):
        try:
            pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=True)
        except ValueError:
            pairs = []
        for name, value in pairs:
            extras.setdefault(name, []).append(value)
        if not extras:
            raise ConfigurationError("extra URL parameters are a query string such as a=1&b=2")
    return extras


_CLIENT_ENCODING_DRIVERS: Final = frozenset({"", "psycopg", "psycopg_async", "psycopg2"})


def _tls_parameters(scheme: str) -> tuple[str, str]:
    """What the driver calls PostgreSQL's mode of TLS, and what another driver does."""
    dialect, _, driver = scheme.partition("+")
    if dialect != "postgresql":
        return "", ""
    return ("ssl", "sslmode") if driver == "asyncpg" else ("sslmode", "ssl")


def _charset_parameter(scheme: str) -> str | None:
    dialect, _, driver = scheme.partition("+")
    if dialect in {"mysql", "mariadb"}:
        return "charset"
    if dialect == "postgresql" and driver in _CLIENT_ENCODING_DRIVERS:
        return "client_encoding"
    return None


def is_sqlite(scheme: str) -> bool:
    """Whether the scheme is SQLite's, with any driver."""
    return scheme.partition("+")[0] == "sqlite"


_SYNCHRONOUS_DRIVERS: Mapping[str, str] = {
    # For a bare "mysql" SQLAlchemy imports mysqlclient, which tomskit's extras do not install.
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
}


def synchronous_scheme(scheme: str) -> str:
    """Add the synchronous driver that tomskit's extras install, where `scheme` names no driver."""
    return _SYNCHRONOUS_DRIVERS.get(scheme, scheme)


def _credentials(username: str | None, password: str | None) -> str:
    if not username and not password:
        return ""
    user = quote(username or "", safe="")
    return f"{user}:{quote(password, safe='')}@" if password else f"{user}@"


def _encoded(host: str) -> str:
    # kombu and redis-py decode the host, so the "%" before an IPv6 address's zone is encoded.
    return quote(host, safe=":")


def _netloc(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
