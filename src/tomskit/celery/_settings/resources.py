"""What tasks use: the database of ``db.session`` and the Redis of ``redis_client``."""

from __future__ import annotations

from functools import cached_property
from typing import Final, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from tomskit.celery._settings.prefixes import (
    PREFIX,
    read_like,
    setting_name,
    with_changed_defaults,
    without_prefix,
)
from tomskit.redis.config import CertificateCheckSetting, Host, RedisConfig, RedisUrl, redis_parts
from tomskit.settings import (
    Password,
    Port,
    Seconds,
    SecondsOrZero,
    Secret,
    TomsKitBaseSettings,
    instead_of_parts,
    secret,
)
from tomskit.sqlalchemy.config import (
    AsyncScheme,
    DatabaseConfig,
    DatabaseHost,
    DatabaseUrl,
    EngineOptions,
    Extras,
    SyncScheme,
    use_database_url,
)
from tomskit.urls import parse_redis_url

__all__ = ("ResourceSettings",)

_OF_DATABASE_URL: Final = frozenset(
    name
    for name in DatabaseConfig.model_fields
    if name.startswith("DB_") or name.endswith("_SCHEME")
)
_OF_REDIS_URL: Final = frozenset(redis_parts(parse_redis_url("redis://localhost")))


class ResourceSettings(TomsKitBaseSettings):
    """The database and the Redis that CeleryConfig gives to tasks."""

    # -- the database of db.session, and of results with the type "database"
    given_task_database_uri: DatabaseUrl = Field(
        default=None,
        alias="CELERY_SQLALCHEMY_DATABASE_URI",
        exclude=True,
        description="URL of the database with an asynchronous driver, in place of the CELERY_DB_ "
        "settings and CELERY_SQLALCHEMY_DATABASE_URI_SCHEME.",
    )
    CELERY_DB_HOST: DatabaseHost = Field(
        default="localhost", description="Host of the database server."
    )
    CELERY_DB_PORT: Port = Field(default=5432, description="Port of the database server.")
    CELERY_DB_USERNAME: str = Field(default="", description="User name; empty for none.")
    CELERY_DB_PASSWORD: Password = secret("", description="Password; empty for none.")
    CELERY_DB_DATABASE: str = Field(
        default="tomskitdb", description="Database name; for SQLite the file's path."
    )
    CELERY_DB_CHARSET: str = Field(
        default="", description="Character set, passed under the name that the driver knows."
    )
    CELERY_DB_EXTRAS: Extras = Field(
        default="", description="More URL parameters as a query string: `a=1&b=2`."
    )
    CELERY_SQLALCHEMY_DATABASE_URI_SCHEME: AsyncScheme = Field(
        default="mysql+aiomysql", description="Dialect and asynchronous driver."
    )
    CELERY_SQLALCHEMY_DATABASE_SYNC_URI_SCHEME: SyncScheme = Field(
        default="mysql+pymysql",
        description="Dialect and synchronous driver; where it is not given, that of the same kind of "
        "database as the asynchronous one.",
    )
    CELERY_SQLALCHEMY_POOL_SIZE: NonNegativeInt = Field(
        default=300, description="Connections that a process keeps open; 0 is no limit."
    )
    CELERY_SQLALCHEMY_MAX_OVERFLOW: int = Field(
        default=10, ge=-1, description="Connections beyond the pool size; -1 is no limit."
    )
    CELERY_SQLALCHEMY_POOL_RECYCLE: int = Field(
        default=3600,
        ge=-1,
        description="Seconds after which a connection is replaced; -1 is never.",
    )
    CELERY_SQLALCHEMY_POOL_PRE_PING: bool = Field(
        default=False, description="Test a connection each time it leaves the pool."
    )
    CELERY_SQLALCHEMY_CONNECT_TIMEOUT: Seconds = Field(
        default=10.0, description="Seconds to wait for a connection, and for its login."
    )
    CELERY_SQLALCHEMY_ECHO: bool = Field(default=False, description="Log every statement.")
    CELERY_SQLALCHEMY_POOL_ECHO: bool = Field(default=False, description="Log what the pool does.")

    # -- the Redis of redis_client
    given_worker_redis_url: RedisUrl = Field(
        default=None,
        alias="CELERY_WORKER_REDIS_URL",
        exclude=True,
        description="URL of the server, in place of the CELERY_WORKER_REDIS_ settings for host, port, "
        "user name, password, database number and USE_SSL.",
    )
    CELERY_WORKER_REDIS_HOST: Host = Field(default="localhost", description="Host.")
    CELERY_WORKER_REDIS_PORT: Port = Field(default=6379, description="Port.")
    CELERY_WORKER_REDIS_USERNAME: str | None = Field(default=None, description="ACL user name.")
    CELERY_WORKER_REDIS_PASSWORD: Secret = secret(description="Password.")
    CELERY_WORKER_REDIS_DB: NonNegativeInt = Field(default=0, description="Database number.")
    CELERY_WORKER_REDIS_MAX_CONNECTIONS: PositiveInt = Field(
        default=32, description="Connections that a process opens at the most."
    )
    CELERY_WORKER_REDIS_SOCKET_TIMEOUT: Seconds | None = Field(
        default=None,
        description="Seconds to wait for an answer; without a limit by default, as blocking commands "
        "such as BLPOP may take long.",
    )
    CELERY_WORKER_REDIS_SOCKET_CONNECT_TIMEOUT: Seconds = Field(
        default=5.0, description="Seconds to wait for a connection, and for its login."
    )
    CELERY_WORKER_REDIS_SOCKET_KEEPALIVE: bool = Field(
        default=True,
        description="Let the system probe connections: one that is dead is closed after 45 seconds.",
    )
    CELERY_WORKER_REDIS_HEALTH_CHECK_INTERVAL: SecondsOrZero = Field(
        default=25.0,
        description="Seconds after which an idle connection is tried before it is used; 0 is never.",
    )
    CELERY_WORKER_REDIS_USE_SSL: bool = Field(default=False, description="Connect with TLS.")
    CELERY_WORKER_REDIS_SSL_CERT_REQS: CertificateCheckSetting = Field(
        default="required", description="How the server's certificate is checked."
    )
    CELERY_WORKER_REDIS_SSL_CHECK_HOSTNAME: bool = Field(
        default=True, description="Check that the certificate names the host."
    )
    CELERY_WORKER_REDIS_SSL_CA_CERTS: str | None = Field(
        default=None, description="Path of the CA certificates; the system's by default."
    )
    CELERY_WORKER_REDIS_SSL_CERTFILE: str | None = Field(
        default=None, description="Path of the client's certificate."
    )
    CELERY_WORKER_REDIS_SSL_KEYFILE: str | None = Field(
        default=None, description="Path of the client's key."
    )

    @model_validator(mode="after")
    def _use_the_urls(self) -> Self:
        if (uri := self.given_task_database_uri) is not None:
            use_database_url(self, uri, url="CELERY_SQLALCHEMY_DATABASE_URI", prefix=PREFIX)
        if (url := self.given_worker_redis_url) is not None:
            parts = redis_parts(parse_redis_url(url))
            instead_of_parts(
                self,
                "CELERY_WORKER_REDIS_URL",
                {f"CELERY_WORKER_{name}": part for name, part in parts.items()},
            )
        return self

    @property
    def SQLALCHEMY_DATABASE_URI(self) -> str:  # noqa: N802 (named like the settings)
        """URL for the asynchronous engine; holds the password."""
        return self.database_config().SQLALCHEMY_DATABASE_URI

    @property
    def SQLALCHEMY_DATABASE_SYNC_URI(self) -> str:  # noqa: N802 (named like the settings)
        """URL for a synchronous engine; holds the password."""
        return self.database_config().SQLALCHEMY_DATABASE_SYNC_URI

    @property
    def SQLALCHEMY_ENGINE_OPTIONS(self) -> EngineOptions:  # noqa: N802 (named like the settings)
        """Keyword arguments for ``create_async_engine``."""
        return self.database_config().SQLALCHEMY_ENGINE_OPTIONS

    def database_config(self) -> DatabaseConfig:
        """The database: of the CELERY_DB_ and CELERY_SQLALCHEMY_ fields, if any was set.

        Else of the variables without ``CELERY_``, as DatabaseConfig reads them. Defaults that a
        subclass has changed hold where these variables say nothing else.
        """
        if self.sets_any("CELERY_DB_", "CELERY_SQLALCHEMY_"):
            return without_prefix(self, DatabaseConfig, PREFIX)
        return self._database_of_its_own

    def redis_config(self) -> RedisConfig:
        """The Redis of tasks: of the CELERY_WORKER_REDIS_ fields, if any was set.

        Else of the variables that begin with ``REDIS_``, as RedisConfig reads them. Defaults that a
        subclass has changed hold where these variables say nothing else.
        """
        if self.sets_any("CELERY_WORKER_REDIS_"):
            return without_prefix(self, RedisConfig, "CELERY_WORKER_")
        return self._redis_of_its_own

    def sets_any(self, *prefixes: str) -> bool:
        """Whether a field with one of these prefixes was given, by argument or environment."""
        fields = type(self).model_fields
        return any(
            setting_name(field, fields[field]).startswith(prefixes)
            for field in self.model_fields_set & fields.keys()
        )

    # Read once: a later change of the environment does not change what the app uses.
    @cached_property
    def _database_of_its_own(self) -> DatabaseConfig:
        own = read_like(self, DatabaseConfig)
        return with_changed_defaults(own, self, PREFIX, _OF_DATABASE_URL)

    @cached_property
    def _redis_of_its_own(self) -> RedisConfig:
        own = read_like(self, RedisConfig)
        return with_changed_defaults(own, self, "CELERY_WORKER_", _OF_REDIS_URL)
