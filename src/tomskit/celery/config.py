"""CeleryConfig: Celery's settings, the task database and the task Redis, typed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from types import NoneType
from typing import ClassVar, Final, Self

from celery.app.defaults import DEFAULTS
from pydantic import model_validator
from typing_extensions import override

from tomskit.addresses import is_socket
from tomskit.celery._internals.celery_command import variables_of_celery
from tomskit.celery._settings.broker import BrokerSettings
from tomskit.celery._settings.prefixes import PREFIX
from tomskit.celery._settings.resources import ResourceSettings
from tomskit.celery._settings.results import ResultSettings
from tomskit.celery._settings.tasks_and_worker import SPAWN_TIMEOUT, TaskAndWorkerSettings
from tomskit.celery._settings.urls import REDIS_SCHEMES, scheme_of
from tomskit.defaults import changed_defaults
from tomskit.redis.config import REDIS_SSL, RedisConfig
from tomskit.settings import Concealed, instead_of_parts
from tomskit.sqlalchemy.config import MYSQL_PORT_IS_MISSING, DatabaseConfig
from tomskit.urls import synchronous_scheme
from tomskit.variables import warn_of_no_effect

__all__ = ("CeleryConfig",)

_OF_CONNECTIONS: Final = (
    *("SOCKET_TIMEOUT", "SOCKET_CONNECT_TIMEOUT", "SOCKET_KEEPALIVE", "HEALTH_CHECK_INTERVAL"),
)
_OF_THE_BROKER: Final = frozenset(f"CELERY_BROKER_{name}" for name in _OF_CONNECTIONS)
_OF_RESULTS: Final = frozenset(f"CELERY_RESULT_{name}" for name in _OF_CONNECTIONS)
_KEEPALIVE: Final = {
    "CELERY_BROKER_REDIS_HOST": "CELERY_BROKER_SOCKET_KEEPALIVE",
    "CELERY_RESULT_BACKEND_REDIS_HOST": "CELERY_RESULT_SOCKET_KEEPALIVE",
    "CELERY_WORKER_REDIS_HOST": "CELERY_WORKER_REDIS_SOCKET_KEEPALIVE",
}
_SENTINEL: Final = frozenset(
    f"CELERY_SENTINEL{name}"
    for name in ("S", "_MASTER_NAME", "_USERNAME", "_PASSWORD", "_SOCKET_TIMEOUT")
)


# Pydantic collects the fields from the last base class to the first: the broker's come first.
class CeleryConfig(ResourceSettings, TaskAndWorkerSettings, ResultSettings, BrokerSettings):
    """Everything a worker is told; every field is an environment variable of the same name.

    ``app.config_from_object(CeleryConfig())`` or ``AsyncCelery(config=CeleryConfig())`` makes all
    of it take effect. Where a field is called ``CELERY_`` and the name of one of Celery's own
    settings in capitals, it sets that one, in a subclass as well; ``None`` leaves Celery's default.
    """

    variable_prefixes: ClassVar[Sequence[str]] = (PREFIX,)

    @classmethod
    @override
    def variables_of_others(cls) -> Collection[str]:
        """What Celery reads itself, such as the options of its command line."""
        return variables_of_celery()

    @classmethod
    @override
    def remarks_on(cls, variables: Collection[str]) -> dict[str, str]:
        """What to do about settings of Celery's that have no field."""
        settings = {name: name.removeprefix(PREFIX).lower() for name in variables}
        return {
            name: f"{setting} of Celery has no field: add one of the variable's name to a subclass"
            for name, setting in settings.items()
            if setting in DEFAULTS
        }

    @model_validator(mode="after")
    def _use_the_result_backend(self) -> Self:
        url = self.given_result_backend
        if url is not None:
            self._use_redis_url("CELERY_RESULT_BACKEND", url, "CELERY_RESULT_BACKEND_")
            instead_of_parts(
                self,
                "CELERY_RESULT_BACKEND",
                {},
                "CELERY_RESULT_BACKEND_TYPE",
                "CELERY_RESULT_BACKEND_DATABASE_URI_SCHEME",
            )
            if scheme_of(url) == "sentinel" and not self.CELERY_SENTINEL_MASTER_NAME:
                raise ValueError("CELERY_RESULT_BACKEND needs CELERY_SENTINEL_MASTER_NAME")
            if self.given_broker_url is not None:
                both = "CELERY_BROKER_URL and CELERY_RESULT_BACKEND"
                instead_of_parts(self, both, {}, "CELERY_USE_SENTINEL", "CELERY_SENTINELS")
        return self

    @model_validator(mode="after")
    def _connections_in_force(self) -> Self:
        given = self.model_fields_set
        for prefix in ("CELERY_BROKER_", "CELERY_RESULT_BACKEND_", "CELERY_WORKER_"):
            switch = f"{prefix}REDIS_USE_SSL"
            # Where it was set to false, somebody has decided.
            if not vars(self)[switch] and switch not in given:
                names = {f"{prefix}{name}" for name in REDIS_SSL}
                warn_of_no_effect(given, names, f"set {switch}=true as well")
        for host, name in _KEEPALIVE.items():
            if is_socket(vars(self)[host]):
                warn_of_no_effect(given, {name}, "Redis is reached by a Unix socket")
        if scheme_of(self.CELERY_BROKER_URL) not in REDIS_SCHEMES:
            fast = {"CELERY_REDIS_FAST_PATH"} if self.CELERY_REDIS_FAST_PATH else set[str]()
            warn_of_no_effect(given, _OF_THE_BROKER | fast, "the broker is not Redis")
        if scheme_of(self.CELERY_RESULT_BACKEND) not in REDIS_SCHEMES:
            warn_of_no_effect(given, _OF_RESULTS, "the result backend is not Redis")
        if not {"given_result_backend", "CELERY_RESULT_BACKEND_TYPE"} & given:
            names = {"CELERY_RESULT_BACKEND_DATABASE_URI_SCHEME"}
            warn_of_no_effect(given, names, "set CELERY_RESULT_BACKEND_TYPE=database as well")
        return self

    @model_validator(mode="after")
    def _sentinels_in_force(self) -> Self:
        given = self.model_fields_set
        urls = (self.CELERY_BROKER_URL, self.CELERY_RESULT_BACKEND)
        if "sentinel" not in map(scheme_of, urls):
            if "CELERY_USE_SENTINEL" not in given:
                warn_of_no_effect(given, _SENTINEL, "set CELERY_USE_SENTINEL=true as well")
        elif not self.CELERY_USE_SENTINEL:
            warn_of_no_effect(given, {"CELERY_SENTINELS"}, "a URL says where the sentinels are")
        else:
            names: set[str] = set()
            if self.given_result_backend is None:
                names |= {"CELERY_RESULT_BACKEND_REDIS_HOST", "CELERY_RESULT_BACKEND_REDIS_PORT"}
            if self.given_broker_url is None and self.CELERY_SENTINELS:
                names |= {"CELERY_BROKER_REDIS_HOST", "CELERY_BROKER_REDIS_PORT"}
            warn_of_no_effect(given, names, "the sentinels say where to connect")
        return self

    @property
    def CELERY_BROKER_URL(self) -> str:  # noqa: N802 (named like the settings)
        """URL of the broker; holds the password."""
        return self.given_broker_url or Concealed(self._redis_url(self._broker()))

    @property
    def CELERY_RESULT_BACKEND(self) -> str:  # noqa: N802 (named like the settings)
        """URL of the result backend; holds the password."""
        if self.given_result_backend is not None:
            return self.given_result_backend
        if self.CELERY_RESULT_BACKEND_TYPE == "redis":
            return Concealed(self._redis_url(self._results()))
        database = self.database_config()
        chosen = self.CELERY_RESULT_BACKEND_DATABASE_URI_SCHEME
        if "CELERY_RESULT_BACKEND_DATABASE_URI_SCHEME" not in self.model_fields_set and (
            database.given_database_uri is not None
            # The default is for another kind of database.
            or not database.SQLALCHEMY_DATABASE_URI_SCHEME.startswith(chosen)
        ):
            return Concealed(f"db+{database.SQLALCHEMY_DATABASE_SYNC_URI}")
        return Concealed(f"db+{database.uri(synchronous_scheme(chosen))}")

    @property
    def CELERY_BROKER_TRANSPORT_OPTIONS(self) -> dict[str, object]:  # noqa: N802
        """What kombu is told beside the URL: timeouts, and how to find the master."""
        url = self.CELERY_BROKER_URL
        options = self._sentinel_options(self._broker(), url)
        if scheme_of(url) in REDIS_SCHEMES:
            options |= self._socket_options()
        if self.CELERY_BROKER_VISIBILITY_TIMEOUT is not None:
            options["visibility_timeout"] = self.CELERY_BROKER_VISIBILITY_TIMEOUT
        return options

    @property
    def CELERY_RESULT_BACKEND_TRANSPORT_OPTIONS(self) -> dict[str, object]:  # noqa: N802
        """What the result backend is told beside the URL: how to find the master."""
        return self._sentinel_options(self._results(), self.CELERY_RESULT_BACKEND)

    def celery_settings(self) -> dict[str, object]:
        """Everything, under Celery's own names of the settings; contains passwords."""
        settings: dict[str, object] = {}
        for field in type(self).model_fields:
            name = field.removeprefix(PREFIX).lower()
            value: object = getattr(self, field)
            if field.startswith(PREFIX) and name in DEFAULTS and value is not None:
                settings[name] = value
        settings |= self._result_socket_options(self.CELERY_RESULT_BACKEND)
        if self.CELERY_WORKER_POOL_START_METHOD == "spawn":
            settings["worker_proc_alive_timeout"] = SPAWN_TIMEOUT
        settings["broker_url"] = Concealed(self.CELERY_BROKER_URL)
        settings["result_backend"] = Concealed(self.CELERY_RESULT_BACKEND)
        settings["broker_transport_options"] = self.CELERY_BROKER_TRANSPORT_OPTIONS
        settings["result_backend_transport_options"] = self.CELERY_RESULT_BACKEND_TRANSPORT_OPTIONS
        # An SSL_ setting of ours says what a rediss:// URL leaves open; what such a URL says wins.
        if self.CELERY_BROKER_REDIS_USE_SSL:
            settings["broker_use_ssl"] = dict(self._broker().REDIS_TLS_OPTIONS)
        if self.CELERY_RESULT_BACKEND_REDIS_USE_SSL:
            settings["redis_backend_use_ssl"] = dict(self._results().REDIS_TLS_OPTIONS)
        return settings

    def remark_on_results(self) -> str | None:
        """What to say where results go to a default that is hardly meant."""
        scheme = self.CELERY_RESULT_BACKEND_DATABASE_URI_SCHEME.partition("+")[0]
        if (
            self.CELERY_RESULT_BACKEND_TYPE == "database"
            and self.given_result_backend is None
            and scheme in {"mysql", "mariadb"}
            and self.database_config().mysql_port_is_missing
        ):
            return f"Results go to a database on port 5432. {MYSQL_PORT_IS_MISSING}"
        if not self._names_a_broker or self.CELERY_USE_SENTINEL or self.CELERY_TASK_IGNORE_RESULT:
            return None
        changed = changed_defaults(type(self))
        if self.sets_any("CELERY_RESULT_BACKEND") or any(
            name.startswith("CELERY_RESULT_BACKEND") for name in changed
        ):
            return None
        return (
            f"Results go to {self.CELERY_RESULT_BACKEND}, the default, as only the broker was set: "
            "set CELERY_RESULT_BACKEND or CELERY_RESULT_BACKEND_REDIS_HOST, or keep no results with "
            "CELERY_TASK_IGNORE_RESULT=true"
        )

    def remark_on_redis(self) -> str | None:
        """What to say where only the broker was given, so that redis_client uses the default."""
        redis = self.redis_config()
        if not self._names_a_broker or redis.model_fields_set:
            return None
        return (
            f"redis_client connects to {redis.REDIS_URL}, the default, as only the broker was set: "
            "set CELERY_WORKER_REDIS_URL or CELERY_WORKER_REDIS_HOST if tasks use it"
        )

    @property
    def _names_a_broker(self) -> bool:
        parts = ("HOST", "PORT", "USERNAME", "PASSWORD", "USE_SSL")
        fields = {f"CELERY_BROKER_REDIS_{part}" for part in parts}
        said = self.model_fields_set | changed_defaults(type(self))
        return not said.isdisjoint({"given_broker_url", *fields})


