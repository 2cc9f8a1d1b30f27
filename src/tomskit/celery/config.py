"""CeleryConfig: Celery's settings, the task database and the task Redis, typed."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self, TypeVar
from zoneinfo import ZoneInfo

from celery.app.defaults import DEFAULTS
from celery.utils.time import rate
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)
from typing_extensions import override

from tomskit.redis.config import CertificateCheck, Host, Nodes, RedisConfig
from tomskit.settings import (
    CommaSeparated,
    Options,
    Port,
    Seconds,
    SecondsOrZero,
    Secret,
    TomsKitBaseSettings,
)
from tomskit.sqlalchemy.config import (
    DatabaseConfig,
    DatabaseHost,
    EngineOptions,
    Extras,
    Scheme,
)
from tomskit.urls import HostPort, parse_nodes, sentinel_url, synchronous_scheme

__all__ = ("CeleryConfig",)

_PREFIX: Final = "CELERY_"
_DEFAULT_SENTINEL_PORT: Final = 26379

ConfigT = TypeVar("ConfigT", DatabaseConfig, RedisConfig)


class _Concealed(str):
    """Text that the ``repr`` of what holds it, such as ``app.conf``, does not show."""

    __slots__ = ()

    @override
    def __repr__(self) -> str:
        return "'********'"


def _without_db_prefix(scheme: object) -> object:
    return scheme.removeprefix("db+") if isinstance(scheme, str) else scheme


def _time_zone(name: str) -> str:
    if name.upper() != "UTC":  # which needs no time zone database
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            raise ValueError("there is no such time zone") from None
    return name


def _rate_limit(text: str) -> str:
    try:
        rate(text)
    except (KeyError, ValueError):
        raise ValueError("a rate limit is a number of tasks, such as 5, 5/s, 5/m or 5/h") from None
    return text


class CeleryConfig(TomsKitBaseSettings):
    """Everything a worker is told; every field is an environment variable of the same name.

    ``app.config_from_object(CeleryConfig())`` or ``AsyncCelery(config=CeleryConfig())`` makes all
    of it take effect. Where a field is called ``CELERY_`` and the name of one of Celery's own
    settings in capitals, it sets that one, in a subclass as well; ``None`` leaves Celery's default.
    """

    # -- broker
    CELERY_BROKER_REDIS_HOST: Host = Field(default="localhost", description="Host of the broker.")
    CELERY_BROKER_REDIS_PORT: Port = Field(default=6379, description="Port of the broker.")
    CELERY_BROKER_REDIS_USERNAME: str | None = Field(default=None, description="ACL user name.")
    CELERY_BROKER_REDIS_PASSWORD: Secret = Field(default=None, description="Password.")
    CELERY_BROKER_REDIS_DB: NonNegativeInt = Field(default=0, description="Database number.")
    CELERY_BROKER_REDIS_USE_SSL: bool = Field(default=False, description="Connect with TLS.")
    CELERY_BROKER_REDIS_SSL_CERT_REQS: CertificateCheck = Field(
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
    CELERY_SENTINEL_PASSWORD: Secret = Field(
        default=None, description="The sentinels' own password."
    )
    CELERY_SENTINEL_SOCKET_TIMEOUT: Seconds = Field(
        default=0.1, description="Seconds to wait for a sentinel."
    )

    # -- results
    CELERY_RESULT_BACKEND_TYPE: Literal["redis", "database"] = Field(
        default="redis", description="Where results go: to Redis, or to the CELERY_DB_ database."
    )
    CELERY_RESULT_BACKEND_REDIS_HOST: Host = Field(default="localhost", description="Host.")
    CELERY_RESULT_BACKEND_REDIS_PORT: Port = Field(default=6379, description="Port.")
    CELERY_RESULT_BACKEND_REDIS_USERNAME: str | None = Field(
        default=None, description="ACL user name."
    )
    CELERY_RESULT_BACKEND_REDIS_PASSWORD: Secret = Field(default=None, description="Password.")
    CELERY_RESULT_BACKEND_REDIS_DB: NonNegativeInt = Field(
        default=1, description="Database number."
    )
    CELERY_RESULT_BACKEND_REDIS_USE_SSL: bool = Field(
        default=False, description="Connect with TLS."
    )
    CELERY_RESULT_BACKEND_REDIS_SSL_CERT_REQS: CertificateCheck = Field(
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
        Scheme, BeforeValidator(_without_db_prefix)
    ] = Field(default="mysql", description="Dialect and synchronous driver of a result database.")
    CELERY_RESULT_EXPIRES: NonNegativeInt | None = Field(
        default=None,
        description="Seconds that results are kept; 0 is for ever, None Celery's one day.",
    )
    CELERY_RESULT_EXTENDED: bool = Field(
        default=False, description="Store the task's name, arguments and worker with its result."
    )
    CELERY_RESULT_COMPRESSION: str | None = Field(
        default=None, description="Compress results: `gzip`, `bzip2`, `zstd`."
    )
    CELERY_RESULT_BACKEND_ALWAYS_RETRY: bool | None = Field(
        default=None,
        description="Repeat a failed access to the result backend; None is Celery's default, "
        "which is yes for a database.",
    )
    CELERY_REDIS_MAX_CONNECTIONS: PositiveInt | None = Field(
        default=None, description="Connections of a process to a result Redis at the most."
    )
    CELERY_REDIS_SOCKET_TIMEOUT: Seconds = Field(
        default=120.0, description="Seconds to wait for an answer of a result Redis."
    )

    # -- messages
    CELERY_TASK_SERIALIZER: str = Field(default="json", description="How arguments are encoded.")
    CELERY_RESULT_SERIALIZER: str = Field(default="json", description="How results are encoded.")
    CELERY_ACCEPT_CONTENT: CommaSeparated = Field(
        default=["json"], description="Serializers that are read; in the environment `a,b`."
    )
    CELERY_TASK_COMPRESSION: str | None = Field(
        default=None, description="Compress messages: `gzip`, `bzip2`, `zstd`."
    )
    CELERY_TIMEZONE: Annotated[str, AfterValidator(_time_zone)] = Field(
        default="UTC", description="Time zone of schedules."
    )
    CELERY_ENABLE_UTC: bool = Field(default=True, description="Send times as UTC.")

    # -- tasks
    CELERY_IMPORTS: CommaSeparated = Field(
        default=[], description="Modules with tasks, loaded when a worker starts."
    )
    CELERY_INCLUDE: CommaSeparated = Field(
        default=[], description="More modules with tasks, loaded after CELERY_IMPORTS."
    )
    CELERY_TASK_ROUTES: Options = Field(
        default=None, description='Where tasks go: `{"shop.*": {"queue": "shop"}}`.'
    )
    CELERY_BEAT_SCHEDULE: Options = Field(
        default=None,
        description='What `celery beat` sends: `{"daily": {"task": "report", "schedule": 86400}}`.',
    )
    CELERY_TASK_PUBLISH_RETRY: bool = Field(
        default=True, description="Send a task again when the connection to the broker was lost."
    )
    CELERY_TASK_DEFAULT_QUEUE: str = Field(
        default="celery", description="Queue of tasks without one."
    )
    CELERY_TASK_TRACK_STARTED: bool = Field(default=True, description="Record the state STARTED.")
    CELERY_TASK_IGNORE_RESULT: bool = Field(default=False, description="Keep no results.")
    CELERY_TASK_STORE_ERRORS_EVEN_IF_IGNORED: bool = Field(
        default=False, description="Keep errors of tasks whose results are ignored."
    )
    CELERY_TASK_TIME_LIMIT: Seconds | None = Field(
        default=None, description="Seconds after which a task is ended."
    )
    CELERY_TASK_SOFT_TIME_LIMIT: Seconds | None = Field(
        default=None, description="Seconds after which a task gets SoftTimeLimitExceeded."
    )
    CELERY_TASK_ACKS_LATE: bool = Field(
        default=False, description="Acknowledge a message after its task has run."
    )
    CELERY_TASK_REJECT_ON_WORKER_LOST: bool = Field(
        default=False, description="Run a late-acknowledged task again when its process was killed."
    )
    CELERY_TASK_DEFAULT_RATE_LIMIT: Annotated[str, AfterValidator(_rate_limit)] | None = Field(
        default=None, description="Rate limit of tasks without one, such as `10/s`."
    )
    CELERY_TASK_DEFAULT_PRIORITY: NonNegativeInt | None = Field(
        default=None, description="Priority of tasks without one; 0 is the highest on Redis."
    )
    CELERY_TASK_CREATE_MISSING_QUEUES: bool = Field(
        default=True, description="Make queues that are named but not configured."
    )
    CELERY_TASK_SEND_SENT_EVENT: bool = Field(
        default=False, description="Send an event for each task that is sent."
    )
    CELERY_TASK_ALWAYS_EAGER: bool = Field(
        default=False, description="Run tasks where they are called, for tests."
    )
    CELERY_TASK_EAGER_PROPAGATES: bool = Field(
        default=False, description="Let errors of eager tasks out of `.delay`."
    )
    CELERY_TASK_STORE_EAGER_RESULT: bool = Field(
        default=False, description="Store results of eager tasks."
    )

    CELERY_REDIS_FAST_PATH: bool | None = Field(
        default=None,
        description="Talk to Redis many commands at once. None does so in workers of the asyncio pool "
        "and in async code that sends tasks, true in all workers as well, false nowhere.",
    )

    # -- worker
    CELERY_WORKER_POOL: Literal["prefork", "solo", "threads", "asyncio"] = Field(
        default="prefork", description="How the worker runs several tasks at once."
    )
    CELERY_WORKER_CONCURRENCY: PositiveInt | None = Field(
        default=None,
        description="Tasks at once; the number of processors by default, and 1000 with asyncio.",
    )
    CELERY_WORKER_SYNC_CONCURRENCY: PositiveInt = Field(
        default=16, description="Plain tasks at once in threads, beside async ones with asyncio."
    )
    CELERY_WORKER_SLOW_CALLBACK_DURATION: SecondsOrZero = Field(
        default=0.5,
        description="Seconds for which a task may block the event loop with asyncio, before the log "
        "names it; 0 is no limit.",
    )
    CELERY_WORKER_POOL_START_METHOD: Literal["fork", "spawn"] = Field(
        default="fork", description="How the prefork pool makes its processes."
    )
    CELERY_WORKER_PREFETCH_MULTIPLIER: NonNegativeInt = Field(
        default=4, description="Messages fetched ahead, for each task at once; 0 is no limit."
    )
    CELERY_WORKER_MAX_TASKS_PER_CHILD: PositiveInt | None = Field(
        default=None, description="Tasks after which a prefork process is replaced."
    )
    CELERY_WORKER_MAX_MEMORY_PER_CHILD: PositiveInt | None = Field(
        default=None, description="KiB of memory after which a prefork process is replaced."
    )
    CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT: SecondsOrZero = Field(
        default=0.0, description="Seconds that a cold shutdown first waits for tasks to finish."
    )
    CELERY_WORKER_ENABLE_SOFT_SHUTDOWN_ON_IDLE: bool = Field(
        default=False, description="Wait so when no task runs as well, for tasks with an ETA."
    )
    CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS: bool = Field(
        default=False, description="End late-acknowledged tasks when the broker is lost."
    )
    CELERY_WORKER_SEND_TASK_EVENTS: bool = Field(
        default=False, description="Send events that monitors such as Flower show."
    )
    CELERY_WORKER_DISABLE_RATE_LIMITS: bool = Field(
        default=False, description="Ignore all rate limits."
    )
    CELERY_WORKER_ENABLE_REMOTE_CONTROL: bool = Field(
        default=True, description="Listen to `celery inspect` and `celery control`."
    )
    CELERY_WORKER_HIJACK_ROOT_LOGGER: bool = Field(
        default=True, description="Replace the root logger's handlers."
    )
    CELERY_WORKER_LOG_FORMAT: str | None = Field(
        default=None, description="Format of the worker's log lines; shows the task id by default."
    )
    CELERY_WORKER_TASK_LOG_FORMAT: str | None = Field(
        default=None, description="Format of task loggers' lines; shows the task id by default."
    )

    # -- the database of db.session, and of results with the type "database"
    CELERY_DB_HOST: DatabaseHost = Field(
        default="localhost", description="Host of the database server."
    )
    CELERY_DB_PORT: Port = Field(default=5432, description="Port of the database server.")
    CELERY_DB_USERNAME: str = Field(default="", description="User name; empty for none.")
    CELERY_DB_PASSWORD: str = Field(default="", repr=False, description="Password; empty for none.")
    CELERY_DB_DATABASE: str = Field(
        default="tomskitdb", description="Database name; for SQLite the file's path."
    )
    CELERY_DB_CHARSET: str = Field(
        default="", description="Character set, passed under the name that the driver knows."
    )
    CELERY_DB_EXTRAS: Extras = Field(
        default="", description="More URL parameters as a query string: `a=1&b=2`."
    )
    CELERY_SQLALCHEMY_DATABASE_URI_SCHEME: Scheme = Field(
        default="mysql+aiomysql", description="Dialect and asynchronous driver."
    )
    CELERY_SQLALCHEMY_DATABASE_SYNC_URI_SCHEME: Scheme = Field(
        default="mysql+pymysql", description="Dialect and synchronous driver."
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
    CELERY_SQLALCHEMY_ECHO: bool = Field(default=False, description="Log every statement.")
    CELERY_SQLALCHEMY_POOL_ECHO: bool = Field(default=False, description="Log what the pool does.")

    # -- the Redis of redis_client
    CELERY_WORKER_REDIS_HOST: Host = Field(default="localhost", description="Host.")
    CELERY_WORKER_REDIS_PORT: Port = Field(default=6379, description="Port.")
    CELERY_WORKER_REDIS_USERNAME: str | None = Field(default=None, description="ACL user name.")
    CELERY_WORKER_REDIS_PASSWORD: Secret = Field(default=None, description="Password.")
    CELERY_WORKER_REDIS_DB: NonNegativeInt = Field(default=0, description="Database number.")
    CELERY_WORKER_REDIS_MAX_CONNECTIONS: PositiveInt = Field(
        default=32, description="Connections that a process opens at the most."
    )
    CELERY_WORKER_REDIS_USE_SSL: bool = Field(default=False, description="Connect with TLS.")
    CELERY_WORKER_REDIS_SSL_CERT_REQS: CertificateCheck = Field(
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
    def _consistent(self) -> Self:
        if self.CELERY_USE_SENTINEL and not self.CELERY_SENTINEL_MASTER_NAME:
            raise ValueError("CELERY_USE_SENTINEL needs CELERY_SENTINEL_MASTER_NAME")
        soft, hard = self.CELERY_TASK_SOFT_TIME_LIMIT, self.CELERY_TASK_TIME_LIMIT
        if soft is not None and hard is not None and soft > hard:
            raise ValueError("CELERY_TASK_SOFT_TIME_LIMIT is longer than CELERY_TASK_TIME_LIMIT")
        return self

    # -- computed

    @property
    def CELERY_BROKER_URL(self) -> str:  # noqa: N802 (named like the settings)
        """URL of the broker; holds the password."""
        return self._redis_url(self._broker())

    @property
    def CELERY_RESULT_BACKEND(self) -> str:  # noqa: N802 (named like the settings)
        """URL of the result backend; holds the password."""
        if self.CELERY_RESULT_BACKEND_TYPE == "redis":
            return self._redis_url(self._results())
        scheme = synchronous_scheme(self.CELERY_RESULT_BACKEND_DATABASE_URI_SCHEME)
        return f"db+{self.database_config().uri(scheme)}"

    @property
    def CELERY_BROKER_TRANSPORT_OPTIONS(self) -> dict[str, object]:  # noqa: N802
        """What kombu is told beside the URL: how to find the master, the visibility timeout."""
        options = self._sentinel_options(self._broker())
        if self.CELERY_BROKER_VISIBILITY_TIMEOUT is not None:
            options["visibility_timeout"] = self.CELERY_BROKER_VISIBILITY_TIMEOUT
        return options

    @property
    def CELERY_RESULT_BACKEND_TRANSPORT_OPTIONS(self) -> dict[str, object]:  # noqa: N802
        """What the result backend is told beside the URL: how to find the master."""
        if self.CELERY_RESULT_BACKEND_TYPE != "redis":
            return {}
        return self._sentinel_options(self._results())

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

    def celery_settings(self) -> dict[str, object]:
        """All of it under Celery's own setting names. Holds passwords."""
        settings: dict[str, object] = {}
        for field in type(self).model_fields:
            name = field.removeprefix(_PREFIX).lower()
            value: object = getattr(self, field)
            if field.startswith(_PREFIX) and name in DEFAULTS and value is not None:
                settings[name] = value
        settings["broker_url"] = _Concealed(self.CELERY_BROKER_URL)
        settings["result_backend"] = _Concealed(self.CELERY_RESULT_BACKEND)
        settings["broker_transport_options"] = self.CELERY_BROKER_TRANSPORT_OPTIONS
        settings["result_backend_transport_options"] = self.CELERY_RESULT_BACKEND_TRANSPORT_OPTIONS
        if self.CELERY_BROKER_REDIS_USE_SSL:
            settings["broker_use_ssl"] = dict(self._broker().REDIS_TLS_OPTIONS)
        if self.CELERY_RESULT_BACKEND_REDIS_USE_SSL:
            settings["redis_backend_use_ssl"] = dict(self._results().REDIS_TLS_OPTIONS)
        return settings

    def database_config(self) -> DatabaseConfig:
        """The CELERY_DB_ and CELERY_SQLALCHEMY_ fields as a DatabaseConfig."""
        return self._renamed(DatabaseConfig, _PREFIX)

    def redis_config(self) -> RedisConfig:
        """The CELERY_WORKER_REDIS_ fields as a RedisConfig; the rest has its defaults."""
        return self._renamed(RedisConfig, "CELERY_WORKER_")

    def sets_any(self, *prefixes: str) -> bool:
        """Whether a field with one of these prefixes was given, by argument or environment."""
        return any(name.startswith(prefixes) for name in self.model_fields_set)

    def _broker(self) -> RedisConfig:
        return self._renamed(RedisConfig, "CELERY_BROKER_")

    def _results(self) -> RedisConfig:
        return self._renamed(RedisConfig, "CELERY_RESULT_BACKEND_")

    def _renamed(self, target: type[ConfigT], prefix: str) -> ConfigT:
        # Nothing is read from the environment here and nothing needs to be validated again.
        mine = type(self).model_fields
        values: dict[str, Any] = {
            name: getattr(self, prefix + name)
            for name in target.model_fields
            if prefix + name in mine
        }
        return target.model_construct(**values)

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
        return nodes or [HostPort(self.CELERY_BROKER_REDIS_HOST, self.CELERY_BROKER_REDIS_PORT)]

    def _sentinel_options(self, server: RedisConfig) -> dict[str, object]:
        if not self.CELERY_USE_SENTINEL:
            return {}
        # Only for the connections to the sentinels: this short timeout on the connection to the
        # master would end each of its blocking reads.
        sentinel: dict[str, object] = {"socket_timeout": self.CELERY_SENTINEL_SOCKET_TIMEOUT}
        if self.CELERY_SENTINEL_USERNAME is not None:
            sentinel["username"] = self.CELERY_SENTINEL_USERNAME
        if self.CELERY_SENTINEL_PASSWORD is not None:
            sentinel["password"] = _Concealed(self.CELERY_SENTINEL_PASSWORD)
        if server.REDIS_USE_SSL:
            sentinel |= {"ssl": True, **server.REDIS_TLS_OPTIONS}
        return {"master_name": self.CELERY_SENTINEL_MASTER_NAME, "sentinel_kwargs": sentinel}
