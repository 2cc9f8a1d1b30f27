"""Report: what Celery is told of a task in the pool, in the worker's turn."""

import pytest

from tests.support.jobs import Told
from tomskit.errors import TaskExitError


class Request:
    def __init__(self, *, revoked: bool) -> None:
        self._revoked = revoked

    def revoked(self) -> bool:
        return self._revoked


def test_celery_is_told_in_the_workers_turn_and_of_the_end_last() -> None:
    told = Told()

    told.report.returned(42)

    assert told.news == []
    assert told.turn() == [("returned", 42), ("ended", 7)]


def test_a_report_is_over_at_once() -> None:
    told = Told()
    assert not told.report.is_over

    told.report.returned(42)

    assert told.report.is_over


def test_an_error_is_told_with_its_traceback() -> None:
    told = Told()
    error = LookupError("x")

    told.report.failed(error)

    assert told.turn() == [("failed", "LookupError"), ("ended", 7)]
    assert told.errors == [error]


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit()])
def test_what_would_end_a_process_is_told_as_an_error_of_its_task(error: BaseException) -> None:
    told = Told()

    told.report.failed(error)
    told.turn()

    [failure] = told.errors
    assert isinstance(failure, TaskExitError)
    assert repr(error) in str(failure)
    assert failure.__cause__ is error


def test_a_soft_limit_is_told_and_is_no_end() -> None:
    told = Told()

    told.report.soft_limit(3.0)
    told.report.returned(42)

    assert told.turn() == [("timed out", True, 3.0), ("returned", 42), ("ended", 7)]


def test_a_hard_limit_is_an_end() -> None:
    told = Told()

    told.report.hard_limit(7.0)

    assert told.turn() == [("timed out", False, 7.0), ("ended", 7)]


def test_what_is_heard_after_the_end_is_no_news() -> None:
    told = Told()

    told.report.hard_limit(7.0)
    told.report.returned(42)
    told.report.failed(LookupError("x"))
    told.report.hard_limit(8.0)
    told.report.soft_limit(3.0)

    assert told.turn() == [("timed out", False, 7.0), ("ended", 7)]


@pytest.mark.parametrize("revoked", [True, False])
def test_it_is_revoked_when_its_request_is(revoked: bool) -> None:
    assert Told(request=Request(revoked=revoked)).report.told.revoked() == revoked


def test_without_a_request_it_is_not_revoked() -> None:
    assert not Told().report.told.revoked()
