"""What happens in the life of a worker, by Celery's signals."""

import os
from typing import Any

import pytest
from celery import Celery, signals

from tests.support.settings import MakeApp
from tomskit.celery import AsyncCelery
from tomskit.celery._running.context import celery_context, task_id_context
from tomskit.celery._worker.signals import host_of

READY = "TOMSKIT_READY_WORKER"


@pytest.fixture
def app(make_app: MakeApp) -> AsyncCelery:
    return make_app(broker="memory://", backend="cache+memory://")


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(READY, raising=False)
    monkeypatch.setenv(READY, "before")  # so that it is undone
    monkeypatch.delenv(READY)


def task_of(app: Celery, name: str = "work") -> Any:
    def work() -> None:
        pytest.fail("it is only named")

    app.task(name=name)(work)
    return app.tasks[name]


def enter(task: Any, task_id: str) -> None:
    signals.task_prerun.send(sender=task, task_id=task_id, task=task, args=(), kwargs={})


def leave(task: Any, task_id: str) -> None:
    signals.task_postrun.send(sender=task, task_id=task_id, task=task, args=(), kwargs={})


def running() -> tuple[object, object]:
    return celery_context.get(), task_id_context.get()


def test_an_app_of_ours_has_a_host(app: AsyncCelery, plain: Celery) -> None:
    assert host_of(app) is app.runtime_host
    assert host_of(plain) is None


def test_while_a_task_runs_its_app_and_id_are_known(app: AsyncCelery) -> None:
    before = running()
    task = task_of(app)

    enter(task, "the id")
    assert running() == (app, "the id")
    leave(task, "the id")

    assert running() == before


def test_after_a_task_within_another_it_is_the_outer_one_again(
    app: AsyncCelery, make_app: MakeApp
) -> None:
    other = make_app(broker="memory://")
    outer, inner = task_of(app, "outer"), task_of(other, "inner")
    before = running()

    enter(outer, "1")
    enter(inner, "2")
    assert running() == (other, "2")
    leave(inner, "2")
    assert running() == (app, "1")
    leave(outer, "1")

    assert running() == before


def test_a_task_of_a_plain_app_changes_nothing(app: AsyncCelery, plain: Celery) -> None:
    before = running()
    task = task_of(plain)

    enter(task, "the id")
    assert running() == before
    leave(task, "the id")

    assert running() == before


def test_the_end_of_a_task_that_was_not_entered_changes_nothing(app: AsyncCelery) -> None:
    before = running()

    leave(task_of(app), "the id")

    assert running() == before


def test_a_worker_that_is_ready_says_so_to_the_processes_that_it_starts(app: AsyncCelery) -> None:
    signals.worker_ready.send(sender=None)

    assert os.environ[READY] == str(os.getpid())


def test_in_the_main_process_no_runtime_is_started_as_in_a_child(app: AsyncCelery) -> None:
    app.set_current()
    host = host_of(app)
    assert host is not None
    started: list[str] = []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host, "start", lambda: started.append("started"))
        patch.setattr(host, "stop", lambda: started.append("stopped"))
        signals.worker_process_init.send(sender=None)
        signals.worker_process_shutdown.send(sender=None)

    assert started == []


@pytest.mark.parametrize("ours", [True, False])
def test_in_a_child_the_runtime_of_its_app_is_started_and_stopped(
    app: AsyncCelery, plain: Celery, monkeypatch: pytest.MonkeyPatch, ours: bool
) -> None:
    (app if ours else plain).set_current()
    host = host_of(app)
    assert host is not None
    events: list[str] = []
    monkeypatch.setattr("tomskit.celery._worker.signals.is_pool_process", lambda: True)
    monkeypatch.setattr(host, "start", lambda: events.append("started"))
    monkeypatch.setattr(host, "stop", lambda: events.append("stopped"))

    signals.worker_process_init.send(sender=None)
    signals.worker_process_shutdown.send(sender=None)

    assert events == (["started", "stopped"] if ours else [])
