"""Where Redis is: one server, a set of sentinels or a cluster."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveInt,
    TypeAdapter,
    model_validator,
)
from typing_extensions import TypedDict, deprecated, override

from tomskit.addresses import RedisAddress, is_socket
from tomskit.errors import ConfigurationError
from tomskit.settings import (
    Concealed,
    Port,
    Seconds,
    SecondsOrZero,
    Secret,
    SettingsWarning,
    TomsKitBaseSettings,
    Url,
    instead_of_parts,
    secret,
)
from tomskit.urls import (
    host_name,
    named_options,
    parse_nodes,
    parse_redis_url,
    redis_url,
)
from tomskit.variables import warn_of_no_effect

__all__ = (
    "REDIS_SSL",
    "CertificateCheck",
    "CertificateCheckSetting",
    "Host",
    "Nodes",
    "RedisConfig",
    "RedisUrl",
    "TLSOptions",
    "redis_parts",
    "tls_options",
)

_ANY_PORT: Final = 1
_ANOTHER_PORT: Final = 2


def _joined(value: object) -> object:
    if isinstance(value, str) and value.lstrip().startswith('["'):
        return ",".join(TypeAdapter(list[str]).validate_json(value))
    return value


def _nodes(text: str) -> str:
    parse_nodes(text, default_port=_ANY_PORT)
    return text


Host = Annotated[str, AfterValidator(host_name)]
"""A host name or an IP address; an IPv6 address with or without brackets."""

Nodes = Annotated[str, BeforeValidator(_joined), AfterValidator(_nodes)]
"""Servers, as ``host:port,host:port`` or a JSON list of ``"host:port"``."""


def _certificate_check(value: object) -> object:
    if isinstance(value, str) and value.startswith(_OF_SSL):
        name = value.removeprefix(_OF_SSL).lower()
        warnings.warn(f"{value} is now written {name}", SettingsWarning, stacklevel=2)
        return name
    return value


_OF_SSL: Final = "CERT_"

CertificateCheck = Literal["required", "optional", "none"]

CertificateCheckSetting = Annotated[CertificateCheck, BeforeValidator(_certificate_check)]
"""Also by the names of Python's ``ssl``, such as CERT_REQUIRED, which are deprecated."""


class TLSOptions(TypedDict, total=False):
    """Keyword arguments of redis-py's TLS connections; kombu and Celery pass them on."""

    ssl_cert_reqs: CertificateCheck
    ssl_check_hostname: bool
    ssl_ca_certs: str
    ssl_certfile: str
    ssl_keyfile: str


def tls_options(
    *,
    cert_reqs: CertificateCheck,
    check_hostname: bool,
    ca_certs: str | None,
    certfile: str | None,
    keyfile: str | None,
) -> TLSOptions:
    """Build the options; paths that were not set are left out."""
    options = TLSOptions(
        ssl_cert_reqs=cert_reqs,
        # redis-py refuses to check the host name if it does not verify the certificate.
        ssl_check_hostname=check_hostname and cert_reqs != "none",
    )
    if ca_certs is not None:
        options["ssl_ca_certs"] = ca_certs
    if certfile is not None:
        options["ssl_certfile"] = certfile
    if keyfile is not None:
        options["ssl_keyfile"] = keyfile
    return options


REDIS_SSL: Final = frozenset(
    {
        *("REDIS_SSL_CERT_REQS", "REDIS_SSL_CHECK_HOSTNAME", "REDIS_SSL_CA_CERTS"),
        *("REDIS_SSL_CERTFILE", "REDIS_SSL_KEYFILE"),
    }
)
"""The settings of RedisConfig that say more of TLS."""

_SENTINEL: Final = frozenset(
    {
        *("REDIS_SENTINELS", "REDIS_SENTINEL_MASTER_NAME", "REDIS_SENTINEL_USERNAME"),
        *("REDIS_SENTINEL_PASSWORD", "REDIS_SENTINEL_SOCKET_TIMEOUT"),
    }
)


def redis_parts(address: RedisAddress) -> dict[str, object]:
    """The fields of RedisConfig that a URL says."""
    return {
        "REDIS_HOST": address.host,
        "REDIS_PORT": address.port,
        "REDIS_USERNAME": address.username,
        "REDIS_PASSWORD": address.password and Concealed(address.password),
        "REDIS_DB": address.db,
        "REDIS_USE_SSL": address.tls,
    }


def _redis_url(text: str | None) -> str | None:
    if text is not None and (options := parse_redis_url(text).options):
        raise ConfigurationError(
            f"options in the URL are not read{named_options(options)}: use the other REDIS_ settings, "
            "such as REDIS_SSL_CA_CERTS"
        )
    return text


RedisUrl = Annotated[Url, AfterValidator(_redis_url)]
"""``redis://user:password@host:port/db``, ``rediss://`` for TLS, ``unix://user:password@/path?db=db``."""


