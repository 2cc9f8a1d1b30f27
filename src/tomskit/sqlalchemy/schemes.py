"""Which schemes of database URLs work in coroutines, and what such a URL says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from tomskit.errors import ConfigurationError
from tomskit.urls import host_name, is_sqlite, query_string, synchronous_scheme

if TYPE_CHECKING:
    from sqlalchemy import URL, Dialect

__all__ = ("DatabaseAddress", "asynchronous", "parse_database_url", "synchronous", "synchronous_of")

_ASYNCHRONOUS: Final[Mapping[str, tuple[str, ...]]] = {
    "mysql": ("mysql+aiomysql", "mysql+asyncmy"),
    "mariadb": ("mariadb+aiomysql", "mariadb+asyncmy"),
    "postgresql": ("postgresql+asyncpg", "postgresql+psycopg"),
    "sqlite": ("sqlite+aiosqlite",),
    "oracle": ("oracle+oracledb",),
    "mssql": ("mssql+aioodbc",),
}
_SYNCHRONOUS: Final[Mapping[str, tuple[str, ...]]] = {
    "mysql": ("mysql", "mysql+pymysql", "mysql+mysqldb"),
    "mariadb": ("mariadb", "mariadb+pymysql", "mariadb+mysqldb"),
    "postgresql": ("postgresql", "postgresql+psycopg", "postgresql+psycopg2"),
    "sqlite": ("sqlite",),
    "oracle": ("oracle+oracledb",),
    "mssql": ("mssql+pyodbc",),
}
_SYNCHRONOUS_DRIVERS: Final[Mapping[str, str]] = {
    "aiomysql": "pymysql",
    "asyncmy": "pymysql",
    "asyncpg": "psycopg",
    "psycopg_async": "psycopg",
    "aiosqlite": "",
    "oracledb_async": "oracledb",
    "aioodbc": "pyodbc",
}
_DEFAULT_PORTS: Final[Mapping[str, int]] = {
    "mysql": 3306,
    "mariadb": 3306,
    "postgresql": 5432,
    "oracle": 1521,
    "mssql": 1433,
}
_LAST_PORT: Final = 65535


def asynchronous(scheme: str) -> str:
    """Check that ``create_async_engine`` takes a URL of this scheme.

    Raises:
        ConfigurationError: It does not. The message names the schemes of this database that it takes.
    """
    if scheme in _all(_ASYNCHRONOUS):
        return scheme
    url, dialect = _known_to_sqlalchemy(scheme)
    if not dialect.get_async_dialect_cls(url).is_async:
        raise ConfigurationError(
            f"{scheme} is not an asynchronous driver, which db.session needs: "
            f"use {_instead(scheme, _ASYNCHRONOUS)}"
        )
    return scheme


def synchronous(scheme: str) -> str:
    """Check that ``create_engine`` takes a URL of this scheme.

    Raises:
        ConfigurationError: It does not. The message names the schemes of this database that it takes.
    """
    if scheme in _all(_SYNCHRONOUS):
        return scheme
    _, dialect = _known_to_sqlalchemy(synchronous_scheme(scheme))
    if dialect.is_async:
        raise ConfigurationError(
            f"{scheme} is not a synchronous driver: use {_instead(scheme, _SYNCHRONOUS)}"
        )
    return scheme


def synchronous_of(scheme: str) -> str:
    """The scheme of the same database for ``create_engine``."""
    dialect, _, driver = scheme.partition("+")
    if driver not in _SYNCHRONOUS_DRIVERS:
        return synchronous_scheme(scheme)
    return f"{dialect}+{_SYNCHRONOUS_DRIVERS[driver]}".removesuffix("+")


def _known_to_sqlalchemy(scheme: str) -> tuple[URL, type[Dialect]]:
    # Slow to import, and not needed for a scheme that is known here.
    from sqlalchemy import URL
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    url = URL.create(scheme)
    try:
        return url, url.get_dialect()
    except (NoSuchModuleError, ArgumentError, ValueError):
        raise ConfigurationError(
            f"SQLAlchemy knows no dialect and driver {url.drivername}: write dialect+driver, such as "
            f"{', '.join(_all(_ASYNCHRONOUS))}, and install the package that has the dialect"
        ) from None


def _instead(scheme: str, known: Mapping[str, tuple[str, ...]]) -> str:
    return " or ".join(known.get(scheme.partition("+")[0]) or _all(known))


def _all(known: Mapping[str, tuple[str, ...]]) -> list[str]:
    return [scheme for schemes in known.values() for scheme in schemes]


class DatabaseAddress(NamedTuple):
    """What a database URL says."""

    scheme: str
    host: str
    port: int | None
    """That of the database's kind where the URL has none."""
    username: str
    password: str
    database: str
    extras: str


_ENCODED: Final = "with % / ? # @ : in a password as %25 %2F %3F %23 %40 %3A"


def parse_database_url(text: str) -> DatabaseAddress:
    """Parse ``dialect+driver://user:password@host:port/database?option=value``.

    Raises:
        ConfigurationError: It is no such URL. The message does not contain the text, which may hold
            a password.
    """
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(text)
        port = url.port
    except (ArgumentError, ValueError):
        raise ConfigurationError(
            "it is not a URL: write dialect+driver://user:password@host:port/database, " + _ENCODED
        ) from None
    if port is not None and not 0 < port <= _LAST_PORT:
        raise ConfigurationError(f"the URL's port is not a number from 1 to {_LAST_PORT}")
    dialect = url.get_backend_name()
    # Drivers find a socket by an option.
    elsewhere = {"unix_socket", "host", "service", "dsn", "odbc_connect"} & url.query.keys()
    if not (url.host or is_sqlite(url.drivername) or elsewhere):
        raise ConfigurationError("the URL names no host")
    try:
        host = host_name(url.host) if url.host else ""
    except ConfigurationError as exc:
        # The rest of a password after an @.
        raise ConfigurationError(f"{exc}; write the URL {_ENCODED}") from None
    return DatabaseAddress(
        scheme=url.drivername,
        host=host,
        port=port or _DEFAULT_PORTS.get(dialect),
        username=url.username or "",
        password=url.password or "",
        database=url.database or "",
        extras=query_string(url.query),
    )
