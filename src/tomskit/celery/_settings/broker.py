"""The broker, and the sentinels that find it and the results' Redis."""

from __future__ import annotations

from typing import Final, Self

from pydantic import Field, FiniteFloat, NonNegativeInt, PositiveInt, model_validator

from tomskit.addresses import is_socket
from tomskit.celery._settings.prefixes import without_prefix
from tomskit.celery._settings.urls import BrokerUrl, redis_address, scheme_of
from tomskit.errors import ConfigurationError
from tomskit.redis.config import CertificateCheckSetting, Host, Nodes, RedisConfig, redis_parts
from tomskit.settings import (
    Concealed,
    Port,
    Seconds,
    SecondsOrZero,
    Secret,
    TomsKitBaseSettings,
    instead_of_parts,
    secret,
)
from tomskit.urls import HostPort, parse_nodes, sentinel_url

__all__ = ("BrokerSettings",)

_DEFAULT_SENTINEL_PORT: Final = 26379


class BrokerSettings(TomsKitBaseSettings):
    """The broker of CeleryConfig, and how Celery finds a Redis."""

    # -- broker
    given_broker_url: BrokerUrl = Field(
        default=None,
        alias="CELERY_BROKER_URL",
        exclude=True,
        description="URL of any broker that kombu knows, in place of the CELERY_BROKER_REDIS_ "
        "settings without SSL_.",
    )
    CELERY_BROKER_READ_URL: BrokerUrl = Field(
        default=None, description="URL of the broker for workers, where that is another one."
    )
    CELERY_BROKER_WRITE_URL: BrokerUrl = Field(
        default=None, description="URL of the broker for sending, where that is another one."
    )
    CELERY_BROKER_REDIS_HOST: Host = Field(default="localhost", description="Host of the broker.")
    CELERY_BROKER_REDIS_PORT: Port = Field(default=6379, description="Port of the broker.")
    CELERY_BROKER_REDIS_USERNAME: str | None = Field(default=None, description="ACL user name.")
    CELERY_BROKER_REDIS_PASSWORD: Secret = secret(description="Password.")
    CELERY_BROKER_REDIS_DB: NonNegativeInt = Field(default=0, description="Database number.")
    CELERY_BROKER_REDIS_USE_SSL: bool = Field(default=False, description="Connect with TLS.")
    CELERY_BROKER_REDIS_SSL_CERT_REQS: CertificateCheckSetting = Field(
        default="required", description="How the server's certificate is checked."
    )
    CELERY_BROKER_REDIS_SSL_CHECK_HOSTNAME: bool = Field(
        default=True, description="Check that the certificate names the host."
    )
    CELERY_BROKER_REDIS_SSL_CA_CERTS: str | None = Field(
        default=None, description="Path of the CA certificates; the system's by default."
    )
    CELERY_BROKER_REDIS_SSL_CERTFILE: str | None = Field(
        default=None, description="Path of the client's certificate."
    )
    CELERY_BROKER_REDIS_SSL_KEYFILE: str | None = Field(
        default=None, description="Path of the client's key."
    )
    CELERY_BROKER_VISIBILITY_TIMEOUT: PositiveInt | None = Field(
        default=None,
        description="Seconds after which an unacknowledged message is delivered again.",
    )
    CELERY_BROKER_POOL_LIMIT: NonNegativeInt = Field(
        default=10, description="Connections that a process keeps for sending tasks; 0 keeps none."
    )
    CELERY_BROKER_CONNECTION_TIMEOUT: Seconds = Field(
        default=4.0, description="Seconds to wait for a connection."
    )
    CELERY_BROKER_SOCKET_TIMEOUT: FiniteFloat = Field(
        default=10.0,
        # kombu's BRPOP lasts a second.
        ge=2,
        description="Seconds that a Redis broker may be silent while an answer is due or in its "
        "middle; then the client reconnects.",
    )
    CELERY_BROKER_SOCKET_CONNECT_TIMEOUT: Seconds = Field(
        default=5.0, description="Seconds to wait for a connection to a Redis broker."
    )
    CELERY_BROKER_SOCKET_KEEPALIVE: bool = Field(
        default=True, description="Send TCP keepalive probes on idle connections to a Redis broker."
    )
    CELERY_BROKER_HEALTH_CHECK_INTERVAL: SecondsOrZero = Field(
        default=25.0,
        description="Seconds after which an idle connection to a Redis broker is tried before it "
        "is used; 0 is never.",
    )
    CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP: bool = Field(
        default=True, description="Wait for a broker that is not there yet when the worker starts."
    )
    CELERY_BROKER_CONNECTION_MAX_RETRIES: NonNegativeInt = Field(
        default=100, description="Tries to reconnect before the worker gives up; 0 is no limit."
    )

    # -- Sentinel, for the broker and for results in Redis
    CELERY_USE_SENTINEL: bool = Field(
        default=False, description="Find the servers through sentinels."
    )
    CELERY_SENTINELS: Nodes | None = Field(
        default=None,
        description="The sentinels, as `host:port,host:port`; by default the broker's host and "
        "port are the one sentinel.",
    )
    CELERY_SENTINEL_MASTER_NAME: str | None = Field(
        default=None, description="What the sentinels call the master."
    )
    CELERY_SENTINEL_USERNAME: str | None = Field(
        default=None, description="The sentinels' own user name."
    )
    CELERY_SENTINEL_PASSWORD: Secret = secret(description="The sentinels' own password.")
    CELERY_SENTINEL_SOCKET_TIMEOUT: Seconds = Field(
        default=0.1, description="Seconds to wait for a sentinel."
    )

    @model_validator(mode="after")
    def _use_the_broker_url(self) -> Self:
        url = self.given_broker_url
        if url is not None:
            self._use_redis_url("CELERY_BROKER_URL", url, "CELERY_BROKER_")
        return self

    @model_validator(mode="after")
    def _sentinels_know_the_master(self) -> Self:
        urls = {"CELERY_BROKER_URL": self.given_broker_url}
        urls |= {
            name: vars(self)[name] for name in ("CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL")
        }
        asking = [name for name, url in urls.items() if scheme_of(url or "") == "sentinel"]
        if self.CELERY_USE_SENTINEL:
            asking.append("CELERY_USE_SENTINEL")
        if asking and not self.CELERY_SENTINEL_MASTER_NAME:
            raise ValueError(f"{asking[0]} needs CELERY_SENTINEL_MASTER_NAME")
        return self

    def _use_redis_url(self, name: str, url: str, prefix: str) -> None:
        address = redis_address(url)
        fields = {f"{prefix}{field}" for field in ("REDIS_HOST", "REDIS_PORT", "REDIS_DB")}
        fields |= {f"{prefix}REDIS_USERNAME", f"{prefix}REDIS_PASSWORD"}
        if scheme_of(url) != "sentinel":
            # A sentinel URL does not say whether to use TLS.
            fields.add(f"{prefix}REDIS_USE_SSL")
        parts = {} if address is None else redis_parts(address)
        instead_of_parts(self, name, {prefix + one: part for one, part in parts.items()}, *fields)

    def _broker(self) -> RedisConfig:
        return without_prefix(self, RedisConfig, "CELERY_BROKER_")

    def _socket_options(self) -> dict[str, object]:
        """How long kombu waits for Redis, and how it finds out that a connection is dead."""
        return {
            "socket_timeout": self.CELERY_BROKER_SOCKET_TIMEOUT,
            "socket_connect_timeout": self.CELERY_BROKER_SOCKET_CONNECT_TIMEOUT,
            "socket_keepalive": self.CELERY_BROKER_SOCKET_KEEPALIVE,
            "health_check_interval": self.CELERY_BROKER_HEALTH_CHECK_INTERVAL,
        }

    def _redis_url(self, server: RedisConfig) -> str:
        if not self.CELERY_USE_SENTINEL:
            return server.REDIS_URL
        return sentinel_url(
            self._sentinels(),
            server.REDIS_DB,
            username=server.REDIS_USERNAME,
            password=server.REDIS_PASSWORD,
        )

    def _sentinels(self) -> list[HostPort]:
        nodes = parse_nodes(self.CELERY_SENTINELS or "", default_port=_DEFAULT_SENTINEL_PORT)
        if not nodes and is_socket(self.CELERY_BROKER_REDIS_HOST):
            raise ConfigurationError(
                "CELERY_USE_SENTINEL needs CELERY_SENTINELS: sentinels are not reached by a Unix socket"
            )
        return nodes or [HostPort(self.CELERY_BROKER_REDIS_HOST, self.CELERY_BROKER_REDIS_PORT)]

    def _sentinel_options(self, server: RedisConfig, url: str) -> dict[str, object]:
        if scheme_of(url) != "sentinel":
            return {}
        # Only for the connections to the sentinels: on the connection to the master this short
        # timeout would end each blocking read.
        sentinel: dict[str, object] = {"socket_timeout": self.CELERY_SENTINEL_SOCKET_TIMEOUT}
        if self.CELERY_SENTINEL_USERNAME is not None:
            sentinel["username"] = self.CELERY_SENTINEL_USERNAME
        if self.CELERY_SENTINEL_PASSWORD is not None:
            sentinel["password"] = Concealed(self.CELERY_SENTINEL_PASSWORD)
        if server.REDIS_USE_SSL:
            sentinel |= {"ssl": True, **server.REDIS_TLS_OPTIONS}
        return {"master_name": self.CELERY_SENTINEL_MASTER_NAME, "sentinel_kwargs": sentinel}
