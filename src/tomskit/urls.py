"""Pure builders of Redis, Sentinel and database URLs.

Whatever goes in is percent-encoded so that the reader of the URL (kombu, Celery, redis-py,
SQLAlchemy) gets exactly that text back: all of them decode ``%xx`` in user names and passwords,
and none of them reads ``+`` as a space there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, urlencode

from tomskit.errors import ConfigurationError

__all__ = (
    "HostPort",
    "database_query",
    "database_url",
    "is_sqlite",
    "parse_nodes",
    "redis_url",
    "sentinel_url",
    "synchronous_scheme",
)


class HostPort(NamedTuple):
    """Where a server listens."""

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
    """``redis://`` (or ``rediss://``) URL of one server."""
    scheme = "rediss" if tls else "redis"
    return f"{scheme}://{_credentials(username, password)}{_netloc(host, port)}/{db}"


def sentinel_url(
    nodes: Iterable[HostPort],
    db: int,
    *,
    username: str | None = None,
    password: str | None = None,
) -> str:
    """One ``sentinel://`` URL a node, joined with ``;`` as kombu and Celery split them."""
    auth = _credentials(username, password)
    return ";".join(f"sentinel://{auth}{_netloc(node.host, node.port)}/{db}" for node in nodes)


def parse_nodes(text: str, *, default_port: int) -> list[HostPort]:
    """Read ``"host:port,host:port"``; the port may be left out, IPv6 hosts are bracketed.

    Raises:
        ConfigurationError: A node has no host, or a port that is not a number from 1 to 65535.
    """
    return [_node(part.strip(), default_port) for part in text.split(",") if part.strip()]


def _node(text: str, default_port: int) -> HostPort:
    host, separator, port = text.rpartition(":")
    if not separator or text.endswith("]"):
        host, port = text, str(default_port)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:  # noqa: PLR2004
        raise ConfigurationError(
            f"{text!r} does not name a server: write host:port, and several as host:port,host:port."
        )
    return HostPort(host, int(port))


def database_url(
    scheme: str,
    *,
    host: str,
    port: int,
    username: str,
    password: str,
    database: str,
    query: Mapping[str, str],
) -> str:
    """SQLAlchemy URL. For SQLite `database` is the file's path and the server's data are left out.

    Raises:
        ConfigurationError: `database` holds a ``?``, which no SQLAlchemy URL can carry.
    """
    if "?" in database:
        raise ConfigurationError(
            "A database name with a '?' cannot be part of a URL: SQLAlchemy would read a query."
        )
    tail = f"?{urlencode(query, quote_via=quote)}" if query else ""
    # SQLAlchemy does not decode the database's name, so it goes in as it is.
    if is_sqlite(scheme):
        return f"{scheme}:///{database}{tail}"
    auth = _credentials(username or None, password or None)
    return f"{scheme}://{auth}{_netloc(host, port)}/{database}{tail}"


def database_query(scheme: str, *, charset: str, extras: str) -> dict[str, str]:
    """The query part: `charset` under the name that the driver knows, then `extras`.

    `extras` is a query string (``a=1&b=2``); what it says wins over `charset`.
    """
    name = _charset_parameter(scheme)
    query = {name: charset} if name and charset else {}
    return query | dict(parse_qsl(extras.removeprefix("?"), keep_blank_values=True))


def _charset_parameter(scheme: str) -> str | None:
    dialect, _, driver = scheme.partition("+")
    if dialect in {"mysql", "mariadb"}:
        return "charset"
    if dialect in {"postgresql", "postgres"} and driver != "asyncpg":
        return "client_encoding"
    return None


def is_sqlite(scheme: str) -> bool:
    """Whether the scheme names SQLite, with whatever driver."""
    return scheme.partition("+")[0] == "sqlite"


_SYNCHRONOUS_DRIVERS: Mapping[str, str] = {
    # SQLAlchemy takes a bare "mysql" for mysqlclient, which tomskit's extras do not install.
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
}


def synchronous_scheme(scheme: str) -> str:
    """`scheme` with the synchronous driver that tomskit's extras install, where it names none."""
    return _SYNCHRONOUS_DRIVERS.get(scheme, scheme)


def _credentials(username: str | None, password: str | None) -> str:
    if not username and not password:
        return ""
    user = quote(username or "", safe="")
    return f"{user}:{quote(password, safe='')}@" if password else f"{user}@"


def _netloc(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
