"""What tomskit relies on in Celery beyond its public names: configuration, and what it overrides."""

import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from celery import Celery, Task, shared_task
from celery.app.utils import Settings
from celery.backends.base import Backend
from celery.loaders.base import BaseLoader
from typing_extensions import override

from tests.support.contracts import assert_accepts, assert_has, assert_signature, untyped
from tomskit.celery._internals.celery_app import (
    App,
    changes_of,
    class_of_tasks,
    import_configuration,
    overruled_variables,
    prefer_configuration,
    set_accepted,
    set_setting,
)


def _function() -> None: ...


class RecordingApp(App):
    """An app that records which of the methods Celery calls that AsyncCelery overrides."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        self.calls: list[str] = []
        super().__init__(*args, **{"set_as_current": False, **kwargs})

    @override
    def _load_config(self) -> Settings:
        self.calls.append("_load_config")
        return super()._load_config()

    @override
    def _task_from_fun(self, fun: Callable[..., object], **options: Any) -> Any:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        self.calls.append(f"_task_from_fun {options['name']}")
        return super()._task_from_fun(fun, **options)

    @override
    def _get_backend(self) -> Backend:
        self.calls.append("_get_backend")
        return super()._get_backend()


@pytest.mark.parametrize(
    ("name", "signature"),
    [
        ("_load_config", "(self)"),
        ("_get_backend", "(self)"),
        ("__reduce_keys__", "(self)"),
        ("config_from_object", "(self, obj, silent=False, force=False, namespace=None)"),
        ("producer_or_acquire", "(self, producer=None)"),
        ("finalize", "(self, auto=False)"),
        ("register_task", "(self, task, **options)"),
        ("task", "(self, *args, **opts)"),
    ],
)
def test_the_methods_that_asynccelery_overrides(name: str, signature: str) -> None:
    assert_signature(Celery, name, signature)


def test_the_configuration_is_loaded_by_load_config_when_it_is_needed() -> None:
    """``Celery._load_config``."""
    app = RecordingApp("app")
    assert app.calls == []
    assert app.conf.task_always_eager is False
    assert app.calls == ["_load_config"]


def test_every_task_comes_from_task_from_fun() -> None:
    """``Celery._task_from_fun``, with the options of the decorator."""
    assert_accepts(Celery, "_task_from_fun", None, _function, "name", None, True, more=1)
    app = RecordingApp("app")
    made = app.task(name="made.lazily")(_function)
    app.task(name="made.at_once", lazy=False)(_function)
    assert "_task_from_fun made.at_once" in app.calls
    assert "_task_from_fun made.lazily" not in app.calls
    assert untyped(made).name == "made.lazily"
    shared_task(name="made.for_all")(_function)
    app.finalize()
    assert {"_task_from_fun made.lazily", "_task_from_fun made.for_all"} < set(app.calls)


def test_all_tasks_of_an_app_are_among_its_tasks() -> None:
    """``Celery._tasks``, without finalizing the app."""
    app = RecordingApp("app")
    task = app.task(name="made.at_once", lazy=False)(_function)
    assert app._tasks["made.at_once"] is task
    assert not app.finalized


def test_an_app_is_finalized_by_one_thread_at_a_time() -> None:
    """``Celery._finalize_mutex``, which Celery itself enters, and `shared_task` for an app that is complete."""
    app = RecordingApp("app")
    app.task(name="made.lazily")(_function)
    with app._finalize_mutex, app._finalize_mutex:
        finalizing = threading.Thread(target=app.finalize, daemon=True)
        finalizing.start()
        finalizing.join(0.1)
        assert not app.finalized
    finalizing.join()
    assert app.finalized


def test_the_class_of_plain_tasks_is_that_of_the_app() -> None:
    class Mine(Task[..., Any]): ...

    app = Celery("app", set_as_current=False, task_cls=Mine)
    assert issubclass(class_of_tasks(app), Mine)
    made = untyped(app).task(name="made", lazy=False)(_function)
    assert type(made).__mro__[1] is class_of_tasks(app)


def test_every_backend_comes_from_get_backend() -> None:
    """``Celery._get_backend``."""
    app = RecordingApp("app", backend="cache+memory://")
    assert app.backend is app.backend
    assert app.calls.count("_get_backend") == 1


def test_the_source_of_the_configuration_can_be_replaced_before_it_is_loaded() -> None:
    """``Celery._config_source``."""

    class Named(RecordingApp):
        @override
        def _load_config(self) -> Settings:
            assert self._config_source == "some.name"
            self._config_source = {"task_always_eager": True}
            return super()._load_config()

    app = Named("app")
    app.config_from_object("some.name")
    assert app.conf.task_always_eager is True


def test_an_app_is_unpickled_with_its_reduce_keys() -> None:
    """``Celery.__reduce_keys__``."""

    class Reduced(RecordingApp):
        @override
        def __reduce_keys__(self) -> dict[str, object]:
            return super().__reduce_keys__() | {"main": "another"}

    make, args = untyped(Reduced("app")).__reduce__()
    assert make(*args).main == "another"


def test_the_loader_imports_what_a_name_stands_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """``BaseLoader._smart_import`` and ``import_from_cwd``."""
    assert_accepts(BaseLoader, "_smart_import", None, "path", imp=None)
    assert_has(BaseLoader, "import_from_cwd")
    module = ModuleType("settings_of_a_test")
    monkeypatch.setitem(sys.modules, "settings_of_a_test", module)
    app = Celery("app", set_as_current=False)
    assert import_configuration(app, "settings_of_a_test") is module
    assert import_configuration(app, "no_such_module") == "no_such_module"


def test_changed_settings_are_among_the_changes() -> None:
    """``Settings.changes``."""
    app = Celery("app", set_as_current=False)
    assert_has(app.conf, "changes")
    before = changes_of(app).copy()
    app.conf.update(task_always_eager=True)
    assert changes_of(app) != before
    assert changes_of(app)["task_always_eager"] is True


def test_settings_are_read_as_celery_reads_them() -> None:
    """``Settings._to_keys``, ``_key``, ``maps`` and ``swap_with``."""
    assert_signature(Settings, "_to_keys", "(self, key)")
    assert_signature(Settings, "_key", "(self, key)")
    assert_signature(Settings, "swap_with", "(self, other)")
    configured: list[dict[str, object]] = [
        {"task_always_eager": True, "worker_prefetch_multiplier": 7},
        {"CELERY_ALWAYS_EAGER": True, "BROKER_URL": "memory://old"},
        {"MINE_TASK_ALWAYS_EAGER": True, "MINE_TASK_DEFAULT_QUEUE": "mine"},
    ]
    for settings, namespace in zip(configured, (None, None, "MINE"), strict=True):
        celerys, ours = (Celery("app", set_as_current=False) for _ in range(2))
        prefer_configuration(ours.conf, preferred=False)
        for app in (celerys, ours):
            if namespace is None:
                untyped(app).config_from_object(settings)
            else:
                untyped(app).config_from_object(settings, namespace=namespace)
        for _ in range(2):
            assert {name: untyped(ours.conf)[name] for name in celerys.conf} == {
                name: untyped(celerys.conf)[name] for name in celerys.conf
            }
        assert ours.conf.task_always_eager is True
        with pytest.raises(KeyError, match="no_such_setting"):
            untyped(ours.conf)["no_such_setting"]
        with pytest.raises(AttributeError):
            getattr(ours.conf, "no_such_setting")  # noqa: B009 (that is what is tested)


def test_a_changed_setting_is_read_at_once_in_each_of_its_spellings() -> None:
    app = Celery("app", set_as_current=False)
    conf = untyped(app.conf)
    prefer_configuration(conf, preferred=False)

    def is_eager() -> object:
        return conf.task_always_eager

    assert is_eager() is False
    conf.task_always_eager = True
    assert is_eager() is conf["CELERY_ALWAYS_EAGER"] is True
    conf.pop("task_always_eager")
    assert is_eager() is False
    conf.CELERY_ALWAYS_EAGER = True
    assert is_eager() is True
    conf.update(CELERY_ALWAYS_EAGER=False)
    assert is_eager() is False
    conf.add_defaults({"mine": 1})
    assert conf.mine == 1
    assert conf.copy().mine == 1


def test_settings_that_are_an_object_are_read_from_it() -> None:
    class Configuration:
        task_always_eager = True

    app = Celery("app", set_as_current=False)
    prefer_configuration(app.conf, preferred=False)
    untyped(app).config_from_object(Configuration)
    found = [app.conf.task_always_eager]
    Configuration.task_always_eager = False
    found.append(app.conf.task_always_eager)
    assert found == [True, False]


def test_settings_can_be_set_while_the_app_is_configured() -> None:
    app = Celery("app", set_as_current=False)
    set_setting(app.conf, "task_serializer", "pickle")
    set_accepted(app.conf, "pickle")
    assert app.conf.task_serializer == "pickle"
    assert app.conf.accept_content == ["pickle", "json"]


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("broker_url", "CELERY_BROKER_URL"),
        ("broker_read_url", "CELERY_BROKER_READ_URL"),
        ("broker_write_url", "CELERY_BROKER_WRITE_URL"),
        ("result_backend", "CELERY_RESULT_BACKEND"),
    ],
)
def test_celery_prefers_its_variables_unless_the_configuration_is_preferred(
    name: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``Settings.broker_url`` and the other URLs."""
    monkeypatch.setenv(variable, "redis://environment")
    app = Celery("app", set_as_current=False, changes={name: "redis://code"})
    assert untyped(app.conf)[name] == "redis://code"
    assert getattr(app.conf, name) == "redis://environment"
    prefer_configuration(app.conf, preferred=False)
    assert getattr(app.conf, name) == "redis://environment"
    prefer_configuration(app.conf, preferred=True)
    assert getattr(app.conf, name) == "redis://code"
    assert overruled_variables(app.conf) == [variable]
