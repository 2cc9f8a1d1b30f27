"""Where the database is and how its connection pool behaves."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, NonNegativeInt
from typing_extensions import TypedDict

from tomskit.settings import Password, Port, TomsKitBaseSettings, secret
from tomskit.urls import (
    database_query,
    database_url,
    host_name,
    is_sqlite,
    parse_extras,
    synchronous_scheme,
)

__all__ = ("DatabaseConfig", "DatabaseHost", "EngineOptions", "Extras", "Scheme")


def _host(text: str) -> str:
    return host_name(text) if text else text


def _extras(text: str) -> str:
    parse_extras(text)
    return text


DatabaseHost = Annotated[str, AfterValidator(_host)]
"""A host name or an IP address, with or without brackets; empty for the driver's own default."""

Extras = Annotated[str, AfterValidator(_extras), Field(repr=False)]
"""A query string; no ``repr`` shows it."""

Scheme = Annotated[str, Field(pattern=r"^\w+(\+\w+)?$")]
"""``dialect`` or ``dialect+driver``."""


class EngineOptions(TypedDict, total=False):
    """Keyword arguments of SQLAlchemy's ``create_async_engine``."""

    pool_size: int
    max_overflow: int
    pool_recycle: int
    pool_pre_ping: bool
    echo: bool
    echo_pool: bool


class DatabaseConfig(TomsKitBaseSettings):
    """The database of ``db.session``; every field is an environment variable of the same name."""

    DB_HOST: DatabaseHost = Field(default="localhost", description="Host of the database server.")
    DB_PORT: Port = Field(default=5432, description="Port of the database server.")
    DB_USERNAME: str = Field(default="", description="User name; empty for none.")
    DB_PASSWORD: Password = secret("", description="Password; empty for none.")
    DB_DATABASE: str = Field(
        default="tomskitdb", description="Database name; for SQLite the file's path."
    )
    DB_CHARSET: str = Field(
        default="", description="Character set, passed under the name that the driver knows."
    )
    DB_EXTRAS: Extras = Field(
        default="", description="More URL parameters as a query string: `a=1&b=2`."
    )
    SQLALCHEMY_DATABASE_URI_SCHEME: Scheme = Field(
        default="mysql+aiomysql", description="Dialect and asynchronous driver."
    )
    SQLALCHEMY_DATABASE_SYNC_URI_SCHEME: Scheme = Field(
        default="mysql+pymysql", description="Dialect and synchronous driver."
    )
    SQLALCHEMY_POOL_SIZE: NonNegativeInt = Field(
        default=300, description="Connections that a process keeps open; 0 is no limit."
    )
    SQLALCHEMY_MAX_OVERFLOW: int = Field(
        default=10, ge=-1, description="Connections beyond the pool size; -1 is no limit."
    )
    SQLALCHEMY_POOL_RECYCLE: int = Field(
        default=3600,
        ge=-1,
        description="Seconds after which a connection is replaced; -1 is never.",
    )
    SQLALCHEMY_POOL_PRE_PING: bool = Field(
        default=False, description="Test a connection each time it leaves the pool."
    )
    SQLALCHEMY_ECHO: bool = Field(default=False, description="Log every statement.")
    SQLALCHEMY_POOL_ECHO: bool = Field(default=False, description="Log what the pool does.")

    @property
    def SQLALCHEMY_DATABASE_URI(self) -> str:  # noqa: N802 (named like the settings)
        """URL for the asynchronous engine; holds the password."""
        return self.uri(self.SQLALCHEMY_DATABASE_URI_SCHEME)

    @property
    def SQLALCHEMY_DATABASE_SYNC_URI(self) -> str:  # noqa: N802 (named like the settings)
        """URL for a synchronous engine, for migrations and scripts; holds the password."""
        return self.uri(synchronous_scheme(self.SQLALCHEMY_DATABASE_SYNC_URI_SCHEME))

    @property
    def SQLALCHEMY_ENGINE_OPTIONS(self) -> EngineOptions:  # noqa: N802 (named like the settings)
        """Keyword arguments for ``create_async_engine``, without those the dialect refuses."""
        options = EngineOptions(
            pool_recycle=self.SQLALCHEMY_POOL_RECYCLE,
            pool_pre_ping=self.SQLALCHEMY_POOL_PRE_PING,
            echo=self.SQLALCHEMY_ECHO,
            echo_pool=self.SQLALCHEMY_POOL_ECHO,
        )
        if not is_sqlite(self.SQLALCHEMY_DATABASE_URI_SCHEME):
            # SQLAlchemy chooses the pool for SQLite by its version and the path, and some of these
            # pools have no size.
            options["pool_size"] = self.SQLALCHEMY_POOL_SIZE
            options["max_overflow"] = self.SQLALCHEMY_MAX_OVERFLOW
        return options

    def uri(self, scheme: str) -> str:
        """URL of this database for any `scheme`, such as ``"mysql+pymysql"``."""
        return database_url(
            scheme,
            host=self.DB_HOST,
            port=self.DB_PORT,
            username=self.DB_USERNAME,
            password=self.DB_PASSWORD,
            database=self.DB_DATABASE,
            query=database_query(scheme, charset=self.DB_CHARSET, extras=self.DB_EXTRAS),
        )
