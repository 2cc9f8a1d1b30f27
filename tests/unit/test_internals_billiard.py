"""What tomskit relies on in billiard beyond its public names."""

from typing import Any

from billiard import process
from billiard.einfo import ExceptionInfo
from billiard.process import Process, current_process
from celery import Celery
from celery.app.trace import build_tracer

from tests.support.contracts import assert_has, untyped
from tomskit.celery._internals.billiard import drop_traceback, is_pool_process


def test_only_the_main_process_is_called_mainprocess() -> None:
    """``current_process``, and the name "MainProcess"."""
    assert_has(process, "current_process")
    assert current_process().name == "MainProcess"
    assert not is_pool_process()
    assert Process(target=print).name != "MainProcess"


def test_celerys_tracer_returns_a_failure_with_its_exception() -> None:
    """``ExceptionInfo.exception``, with the traceback through which it is a cycle."""
    app: Any = Celery("app", backend="cache+memory://", set_as_current=False)
    app.task(_fail, name="fails")
    returned = build_tracer("fails", app.tasks["fails"], app=app)("id", [], {}, {"id": "id"})
    info = returned.retval
    assert isinstance(info, ExceptionInfo)
    assert_has(info, "exception")
    assert untyped(info).exception.__traceback__ is not None
    drop_traceback((1, info, 1.0))
    assert untyped(info).exception.__traceback__ is None


def _fail() -> None:
    raise ValueError
