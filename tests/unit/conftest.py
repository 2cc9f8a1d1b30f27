"""What unit tests share: a clean process, and an app on SQLite."""

import inspect
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, cast
from weakref import WeakSet

import pytest
from celery import Celery, _state
from kombu.message import Message
from kombu.utils.functional import LRUCache

from tests.support.requests import plain_app, received
from tests.support.settings import MakeApp, new_app
from tomskit.celery import AsyncCelery, CeleryConfig
from tomskit.celery._tasks import periodic
from tomskit.sqlalchemy import DatabaseConfig

_SETTINGS = ("CELERY_", "DB_", "SQLALCHEMY_", "REDIS_")


@pytest.fixture(autouse=True)
def clean_environment(clean_process: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings from outside, and neither an app nor a runtime before and after."""
    for name in list(os.environ):
        if name.startswith(_SETTINGS):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def own_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """No messages, results and apps of other tests: what is in memory belongs to the process.

    A shared task is made at once in each app that is alive and complete, whoever made that.
    """
    results: LRUCache[str, object] = LRUCache(limit=5000)
    monkeypatch.setattr("kombu.transport.memory.Channel.queues", {})
    monkeypatch.setattr("celery.backends.cache._DUMMY_CLIENT_CACHE", results)
    monkeypatch.setattr(_state, "_apps", WeakSet[Celery]())


Finalizer = Callable[..., object]


@pytest.fixture(scope="module")
def tasks_of_the_module(request: pytest.FixtureRequest) -> set[Finalizer]:
    """What makes Celery's own tasks, those of the test's module and of what it imports from."""
    # pytest gives this property no type.
    module = cast("ModuleType", getattr(request, "module"))  # noqa: B009
    modules = {module.__name__}
    for value in vars(module).values():
        # Asked for the type, not with isinstance: a shared task would make an app to answer.
        if issubclass(type(value), FunctionType | type):
            modules.add(cast("type", value).__module__)
    everything: set[Finalizer] = vars(_state)["_on_app_finalizers"]
    return {
        one
        for one in everything
        if (of := _module_of(one)) in modules or not of.startswith("tests.")
    }


def _module_of(finalizer: Finalizer) -> str:
    # shared_task has it make a task of the function `fun`.
    function = inspect.getclosurevars(finalizer).nonlocals.get("fun", finalizer)
    return str(function.__module__)


@pytest.fixture(autouse=True)
def own_tasks(monkeypatch: pytest.MonkeyPatch, tasks_of_the_module: set[Finalizer]) -> None:
    """No tasks of other test modules: for all of them an app needs 25 ms. None that a test adds."""
    monkeypatch.setattr(_state, "_on_app_finalizers", {*tasks_of_the_module})
    monkeypatch.setattr(periodic, "shared", [*periodic.shared])


@pytest.fixture
def sqlite(tmp_path: Path) -> DatabaseConfig:
    return DatabaseConfig(
        SQLALCHEMY_DATABASE_URI_SCHEME="sqlite+aiosqlite",
        DB_DATABASE=str(tmp_path / "test.db"),
    )


@pytest.fixture
def app(sqlite: DatabaseConfig) -> AsyncCelery:
    """An app that runs tasks where they are called."""
    return AsyncCelery(
        "test",
        broker="memory://",
        backend="cache+memory://",
        database=sqlite,
        task_always_eager=True,
        task_store_eager_result=False,
    )


@pytest.fixture
def celery_app() -> Iterator[Celery]:
    """An app of Celery alone, with a task ``add``."""
    with plain_app() as app:
        yield app


@pytest.fixture
def celery_task(celery_app: Celery) -> Any:
    return celery_app.tasks["add"]


@pytest.fixture
def celery_message(celery_task: Any) -> Iterator[Message]:
    """A message that calls the task with 1 and 2."""
    with received(celery_task) as message:
        yield message


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """The ends of a pipe, the one that is read first."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


@pytest.fixture
def make_app() -> Iterator[MakeApp]:
    """Make apps that are closed after the test and never become the current one."""
    made: list[AsyncCelery] = []

    def make(config: CeleryConfig | None = None, **options: object) -> AsyncCelery:
        made.append(new_app("tests", config=config, set_as_current=False, **options))
        return made[-1]

    yield make
    for app in made:
        app.close()
