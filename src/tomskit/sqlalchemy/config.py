"""Where the database is and how its connection pool behaves."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Annotated, ClassVar, Final, Self

from pydantic import AfterValidator, Field, NonNegativeInt, model_validator
from typing_extensions import TypedDict, override

from tomskit.defaults import changed_defaults
from tomskit.settings import (
    Concealed,
    Password,
    Port,
    Seconds,
    TomsKitBaseSettings,
    Url,
    instead_of_parts,
    secret,
)
from tomskit.sqlalchemy.schemes import (
    asynchronous,
    parse_database_url,
    synchronous,
    synchronous_of,
)
from tomskit.urls import (
    database_query,
    database_url,
    host_name,
    is_sqlite,
    parse_extras,
    synchronous_scheme,
)

__all__ = (
    "MYSQL_PORT_IS_MISSING",
    "AsyncScheme",
    "DatabaseConfig",
    "DatabaseHost",
    "DatabaseUrl",
    "EngineOptions",
    "Extras",
    "Scheme",
    "SyncScheme",
    "use_database_url",
)


def _host(text: str) -> str:
    return host_name(text) if text else text


def _extras(text: str) -> str:
    parse_extras(text)
    # One of them may be a password.
    return Concealed(text)


DatabaseHost = Annotated[str, AfterValidator(_host)]
"""A host name or an IP address, with or without brackets; empty for the driver's own default."""

Extras = Annotated[str, AfterValidator(_extras), Field(repr=False)]
"""A query string; no ``repr`` shows it."""


def _scheme(text: str) -> str:
    if not re.fullmatch(r"\w+(\+\w+)?", text):
        raise ValueError("a scheme is a dialect and a driver, such as postgresql+asyncpg")
    return text


Scheme = Annotated[str, AfterValidator(_scheme)]
"""``dialect`` or ``dialect+driver``."""

AsyncScheme = Annotated[Scheme, AfterValidator(asynchronous)]
"""``dialect+driver`` of a driver that works in coroutines."""

SyncScheme = Annotated[Scheme, AfterValidator(synchronous)]
"""``dialect`` or ``dialect+driver`` of a driver that works without coroutines."""


def _database_url(text: str | None) -> str | None:
    if text is not None:
        address = parse_database_url(text)
        asynchronous(address.scheme)
        if address.scheme.endswith("+asyncpg") and "sslmode" in parse_extras(address.extras):
            raise ValueError(
                "asyncpg has no option sslmode: write ssl in the URL, as in ssl=require"
            )
    return text


DatabaseUrl = Annotated[Url, AfterValidator(_database_url)]
"""``dialect+driver://user:password@host:port/database?option=value``, of an asynchronous driver."""


def use_database_url(settings: TomsKitBaseSettings, text: str, *, url: str, prefix: str) -> None:
    """Let a database URL take the place of the fields that say parts of it.

    Args:
        settings: Has these fields.
        text: The URL.
        url: Name of the setting that is the URL.
        prefix: What the names of the fields begin with, before those of DatabaseConfig.
    """
    address = parse_database_url(text)
    parts: dict[str, object] = {
        "DB_HOST": address.host,
        "DB_USERNAME": address.username,
        "DB_PASSWORD": Concealed(address.password),
        "DB_DATABASE": address.database,
        "DB_CHARSET": "",
        "DB_EXTRAS": address.extras,
        "SQLALCHEMY_DATABASE_URI_SCHEME": address.scheme,
    }
    if address.port is not None:
        parts["DB_PORT"] = address.port
    # A driver of the same kind of database may be chosen beside the URL.
    chosen = f"{prefix}SQLALCHEMY_DATABASE_SYNC_URI_SCHEME"
    is_chosen = chosen in settings.model_fields_set
    if not is_chosen or _dialect(vars(settings)[chosen]) != _dialect(address.scheme):
        parts["SQLALCHEMY_DATABASE_SYNC_URI_SCHEME"] = synchronous_of(address.scheme)
    instead_of_parts(settings, url, {prefix + name: part for name, part in parts.items()})


def _dialect(scheme: str) -> str:
    return scheme.partition("+")[0]


MYSQL_PORT_IS_MISSING: Final = (
    "MySQL listens on port 3306, and the default of DB_PORT and CELERY_DB_PORT is 5432: set the one "
    "that belongs to DB_HOST or CELERY_DB_HOST"
)
"""What to say where a MySQL server does not answer on the default port."""


