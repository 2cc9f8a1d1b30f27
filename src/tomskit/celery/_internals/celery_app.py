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

`Settings.changes`
    For: seeing in 0.1 us whether any setting was changed since a decision that depends on them.
    When it is missing: sending from an event loop raises AttributeError.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from celery import Celery

if TYPE_CHECKING:
    from celery.app.utils import Settings
    from celery.backends.base import Backend
    from typing_extensions import override

__all__ = ("App", "changes_of", "import_configuration", "set_accepted", "set_setting")

if TYPE_CHECKING:

    class App(Celery):
        """``celery.Celery``, with the methods that its types leave out."""

        _config_source: object

        def __init__(self, *args: object, **kwargs: object) -> None: ...
        def _get_backend(self) -> Backend: ...
        def _load_config(self) -> Settings: ...
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
