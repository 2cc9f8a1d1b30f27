"""AsyncCelery: a Celery app whose workers run coroutines."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar, cast, overload

from celery.app.utils import Settings
from kombu.exceptions import SerializerNotInstalled
from typing_extensions import override

from tomskit.celery._client.client import AsyncClient
from tomskit.celery._client.control import LimitedControl
from tomskit.celery._client.encodings import OF_RESULTS, unknown_encodings
from tomskit.celery._client.error_backend import carry_errors
from tomskit.celery._client.forked import apps
from tomskit.celery._client.ignored import note_ignored
from tomskit.celery._client.listening import close_connections, listen_well, replace_backends
from tomskit.celery._client.producers import ThreadMessages
from tomskit.celery._client.quiet_backend import keep_quiet
from tomskit.celery._client.recording import recording_here
from tomskit.celery._client.result import TypedResult
from tomskit.celery._client.result_sets import TypedGroupResult, TypedResultSet
from tomskit.celery._client.seconds import check_times
from tomskit.celery._internals.celery import is_set_as_current
from tomskit.celery._internals.celery_app import (
    import_configuration,
    overruled_variables,
    prefer_configuration,
    set_accepted,
    set_setting,
)
from tomskit.celery._running import context
from tomskit.celery._running.context import task_id_context
from tomskit.celery._running.host import RuntimeHost
from tomskit.celery._running.places import here
from tomskit.celery._running.runtime import AsyncRuntime
from tomskit.celery._tasks.app_tasks import TaskApp
from tomskit.celery._tasks.periodic import complete_schedule
from tomskit.celery._worker import signals
from tomskit.celery._worker.logging import TASK_LOG_FORMAT, WORKER_LOG_FORMAT, install_task_id
from tomskit.celery.config import CeleryConfig, celery_config_of, require_configs
from tomskit.celery.serializers import (
    register_orjson_serializer,
    register_serializer,
)
from tomskit.errors import ConfigurationError
from tomskit.lazily import cached_property
from tomskit.living import LivingSet
from tomskit.protocols import ResourceProvider, Runtime, Serializer
from tomskit.redis import RedisConfig, RedisProvider
from tomskit.resources import Resources
from tomskit.sqlalchemy import DatabaseConfig

if TYPE_CHECKING:
    from celery.apps.worker import Worker
    from celery.backends.base import Backend
    from celery.result import AsyncResult
    from kombu import Producer

__all__ = ("AsyncCelery", "celery_context")

logger: Final = logging.getLogger(__name__)

R = TypeVar("R", bound="AsyncResult[Any]")

celery_context: Final[ContextVar[AsyncCelery | None]] = cast(
    "ContextVar[AsyncCelery | None]", context.celery_context
)
"""The running app: in the main thread, in the worker's threads and in coroutines."""


