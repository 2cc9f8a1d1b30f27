"""What tomskit relies on in billiard beyond its public names."""

import sys
from typing import Any, Final, TypeVar
from weakref import ref

import pytest
from billiard import process
from billiard.einfo import ExceptionInfo
from billiard.process import Process, current_process
from celery import Celery, Task
from celery.app.trace import build_tracer
from celery.exceptions import Retry

from tests.support.contracts import assert_has, untyped
from tomskit.celery._internals.billiard import drop_tracebacks, is_pool_process

E = TypeVar("E", bound=Exception)


_kept: Final[list[ref[Exception]]] = []


class AnotherError(Exception):
    """One to which there can be weak references."""


def test_only_the_main_process_is_called_mainprocess() -> None:
    """``current_process``, and the name "MainProcess"."""
    assert_has(process, "current_process")
    assert current_process().name == "MainProcess"
    assert not is_pool_process()
    assert Process(target=print).name != "MainProcess"


@pytest.mark.parametrize("how", ["fails", "retried"])
def test_celerys_tracer_returns_a_failure_with_its_exception(how: str) -> None:
    """``ExceptionInfo.exception``, ``ExceptionWithTraceback.exc``, and the traceback that is a cycle."""
    info = _outcome_of(how)
    assert_has(info, "exception")
    wrapped: object = untyped(info).exception
    if how == "retried":
        assert_has(wrapped, "exc")
        wrapped = untyped(wrapped).exc
    assert isinstance(wrapped, Exception)
    assert wrapped.__traceback__ is not None

    drop_tracebacks((1, info, 1.0))

    assert wrapped.__traceback__ is None


def test_the_errors_that_led_to_it_have_no_traceback_either() -> None:
    """Those may hold the same frames."""
    cause = _raised(KeyError("cause"))
    member = _raised(ValueError("member"))
    member.__context__ = cause
    tried = _raised(ExceptionGroup("tried", [member]))
    cause.__cause__ = tried  # even where they lead to each other
    retry = _raised(Retry("again", tried))
    info = ExceptionInfo((Retry, retry, retry.__traceback__))

    drop_tracebacks((1, info, 1.0))

    assert [one.__traceback__ for one in (retry, tried, member, cause)] == [None] * 4


def test_a_failure_leaves_no_local_variables_that_hold_each_other() -> None:
    """``f_locals`` of a frame, which billiard reads and Celery does not clear."""
    info = _outcome_of("keeps_another")
    kept = _kept.pop()
    assert kept() is not None or sys.version_info >= (3, 13)

    drop_tracebacks((1, info, 1.0))

    assert kept() is None


def _raised(error: E) -> E:
    try:
        raise error
    except Exception:  # noqa: BLE001 (only for its traceback)
        return error


def _outcome_of(name: str) -> ExceptionInfo:
    app: Any = Celery("app", backend="cache+memory://", set_as_current=False)
    app.task(_fail, name="fails")
    app.task(_retry, name="retried", bind=True)
    app.task(_fail_after_another, name="keeps_another")
    task = app.tasks[name]
    info = build_tracer(name, task, app=app)("id", [], {}, {"id": "id"}).retval
    assert isinstance(info, ExceptionInfo)
    return info


def _fail() -> None:
    raise ValueError


def _fail_after_another() -> None:
    try:
        raise AnotherError
    except AnotherError as exc:
        another = exc
    _kept.append(ref(another))
    raise RuntimeError("failed")


def _retry(self: Task[..., object]) -> None:
    raise Retry("again", ValueError())
