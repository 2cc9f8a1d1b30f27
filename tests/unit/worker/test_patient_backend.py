"""PatientBackends: what is stored again until the result backend returns, and what is not."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any
from uuid import uuid4

import pytest
from celery.backends.cache import CacheBackend
from typing_extensions import override

from tomskit.celery import AsyncCelery, CeleryConfig
from tomskit.celery._client.progress import reported_here
from tomskit.celery._running.places import GreenletPlace
from tomskit.celery._worker.patient_backend import PatientBackends


class _Report(GreenletPlace):
    """The report of a task that runs, or has ended."""

    is_over = False

    @override
    def may_store(self) -> bool:
        return not self.is_over


class _AwayOnce(CacheBackend):
    """A backend whose server is away at the first try; its task ends meanwhile."""

    tries = 0
    report: _Report | None = None

    @override
    def set(self, *args: Any, **kwargs: Any) -> Any:
        self.tries += 1
        if self.tries == 1:
            if self.report is not None:
                self.report.is_over = True
            raise ConnectionError("away")
        of_celery: Any = super()
        return of_celery.set(*args, **kwargs)


def store(backend: Any, state: str, report: _Report | None = None) -> None:
    """Store a state of the task whose id is the state, in a thread of a task."""

    def call() -> None:
        reported_here.set(report)
        backend.store_result(state, {"done": 1}, state)

    with ThreadPoolExecutor(1) as thread:
        thread.submit(copy_context().run, call).result()


@pytest.fixture
def app() -> Iterator[AsyncCelery]:
    with AsyncCelery("patient", config=CeleryConfig(), set_as_current=False) as made:
        yield made


@pytest.fixture
def backend(app: AsyncCelery) -> Any:
    # Each has a memory of its own.
    return PatientBackends(app).wrap(_AwayOnce(app=app, url=f"memory://{uuid4().hex}"))


def test_what_is_stored_is_stored_again_when_the_server_is_back(backend: Any) -> None:
    store(backend, "SUCCESS")
    assert backend.tries == 2
    assert backend.get_state("SUCCESS") == "SUCCESS"


def test_a_report_is_stored_again_while_its_task_runs(backend: Any) -> None:
    store(backend, "PROGRESS", _Report())
    assert backend.get_state("PROGRESS") == "PROGRESS"


def test_a_report_whose_task_has_ended_meanwhile_is_not_stored_again(backend: Any) -> None:
    backend.report = _Report()
    with pytest.raises(Exception, match=r"^$"):
        store(backend, "PROGRESS", backend.report)
    assert backend.tries == 1
