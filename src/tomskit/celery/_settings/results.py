"""The result backend."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveInt,
)

from tomskit.addresses import is_socket
from tomskit.celery._settings.checked import compression_method
from tomskit.celery._settings.prefixes import without_prefix
from tomskit.celery._settings.urls import BackendUrl, redis_address
from tomskit.redis.config import CertificateCheckSetting, Host, RedisConfig
from tomskit.settings import (
    CommaSeparated,
    Port,
    Seconds,
    SecondsOrZero,
    Secret,
    TomsKitBaseSettings,
    secret,
)
from tomskit.sqlalchemy.config import SyncScheme

__all__ = ("ResultSettings",)


def _without_db_prefix(scheme: object) -> object:
    return scheme.removeprefix("db+") if isinstance(scheme, str) else scheme


class ResultSettings(TomsKitBaseSettings):
    """Where CeleryConfig keeps results, and for how long."""

    # -- results
    given_result_backend: BackendUrl = Field(
        default=None,
        alias="CELERY_RESULT_BACKEND",
        exclude=True,
        description="URL of any result backend that Celery knows, in place of "
        "CELERY_RESULT_BACKEND_TYPE and the CELERY_RESULT_BACKEND_ settings without SSL_.",
    )
    CELERY_RESULT_BACKEND_TYPE: Literal["redis", "database"] = Field(
        default="redis", description="Where results go: to Redis, or to the CELERY_DB_ database."
    )
    CELERY_RESULT_BACKEND_REDIS_HOST: Host = Field(default="localhost", description="Host.")
    CELERY_RESULT_BACKEND_REDIS_PORT: Port = Field(default=6379, description="Port.")
    CELERY_RESULT_BACKEND_REDIS_USERNAME: str | None = Field(
        default=None, description="ACL user name."
    )
    CELERY_RESULT_BACKEND_REDIS_PASSWORD: Secret = secret(description="Password.")
    CELERY_RESULT_BACKEND_REDIS_DB: NonNegativeInt = Field(
        default=1, description="Database number."
    )
    CELERY_RESULT_BACKEND_REDIS_USE_SSL: bool = Field(
        default=False, description="Connect with TLS."
    )
    CELERY_RESULT_BACKEND_REDIS_SSL_CERT_REQS: CertificateCheckSetting = Field(
        default="required", description="How the server's certificate is checked."
    )
    CELERY_RESULT_BACKEND_REDIS_SSL_CHECK_HOSTNAME: bool = Field(
        default=True, description="Check that the certificate names the host."
    )
    CELERY_RESULT_BACKEND_REDIS_SSL_CA_CERTS: str | None = Field(
        default=None, description="Path of the CA certificates; the system's by default."
    )
    CELERY_RESULT_BACKEND_REDIS_SSL_CERTFILE: str | None = Field(
        default=None, description="Path of the client's certificate."
    )
    CELERY_RESULT_BACKEND_REDIS_SSL_KEYFILE: str | None = Field(
        default=None, description="Path of the client's key."
    )
    CELERY_RESULT_BACKEND_DATABASE_URI_SCHEME: Annotated[
        SyncScheme, BeforeValidator(_without_db_prefix)
    ] = Field(default="mysql", description="Dialect and synchronous driver of a result database.")
    CELERY_RESULT_EXPIRES: NonNegativeInt | None = Field(
        default=None,
        description="Seconds that results are kept; 0 keeps them for ever, None for one day, Celery's default.",
    )
    CELERY_RESULT_EXTENDED: bool = Field(
        default=False, description="Store the task's name, arguments and worker with its result."
    )
    CELERY_RESULT_COMPRESSION: Annotated[str, AfterValidator(compression_method)] | None = Field(
        default=None, description="Compress results: `gzip`, `bzip2`, `zstd`."
    )
    CELERY_RESULT_BACKEND_ALWAYS_RETRY: bool | None = Field(
        default=None,
        description="Repeat a failed access to the result backend; None is Celery's default, "
        "which is yes for a database.",
    )
    CELERY_RESULT_ERROR_MODULES: CommaSeparated = Field(
        default=[],
        description="Modules that a client may import, with those below them, to raise a task's "
        "error as an instance of its class; in the environment `a,b`. Without them the class has to "
        "be imported already.",
    )
    CELERY_REDIS_MAX_CONNECTIONS: PositiveInt | None = Field(
        default=None, description="Connections of a process to a result Redis at the most."
    )
    CELERY_RESULT_SOCKET_TIMEOUT: Seconds = Field(
        default=10.0,
        # The second one is Celery's own name of the setting.
        validation_alias=AliasChoices(
            "CELERY_RESULT_SOCKET_TIMEOUT", "CELERY_REDIS_SOCKET_TIMEOUT"
        ),
        description="Seconds that a result Redis may be silent while an answer is due or in its "
        "middle; then the client reconnects.",
    )
    CELERY_RESULT_SOCKET_CONNECT_TIMEOUT: Seconds = Field(
        default=5.0, description="Seconds to wait for a connection to a result Redis."
    )
    CELERY_RESULT_SOCKET_KEEPALIVE: bool = Field(
        default=True, description="Send TCP keepalive probes on idle connections to a result Redis."
    )
    CELERY_RESULT_HEALTH_CHECK_INTERVAL: SecondsOrZero = Field(
        default=25.0,
        description="Seconds after which an idle connection to a result Redis is tried before it "
        "is used; 0 is never.",
    )

    def _result_socket_options(self, url: str) -> dict[str, object]:
        """How long Celery waits for a result Redis, by the names of its settings."""
        address = redis_address(url)
        return {
            "redis_socket_timeout": self.CELERY_RESULT_SOCKET_TIMEOUT,
            "redis_socket_connect_timeout": self.CELERY_RESULT_SOCKET_CONNECT_TIMEOUT,
            # Each command of a result backend may be repeated.
            "redis_retry_on_timeout": True,
            # Celery passes it on to connections by a Unix socket, which do not take it.
            "redis_socket_keepalive": self.CELERY_RESULT_SOCKET_KEEPALIVE
            and (address is None or not is_socket(address.host)),
            "redis_backend_health_check_interval": self.CELERY_RESULT_HEALTH_CHECK_INTERVAL,
        }

    def _results(self) -> RedisConfig:
        return without_prefix(self, RedisConfig, "CELERY_RESULT_BACKEND_")