_LATIN_1_DRIVERS: Final = frozenset({"aiomysql", "asyncmy", "pymysql"})


def _password_for(scheme: str, password: str) -> str:
    # These drivers send a password in Latin-1, and the server compares it in UTF-8.
    if scheme.partition("+")[2] not in _LATIN_1_DRIVERS:
        return password
    return password.encode().decode("latin-1")


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

    variable_prefixes: ClassVar[Sequence[str]] = ("DB_", "SQLALCHEMY_")

    @classmethod
    @override
    def variables_of_others(cls) -> Collection[str]:
        """What SQLAlchemy itself reads."""
        return {"SQLALCHEMY_WARN_20", "SQLALCHEMY_SILENCE_UBER_WARNING"}

    @classmethod
    @override
    def remarks_on(cls, variables: Collection[str]) -> dict[str, str]:
        """What to say of settings of toms-fast that mean something else."""
        known = {"DB_TYPE": "SQLALCHEMY_DATABASE_URI_SCHEME says the kind of database"}
        return {name: known[name] for name in known if name in variables}

    given_database_uri: DatabaseUrl = Field(
        default=None,
        alias="SQLALCHEMY_DATABASE_URI",
        exclude=True,
        description="URL of the database with an asynchronous driver, in place of the DB_ settings "
        "and SQLALCHEMY_DATABASE_URI_SCHEME.",
    )
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
    SQLALCHEMY_DATABASE_URI_SCHEME: AsyncScheme = Field(
        default="mysql+aiomysql", description="Dialect and asynchronous driver."
    )
    SQLALCHEMY_DATABASE_SYNC_URI_SCHEME: SyncScheme = Field(
        default="mysql+pymysql",
        description="Dialect and synchronous driver; where it is not given, that of the same kind of "
        "database as the asynchronous one.",
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
    SQLALCHEMY_CONNECT_TIMEOUT: Seconds = Field(
        default=10.0, description="Seconds to wait for a connection, and for its login."
    )
    SQLALCHEMY_ECHO: bool = Field(default=False, description="Log every statement.")
    SQLALCHEMY_POOL_ECHO: bool = Field(default=False, description="Log what the pool does.")

    @model_validator(mode="after")
    def _use_the_database_url(self) -> Self:
        if self.given_database_uri is not None:
            use_database_url(
                self, self.given_database_uri, url="SQLALCHEMY_DATABASE_URI", prefix=""
            )
        return self

    @property
    def SQLALCHEMY_DATABASE_URI(self) -> str:  # noqa: N802 (named like the settings)
        """URL for the asynchronous engine; holds the password."""
        if self.given_database_uri is not None and self.DB_PASSWORD.isascii():
            return self.given_database_uri
        return self.uri(self.SQLALCHEMY_DATABASE_URI_SCHEME)

    @property
    def SQLALCHEMY_DATABASE_SYNC_URI(self) -> str:  # noqa: N802 (named like the settings)
        """URL for a synchronous engine, for migrations and scripts; holds the password."""
        scheme = self.SQLALCHEMY_DATABASE_SYNC_URI_SCHEME
        asynchronous_scheme = self.SQLALCHEMY_DATABASE_URI_SCHEME
        if "SQLALCHEMY_DATABASE_SYNC_URI_SCHEME" not in self.model_fields_set and _dialect(
            asynchronous_scheme
        ) != _dialect(scheme):
            # The default is for another kind of database.
            scheme = synchronous_of(asynchronous_scheme)
        return self.uri(synchronous_scheme(scheme))

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

    @property
    def mysql_port_is_missing(self) -> bool:
        """Whether this is a MySQL server and nobody said on which port it listens."""
        dialect = _dialect(self.SQLALCHEMY_DATABASE_URI_SCHEME)
        given = {"DB_PORT", "given_database_uri"} & (
            self.model_fields_set | changed_defaults(type(self))
        )
        return dialect in {"mysql", "mariadb"} and not given

    def uri(self, scheme: str) -> str:
        """URL of this database for any `scheme`, such as ``"mysql+pymysql"``.

        A password beyond ASCII is written as the driver that the scheme names needs it.
        """
        url = database_url(
            scheme,
            host=self.DB_HOST,
            port=self.DB_PORT,
            username=self.DB_USERNAME,
            password=_password_for(scheme, self.DB_PASSWORD),
            database=self.DB_DATABASE,
            query=database_query(scheme, charset=self.DB_CHARSET, extras=self.DB_EXTRAS),
        )
        return Concealed(url)
