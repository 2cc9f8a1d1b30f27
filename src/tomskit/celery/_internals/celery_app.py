"""Celery: what an app makes of its configuration, and the methods that AsyncCelery overrides.

`Celery._load_config`
    For: reading a configuration that is given by name when Celery reads it, not before.
    When it is missing: a CeleryConfig given by name is read without its computed settings.

`Celery._config_source`
    For: putting the settings of a CeleryConfig in the place of its name.
    When it is missing: loading the configuration raises AttributeError.

`Celery._get_backend`
    For: a result backend that blocks no event loop in which tasks are sent. Celery calls it once
    for each thread.
    When it is missing: sending a task in an event loop blocks while Redis subscribes to its result.

`Celery.__reduce_keys__`
    For: an app in a process that is spawned: Celery makes it of these arguments again.
    When it is missing: such a process reads its configuration from the environment.

`BaseLoader._smart_import`, and `import_from_cwd`
    For: importing what a configuration's name stands for, as Celery does.
    When it is missing: an app with such a name raises AttributeError when it is first used.

`Settings.broker_url`, `broker_read_url`, `broker_write_url` and `result_backend`
    For: a CeleryConfig whose URLs are those that are used. Celery prefers environment variables of
    its own, which a CeleryConfig has already read.
    When it is missing: such a variable wins over an argument of CeleryConfig.

`Celery._task_from_fun`
    For: seeing each task that an app is given: an async task gets the app's task class as a base, and
    a coroutine function that no task of ours has made is refused.
    When it is missing: such a function is accepted and never awaited, and `task_cls` does not count.

`Celery._tasks`
    For: looking at all tasks of an app while it is finalized.
    When it is missing: finalizing an app raises AttributeError.

`Celery._finalize_mutex`, which can be entered again by the thread that has entered it
    For: making each task of an app once, and whole, where threads are together the first to use them.
    When it is missing: making a task raises AttributeError.

`Settings.changes`
    For: seeing in 0.1 us whether any setting was changed since a decision that depends on them.
    When it is missing: sending from an event loop raises AttributeError.

`Settings._to_keys`, `_key`, ``maps`` and `swap_with`
    For: reading a setting in 0.6 us, where Celery's own way takes 4: it tries each spelling in each of the
    dictionaries, and to send a task eight settings are read.
    When it is missing: reading a setting raises AttributeError.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final

from celery import Celery
from celery.app.utils import Settings
from typing_extensions import override

if TYPE_CHECKING:
    from celery.app.registry import TaskRegistry
    from celery.app.task import Task
    from celery.backends.base import Backend

__all__ = (
    "App",
    "changes_of",
    "class_of_tasks",
    "import_configuration",
    "overruled_variables",
    "prefer_configuration",
    "set_accepted",
    "set_setting",
)

if TYPE_CHECKING:

    class App(Celery):
        """``celery.Celery``, with the methods that its types leave out."""

        _config_source: object
        _finalize_mutex: AbstractContextManager[object]
        _tasks: TaskRegistry
        finalized: bool

        def __init__(self, *args: object, **kwargs: object) -> None: ...
        def _get_backend(self) -> Backend: ...
        def _load_config(self) -> Settings: ...
        @override
        def _task_from_fun(  # type: ignore[override]
            self,
            fun: Callable[..., object],
            name: str | None = None,
            base: type[Task[..., Any]] | None = None,
            bind: bool = False,
            **options: Any,
        ) -> Task[..., Any]: ...
        @override
        def config_from_object(
            self,
            obj: object,
            silent: bool = False,
            force: bool = False,
            namespace: str | None = None,
        ) -> Settings: ...
        @override
        def __reduce_keys__(self) -> dict[str, object]: ...

else:
    App = Celery


def class_of_tasks(app: Any) -> type[Task[..., Any]]:
    """The class of an app's plain tasks, as the app was given it."""
    task_class: type[Task[..., Any]] = app.Task
    return task_class


def changes_of(app: Any) -> dict[str, object]:
    """The settings of an app that differ from Celery's defaults, as they are now."""
    changes: dict[str, object] = app.conf.changes
    return changes


def set_setting(conf: Any, name: str, value: object) -> None:
    """Set a setting of an app while Celery configures it."""
    conf[name] = value


def set_accepted(conf: Any, name: str) -> None:
    """Accept messages of a serializer, besides those that are accepted."""
    accepted: Iterable[str] = conf["accept_content"]
    conf["accept_content"] = [name, *accepted]


def import_configuration(app: Any, name: str) -> object:
    """What Celery would import for this name of a configuration; the name where it cannot."""
    loader = app.loader
    try:
        found: object = loader._smart_import(name, imp=loader.import_from_cwd)
    except (ImportError, AttributeError):
        # Celery will say so itself, unless it was told to be silent.
        return name
    return found


_IS_PREFERRED: Final = "configuration_is_preferred"
_SPELLINGS: Final = "spellings_of_settings"


class _Settings(Settings):
    """``app.conf`` whose URLs may be those of the configuration, whatever the environment says.

    It knows under which names a setting may be found once it has looked for it.
    """

    if not TYPE_CHECKING:

        def __getitem__(self, key: str) -> object:
            known = self.__dict__.get(_SPELLINGS)
            if known is None:
                known = self.__dict__[_SPELLINGS] = {}
            spellings = known.get(key)
            if spellings is None:
                spellings = known[key] = tuple(map(self._key, self._to_keys(key)))
            for mapping in self.maps:
                if type(mapping) is not dict:
                    # It may read the configuration first, or be an object of the user's.
                    break
                for spelling in spellings:
                    if spelling in mapping:
                        return mapping[spelling]
            return super().__getitem__(key)

        def swap_with(self, other: Settings) -> None:
            super().swap_with(other)
            # With a namespace there are others.
            self.__dict__.pop(_SPELLINGS, None)

    @property
    @override
    def broker_url(self) -> str:
        return _chosen(self, "CELERY_BROKER_URL", "broker_url", "broker_host")

    @property
    @override
    def broker_read_url(self) -> str:
        return _chosen(self, "CELERY_BROKER_READ_URL", "broker_read_url") or self.broker_url

    @property
    @override
    def broker_write_url(self) -> str:
        return _chosen(self, "CELERY_BROKER_WRITE_URL", "broker_write_url") or self.broker_url

    @property
    @override
    def result_backend(self) -> str:
        return _chosen(self, "CELERY_RESULT_BACKEND", "result_backend", "CELERY_RESULT_BACKEND")


def _chosen(conf: Any, variable: str, *settings: str) -> str:
    # Reading a setting loads the configuration, which sets the mark.
    configured: str = conf.first(*settings)
    if conf.__dict__.get(_IS_PREFERRED):
        return configured
    return os.environ.get(variable) or configured


def prefer_configuration(conf: Any, *, preferred: bool) -> None:
    """Let the URLs be those of the configuration if `preferred`, or else Celery's choice."""
    # Past its __setattr__, which makes a setting of every attribute.
    object.__setattr__(conf, "__class__", _Settings)
    conf.__dict__[_IS_PREFERRED] = preferred


def overruled_variables(conf: Any) -> list[str]:
    """The environment variables with other URLs than those that are used."""
    used = {
        "CELERY_BROKER_URL": conf.broker_url,
        "CELERY_BROKER_READ_URL": conf.broker_read_url,
        "CELERY_BROKER_WRITE_URL": conf.broker_write_url,
        "CELERY_RESULT_BACKEND": conf.result_backend,
    }
    return [name for name, url in used.items() if os.environ.get(name, url) not in {"", url}]
