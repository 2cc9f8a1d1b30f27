"""What the lean path of the asyncio pool relies on in Celery beyond its public names."""

import inspect
from typing import Any

from celery import Celery, Task
from celery.app import autoretry, trace
from celery.loaders.app import AppLoader
from celery.worker import strategy
from typing_extensions import override

from tests.support.contracts import assert_accepts, assert_has, untyped
from tomskit.celery._internals import celery_lean


def take_nothing() -> None: ...


def test_default_makes_a_handler_with_these_arguments() -> None:
    assert_accepts(strategy, "default", "task", "app", "consumer")
    source = inspect.getsource(strategy.default)
    assert "def task_message_handler(message, body, ack, reject, callbacks" in source


def test_task_has_custom_and_the_tracer_of_a_task(celery_app: Celery, celery_task: Any) -> None:
    """`task_has_custom`, ``__trace__``."""

    class Hooked(Task[..., Any]):
        @override
        def on_success(self, *_: Any, **__: Any) -> None: ...

    class Called(Task[..., Any]):
        @override
        def __call__(self, *_: object) -> object: ...

    assert not celery_lean.has_hooks(celery_task)
    assert celery_lean.has_hooks(Hooked())
    assert celery_lean.has_hooks(Called())
    run = celery_task.__class__.run
    assert not celery_lean.is_run_by_celery(celery_task, run), "it has no tracer yet"
    celery_task.__trace__ = untyped(trace.build_tracer)("add", celery_task, app=celery_app)
    assert celery_lean.is_run_by_celery(celery_task, run)
    celery_task.run = take_nothing
    assert not celery_lean.is_run_by_celery(celery_task, run), "somebody has wrapped it"


def test_add_autoretry_behaviour_wraps_run(celery_app: Celery, celery_task: Any) -> None:
    """`add_autoretry_behaviour`, ``_orig_run``."""
    celery_task.__trace__ = untyped(trace.build_tracer)("add", celery_task, app=celery_app)
    autoretry.add_autoretry_behaviour(celery_task, autoretry_for=(KeyError,))
    assert_has(celery_task, "_orig_run")
    assert untyped(celery_task.run).__code__.co_filename == autoretry.__file__


def test_a_backend_of_its_own(celery_task: Any) -> None:
    """`_backend`, which is None where a task uses that of its app."""
    assert not celery_lean.has_backend_of_its_own(celery_task)
    celery_task.backend = object()
    assert celery_lean.has_backend_of_its_own(celery_task)


def test_loaders() -> None:
    """`on_task_init` and `on_process_cleanup`, which do nothing but in loaders that define them."""

    class Closing(AppLoader):
        @override
        def on_process_cleanup(self) -> None: ...

    with Celery("tests", set_as_current=False) as plain:
        assert celery_lean.uses_default_loader_hooks(plain)
    with Celery("tests", set_as_current=False, loader=Closing) as closing:
        assert not celery_lean.uses_default_loader_hooks(closing)