def celery_config_of(found: object) -> CeleryConfig | None:
    """The CeleryConfig that this is, or that this class makes; None for anything else."""
    if isinstance(found, CeleryConfig):
        return found
    if isinstance(found, type) and issubclass(found, CeleryConfig):
        return found()
    return None


def require_configs(*, config: object, database: object, redis: object) -> None:
    """Refuse what is no configuration before something else is read in its place.

    Raises:
        TypeError: One of them is something else.
    """
    # Celery imports the name of a configuration when it is first needed.
    if not isinstance(config, (CeleryConfig, str, NoneType)) and not _is_class(config):
        raise _no_config(
            "config", "CeleryConfig", config, "give others to app.config_from_object()"
        )
    if not isinstance(database, (DatabaseConfig, NoneType)):
        raise _no_config(
            "database", "DatabaseConfig", database, "write DatabaseConfig(DB_HOST=...)"
        )
    if not isinstance(redis, (RedisConfig, NoneType)):
        raise _no_config("redis", "RedisConfig", redis, "write RedisConfig(REDIS_URL=...)")


def _is_class(found: object) -> bool:
    return isinstance(found, type) and issubclass(found, CeleryConfig)


def _no_config(name: str, wanted: str, given: object, way_out: str) -> TypeError:
    # Never its value, which may hold passwords.
    is_class = isinstance(given, type)
    shown = repr(given) if is_class else f"a {type(given).__name__}"
    return TypeError(f"{name}= takes a {wanted}, not {shown}: {way_out}.")