class RedisConfig(TomsKitBaseSettings):
    """The Redis of ``redis_client``; every field is an environment variable of the same name."""

    variable_prefixes: ClassVar[Sequence[str]] = ("REDIS_",)
    renamed: ClassVar[Mapping[str, str]] = {
        "REDIS_USE_CLUSTERS": "REDIS_USE_CLUSTER",
        "REDIS_CLUSTERS": "REDIS_CLUSTER_NODES",
        "REDIS_SENTINEL_SERVICE_NAME": "REDIS_SENTINEL_MASTER_NAME",
    }

    @classmethod
    @override
    def remarks_on(cls, variables: Collection[str]) -> dict[str, str]:
        """What to say of settings of toms-fast that mean something else."""
        known = {"REDIS_CLUSTERS_PASSWORD": "a cluster's password is REDIS_PASSWORD"}
        return {name: known[name] for name in known if name in variables}

    given_redis_url: RedisUrl = Field(
        default=None,
        alias="REDIS_URL",
        exclude=True,
        description="URL of the one server, in place of REDIS_HOST, REDIS_PORT, REDIS_USERNAME, "
        "REDIS_PASSWORD, REDIS_DB and REDIS_USE_SSL.",
    )
    REDIS_HOST: Host = Field(default="localhost", description="Host of the Redis server.")
    REDIS_PORT: Port = Field(default=6379, description="Port of the Redis server.")
    REDIS_USERNAME: str | None = Field(default=None, description="ACL user name.")
    REDIS_PASSWORD: Secret = secret(description="Password.")
    REDIS_DB: NonNegativeInt = Field(default=0, description="Database number.")
    REDIS_MAX_CONNECTIONS: PositiveInt = Field(
        default=32,
        description="Connections that a process opens at the most; a command waits for a free one.",
    )
    REDIS_SOCKET_TIMEOUT: Seconds | None = Field(
        default=None,
        description="Seconds to wait for an answer; without a limit by default, as blocking commands "
        "such as BLPOP may take long.",
    )
    REDIS_SOCKET_CONNECT_TIMEOUT: Seconds = Field(
        default=5.0, description="Seconds to wait for a connection, and for its login."
    )
    REDIS_SOCKET_KEEPALIVE: bool = Field(
        default=True,
        description="Let the system probe connections: one that is dead is closed after 45 seconds.",
    )
    REDIS_HEALTH_CHECK_INTERVAL: SecondsOrZero = Field(
        default=25.0,
        description="Seconds after which an idle connection is tried before it is used; 0 is never.",
    )

    REDIS_USE_SSL: bool = Field(default=False, description="Connect with TLS.")
    REDIS_SSL_CERT_REQS: CertificateCheckSetting = Field(
        default="required", description="How the server's certificate is checked."
    )
    REDIS_SSL_CHECK_HOSTNAME: bool = Field(
        default=True, description="Check that the certificate names the host."
    )
    REDIS_SSL_CA_CERTS: str | None = Field(
        default=None, description="Path of the CA certificates; the system's by default."
    )
    REDIS_SSL_CERTFILE: str | None = Field(
        default=None, description="Path of the client's certificate."
    )
    REDIS_SSL_KEYFILE: str | None = Field(default=None, description="Path of the client's key.")

    REDIS_USE_SENTINEL: bool = Field(
        default=False, description="Find the server through sentinels."
    )
    REDIS_SENTINELS: Nodes | None = Field(
        default=None,
        description="The sentinels, as `host:port,host:port`; by default REDIS_HOST and "
        "REDIS_PORT are the one sentinel.",
    )
    REDIS_SENTINEL_MASTER_NAME: str | None = Field(
        default=None, description="What the sentinels call the master."
    )
    REDIS_SENTINEL_USERNAME: str | None = Field(
        default=None, description="The sentinels' user name."
    )
    REDIS_SENTINEL_PASSWORD: Secret = secret(description="The sentinels' own password.")
    REDIS_SENTINEL_SOCKET_TIMEOUT: Seconds = Field(
        default=0.1, description="Seconds to wait for a sentinel."
    )

    REDIS_USE_CLUSTER: bool = Field(default=False, description="The server is a Redis Cluster.")
    REDIS_CLUSTER_NODES: Nodes | None = Field(
        default=None,
        description="Nodes to ask for the cluster's layout, as `host:port,host:port`; by default "
        "REDIS_HOST and REDIS_PORT.",
    )

    @model_validator(mode="after")
    def _use_the_redis_url(self) -> Self:
        if self.given_redis_url is not None:
            instead_of_parts(self, "REDIS_URL", redis_parts(parse_redis_url(self.given_redis_url)))
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.REDIS_USE_SENTINEL and self.REDIS_USE_CLUSTER:
            raise ValueError("REDIS_USE_SENTINEL and REDIS_USE_CLUSTER exclude each other")
        if self.REDIS_USE_SENTINEL and not self.REDIS_SENTINEL_MASTER_NAME:
            raise ValueError("REDIS_USE_SENTINEL needs REDIS_SENTINEL_MASTER_NAME")
        if is_socket(self.REDIS_HOST):
            for name in ("REDIS_USE_SENTINEL", "REDIS_USE_CLUSTER"):
                if vars(self)[name]:
                    raise ValueError(f"REDIS_URL names a Unix socket: leave {name} out")
        if self.REDIS_USE_CLUSTER and self.REDIS_DB:
            raise ValueError("A Redis Cluster has only database 0: leave REDIS_DB out")
        return self

    @model_validator(mode="after")
    def _in_force(self) -> Self:
        given = self.model_fields_set
        # Where a switch was set to false, somebody has decided.
        if not self.REDIS_USE_SENTINEL and "REDIS_USE_SENTINEL" not in given:
            warn_of_no_effect(given, _SENTINEL, "set REDIS_USE_SENTINEL=true as well")
        if not self.REDIS_USE_CLUSTER and "REDIS_USE_CLUSTER" not in given:
            warn_of_no_effect(given, {"REDIS_CLUSTER_NODES"}, "set REDIS_USE_CLUSTER=true as well")
        if not self.REDIS_USE_SSL and "REDIS_USE_SSL" not in given:
            warn_of_no_effect(given, REDIS_SSL, "set REDIS_USE_SSL=true as well")
        if is_socket(self.REDIS_HOST):
            warn_of_no_effect(given, {"REDIS_SOCKET_KEEPALIVE"}, "REDIS_URL names a Unix socket")
        here = {"REDIS_HOST", "REDIS_PORT"}
        if self.REDIS_USE_SENTINEL and self.REDIS_SENTINELS:
            warn_of_no_effect(given, here, "REDIS_SENTINELS says where to connect")
        if self.REDIS_USE_CLUSTER and self.REDIS_CLUSTER_NODES:
            # Nodes without a port have this one.
            if parse_nodes(self.REDIS_CLUSTER_NODES, default_port=_ANY_PORT) != parse_nodes(
                self.REDIS_CLUSTER_NODES, default_port=_ANOTHER_PORT
            ):
                here = {"REDIS_HOST"}
            warn_of_no_effect(given, here, "REDIS_CLUSTER_NODES says where to connect")
        return self

    @property
    @deprecated("REDIS_USE_CLUSTERS is now called REDIS_USE_CLUSTER")
    def REDIS_USE_CLUSTERS(self) -> bool:  # noqa: N802 (named like the settings)
        """REDIS_USE_CLUSTER."""
        return self.REDIS_USE_CLUSTER

    @property
    @deprecated("REDIS_CLUSTERS is now called REDIS_CLUSTER_NODES")
    def REDIS_CLUSTERS(self) -> str | None:  # noqa: N802 (named like the settings)
        """REDIS_CLUSTER_NODES."""
        return self.REDIS_CLUSTER_NODES

    @property
    @deprecated("REDIS_SENTINEL_SERVICE_NAME is now called REDIS_SENTINEL_MASTER_NAME")
    def REDIS_SENTINEL_SERVICE_NAME(self) -> str | None:  # noqa: N802 (named like the settings)
        """REDIS_SENTINEL_MASTER_NAME."""
        return self.REDIS_SENTINEL_MASTER_NAME

    @property
    def REDIS_URL(self) -> str:  # noqa: N802 (named like the settings)
        """URL of the one server, as redis-py reads it; holds the password."""
        parts = RedisAddress(
            host=self.REDIS_HOST,
            port=self.REDIS_PORT,
            db=self.REDIS_DB,
            username=self.REDIS_USERNAME,
            password=self.REDIS_PASSWORD,
            tls=self.REDIS_USE_SSL,
            options={},
        )
        given = self.given_redis_url
        # Of a copy with another host, say, the fields count. redis-py does not read Celery's URLs of Unix sockets.
        is_read = given is not None and not given.startswith("redis+")
        if given is not None and is_read and parse_redis_url(given) == parts:
            return given
        url = redis_url(
            parts.host,
            parts.port,
            parts.db,
            username=parts.username,
            password=parts.password,
            tls=parts.tls,
        )
        return Concealed(url)

    @property
    def REDIS_TLS_OPTIONS(self) -> TLSOptions:  # noqa: N802 (named like the settings)
        """Keyword arguments of a TLS connection."""
        return tls_options(
            cert_reqs=self.REDIS_SSL_CERT_REQS,
            check_hostname=self.REDIS_SSL_CHECK_HOSTNAME,
            ca_certs=self.REDIS_SSL_CA_CERTS,
            certfile=self.REDIS_SSL_CERTFILE,
            keyfile=self.REDIS_SSL_KEYFILE,
        )
