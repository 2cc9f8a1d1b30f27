"""CeleryConfig: Celery's settings, the task database and the task Redis, typed."""

from __future__ import annotations

from celery.app.defaults import DEFAULTS

from tomskit.celery._settings.broker import BrokerSettings
from tomskit.celery._settings.prefixes import PREFIX
from tomskit.celery._settings.resources import ResourceSettings
from tomskit.celery._settings.results import ResultSettings
from tomskit.celery._settings.tasks_and_worker import TaskAndWorkerSettings
from tomskit.settings import Concealed
from tomskit.urls import synchronous_scheme

__all__ = ("CeleryConfig",)


# Pydantic collects the fields from the last base class to the first: the broker's come first.
class CeleryConfig(ResourceSettings, TaskAndWorkerSettings, ResultSettings, BrokerSettings):
    """Everything a worker is told; every field is an environment variable of the same name.

    ``app.config_from_object(CeleryConfig())`` or ``AsyncCelery(config=CeleryConfig())`` makes all
    of it take effect. Where a field is called ``CELERY_`` and the name of one of Celery's own
    settings in capitals, it sets that one, in a subclass as well; ``None`` leaves Celery's default.
    """

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
        """What kombu is told beside the URL: timeouts, and how to find the master."""
        options = {**self._socket_options(), **self._sentinel_options(self._broker())}
        if self.CELERY_BROKER_VISIBILITY_TIMEOUT is not None:
            options["visibility_timeout"] = self.CELERY_BROKER_VISIBILITY_TIMEOUT
        return options

    @property
    def CELERY_RESULT_BACKEND_TRANSPORT_OPTIONS(self) -> dict[str, object]:  # noqa: N802
        """What the result backend is told beside the URL: how to find the master."""
        if self.CELERY_RESULT_BACKEND_TYPE != "redis":
            return {}
        return self._sentinel_options(self._results())

    def celery_settings(self) -> dict[str, object]:
        """Everything, under Celery's own names of the settings; contains passwords."""
        settings: dict[str, object] = {}
        for field in type(self).model_fields:
            name = field.removeprefix(PREFIX).lower()
            value: object = getattr(self, field)
            if field.startswith(PREFIX) and name in DEFAULTS and value is not None:
                settings[name] = value
        settings |= self._result_socket_options()
        settings["broker_url"] = Concealed(self.CELERY_BROKER_URL)
        settings["result_backend"] = Concealed(self.CELERY_RESULT_BACKEND)
        settings["broker_transport_options"] = self.CELERY_BROKER_TRANSPORT_OPTIONS
        settings["result_backend_transport_options"] = self.CELERY_RESULT_BACKEND_TRANSPORT_OPTIONS
        if self.CELERY_BROKER_REDIS_USE_SSL:
            settings["broker_use_ssl"] = dict(self._broker().REDIS_TLS_OPTIONS)
        if self.CELERY_RESULT_BACKEND_REDIS_USE_SSL:
            settings["redis_backend_use_ssl"] = dict(self._results().REDIS_TLS_OPTIONS)
        return settings