class AsyncCelery(TaskApp):
    """A Celery app whose workers have an event loop, database sessions and a redis client.

    Args:
        *args: As of ``celery.Celery``; the first is the app's name.
        config: Applied as by ``config_from_object``. Settings among the keyword arguments win.
        database: Where ``db.session`` goes; else the CELERY_DB_ and CELERY_SQLALCHEMY_ fields of
            `config` if any was set; else ``DatabaseConfig()``.
        redis: Where ``redis_client`` goes; else the CELERY_WORKER_REDIS_ fields of `config` if
            any was set; else ``RedisConfig()``.
        runtime: What runs coroutines.
        providers: More resources for tasks, beside those named "database" and "redis", or, under
            one of these names, in its place.
        serializer: Registered and used for messages and results.
        **kwargs: As of ``celery.Celery``.

    Raises:
        ConfigurationError: Two providers have the same name, or `config` cannot work.
        TypeError: `config`, `database` or `redis` is something else.
    """

    task_id_context: ClassVar[ContextVar[str | None]] = task_id_context
    task_cls: Any = "tomskit.celery._tasks.contained:ContainedTask"
    amqp_cls: Any = ThreadMessages
    control_cls: Any = LimitedControl

    def __init__(
        self,
        *args: object,
        config: CeleryConfig | None = None,
        database: DatabaseConfig | None = None,
        redis: RedisConfig | None = None,
        runtime: Runtime = AsyncRuntime,
        providers: Iterable[ResourceProvider] = (),
        serializer: Serializer | None = None,
        **kwargs: object,
    ) -> None:
        require_configs(config=config, database=database, redis=redis)
        self._config = config
        self._database = database
        self._redis = redis
        self.runtime = runtime
        self._providers = tuple(providers)
        Resources(self._providers)  # two of one name are an error now, not when a worker starts
        self._serializer = serializer
        self._is_typed = False
        self._results_were_named = False
        self._backends: LivingSet[Backend] = LivingSet()
        install_task_id()
        register_orjson_serializer()
        if serializer is not None:
            register_serializer(serializer)
        super().__init__(*args, **kwargs)
        prefer_configuration(self.conf, preferred=False)
        if is_set_as_current(self):
            # Celery's current app belongs to one thread. Calls of shared tasks from any other would
            # go to an app that Celery makes up, and so to a broker that nobody configured.
            self.set_default()
        self.on_after_configure.connect(self._complete_configuration)
        if config is not None:
            self.config_from_object(config)
        signals.install(self)
        apps.add(self)

    @property
    @override
    def config(self) -> CeleryConfig:
        """The applied CeleryConfig; where none was applied, one read from the environment."""
        self.conf.finalize()
        if self._config is None:
            self._config = CeleryConfig()
        return self._config

    @cached_property
    def db_config(self) -> DatabaseConfig:
        """Where ``db.session`` goes."""
        return self.config.database_config() if self._database is None else self._database

    @cached_property
    def redis_config(self) -> RedisConfig:
        """Where ``redis_client`` goes."""
        return self.config.redis_config() if self._redis is None else self._redis

    @cached_property
    @override
    def resources(self) -> Resources:
        """The providers of this app, in the order in which they start."""
        mine = {provider.name: provider for provider in self._providers}
        defaults: list[ResourceProvider] = []
        # A replaced one is never made: its configuration need not be there.
        if "database" not in mine:
            # Brings SQLAlchemy, which a program that only sends tasks does not need.
            from tomskit.sqlalchemy import DatabaseProvider

            defaults.append(DatabaseProvider(self.db_config))
        if "redis" not in mine:
            defaults.append(RedisProvider(self.redis_config))
        return Resources([*defaults, *self._providers])

    @override
    def name_defaults(self) -> None:
        is_default = self._redis is None and all(one.name != "redis" for one in self._providers)
        if is_default and (remark := self.config.remark_on_redis()):
            logger.warning(remark)

    @cached_property
    @override
    def runtime_host(self) -> RuntimeHost:
        """Starts, uses and stops this app's runtime."""
        return RuntimeHost(self, self.runtime, self.resources)

    @property
    @override
    def backend(self) -> Backend:
        """The result backend; in a worker one that retries while its server is away."""
        backend = super().backend
        return backend if self.pool_backend is None else self.pool_backend(backend)

    @property
    @override
    def celery_backend(self) -> Backend:
        """The result backend, as Celery makes it."""
        return super().backend

    @cached_property
    @override
    def async_client(self) -> AsyncClient:
        """Sends tasks and waits for results in event loops."""
        return AsyncClient(self)

    @override
    def _get_backend(self) -> Backend:
        # Celery makes one for each thread.
        if self._is_typed and not self._results_were_named:
            self._results_were_named = True
            remark = self.config.remark_on_results()
            if remark and self.conf.result_backend == self.config.CELERY_RESULT_BACKEND:
                logger.warning(remark)
        replace_backends(self)
        for problem in unknown_encodings(self, OF_RESULTS):
            raise ConfigurationError(str(problem))
        backend = super()._get_backend()
        self._backends.add(backend)
        listen_well(backend)
        return carry_errors(self, keep_quiet(self, backend))

    @override
    def close(self) -> None:
        """Clean up; as of ``celery.Celery``, and close the connections to the result backend in Redis."""
        super().close()
        for backend in self._backends:
            close_connections(backend)

    @overload  # type: ignore[override]
    def send_task(self, *args: Any, result_cls: type[R], **kwargs: Any) -> R: ...
    @overload
    def send_task(self, *args: Any, result_cls: None = None, **kwargs: Any) -> TypedResult[Any]: ...
    @override
    def send_task(self, *args: Any, **kwargs: Any) -> Any:
        """Send a task by name; as of ``celery.Celery``.

        Under the asyncio pool only the task that sends it waits for the broker. Where the broker is
        away it waits until it returns, unless the call says how often to try.
        """
        check_times(kwargs)
        recording = recording_here.get()
        place = here()
        try:
            if recording is not None:
                result = recording.send(self, super().send_task, args, kwargs)
            elif place is None or self.recorder is not None:
                result = super().send_task(*args, **kwargs)
            else:
                result = place.publish(self, super().send_task, args, kwargs)
        except (SerializerNotInstalled, KeyError) as exc:  # kombu's of a compression method
            for problem in unknown_encodings(self):
                raise ConfigurationError(str(problem)) from exc
            raise
        note_ignored(result)
        return result

    @cached_property
    @override
    def Worker(self) -> type[Worker]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The worker program, which ``celery worker`` starts; as of ``celery.Celery``."""
        # Only workers need the modules of Celery that it imports.
        from tomskit.celery._worker.checked_worker import CheckedWorker

        made: type[Worker] = self.subclass_with_self(CheckedWorker)
        return made

    @cached_property
    @override
    def AsyncResult(self) -> type[TypedResult[Any]]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The class of results made of an id: ``await app.AsyncResult(task_id)``.

        Without ``task_name=`` it does not know the task, and values are as JSON has them; the result
        that ``task.AsyncResult(task_id)`` makes has the type that the function returns.
        """
        made: type[TypedResult[Any]] = self.subclass_with_self(TypedResult, reverse="AsyncResult")
        return made

    @cached_property
    @override
    def ResultSet(self) -> type[TypedResultSet[Any]]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The class of results that are read together: ``await app.ResultSet([first, second])``."""
        made: type[TypedResultSet[Any]] = self.subclass_with_self(
            TypedResultSet, reverse="ResultSet"
        )
        return made

    @cached_property
    @override
    def GroupResult(self) -> type[TypedGroupResult[Any]]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The class of the results of groups, of Celery's ``group`` as well."""
        made: type[TypedGroupResult[Any]] = self.subclass_with_self(
            TypedGroupResult, reverse="GroupResult"
        )
        return made

    @override
    def producer_or_acquire(self, producer: Producer | None = None) -> Any:
        """A producer from the pool, as a context manager; as of ``celery.Celery``."""
        recording = recording_here.get()
        if producer is None and recording is not None and recording.records(self):
            return nullcontext(recording.producer)
        if producer is None and self.recorder is not None:
            return nullcontext(self.recorder)
        if producer is None and (place := here()) is not None:
            # None where each `send_task` finds its own: one that is held is missing elsewhere.
            return nullcontext(place.producer_for(self))
        return super().producer_or_acquire(producer)

    @override
    def config_from_object(
        self,
        obj: object,
        silent: bool = False,
        force: bool = False,
        namespace: str | None = None,
    ) -> Settings:
        """Read the configuration; a CeleryConfig takes effect with all its fields.

        Args:
            obj: A CeleryConfig, anything that Celery takes, or the name of either, which is
                imported when the configuration is first needed.
            silent: Ignore import errors.
            force: Read it now, not when it is first needed.
            namespace: Prefix of the settings' names; a CeleryConfig has none.
        """
        config = celery_config_of(obj)
        self._is_typed = self._is_configured = False
        if config is not None:
            obj, namespace = self._adopt(config), None
        return super().config_from_object(obj, silent=silent, force=force, namespace=namespace)

    @override
    def bugreport(self) -> str:
        """What ``celery report`` shows."""
        from tomskit.celery._worker.overview import report

        return report(self, super().bugreport())

    @override
    def set_current(self) -> None:
        """Make this the current app, for this thread and for coroutines started from it."""
        super().set_current()
        celery_context.set(self)

    @override
    def __reduce_keys__(self) -> dict[str, object]:
        # Pool processes that are spawned get the app pickled.
        return super().__reduce_keys__() | {
            "config": self._config,
            "database": self._database,
            "redis": self._redis,
            "runtime": self.runtime,
            "providers": self._providers,
            "serializer": self._serializer,
        }

    def _adopt(self, config: CeleryConfig) -> dict[str, object]:
        self._config = config
        self._is_typed = True
        for derived in ("db_config", "redis_config", "resources", "runtime_host"):
            self.__dict__.pop(derived, None)
        return config.celery_settings()

    @override
    def _load_config(self) -> Settings:
        # Celery calls this when it first needs the configuration; a name is imported only now.
        source = self._config_source
        if isinstance(source, str):
            source = import_configuration(self, source)
        config = celery_config_of(source)
        if config is not None:
            self._config_source = self._adopt(config)
        return super()._load_config()

    def _complete_configuration(self, **_: object) -> None:
        formats = {
            "worker_log_format": WORKER_LOG_FORMAT,
            "worker_task_log_format": TASK_LOG_FORMAT,
        }
        for setting, value in formats.items():
            if not self.conf.value_set_for(setting):
                set_setting(self.conf, setting, value)
        # A CeleryConfig has read the environment.
        prefer_configuration(self.conf, preferred=self._is_typed)
        for variable in overruled_variables(self.conf):
            logger.warning(
                "The environment variable %s, which `celery -b` sets as well, has no effect: "
                "the configuration in the code names another URL",
                variable,
            )
        if self._serializer is not None:
            name = self._serializer.name
            set_setting(self.conf, "task_serializer", name)
            set_setting(self.conf, "result_serializer", name)
            set_accepted(self.conf, name)
        complete_schedule(self)
