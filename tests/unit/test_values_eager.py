"""Values of every annotation, in tasks that run where they are called."""

from __future__ import annotations

from typing import TypeVar
from uuid import uuid4

import pytest

from tests.support.values import CASES, Case, described
from tomskit.celery import AsyncCelery, chain, chord, group

T = TypeVar("T")

every_annotation = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


@every_annotation
def test_value_comes_back_from_a_call(app: AsyncCelery, case: Case[T]) -> None:
    results = [case.echo.delay(value).get() for value in case.sent]

    assert described(results) == described(case.arriving)


@every_annotation
def test_value_comes_back_from_apply(app: AsyncCelery, case: Case[T]) -> None:
    results = [case.echo.apply((value,)).get() for value in case.sent]

    assert described(results) == described(case.arriving)


@every_annotation
def test_value_passes_through_a_chain(app: AsyncCelery, case: Case[T]) -> None:
    results = [chain(case.echo.s(value), case.echo.p()).delay().get() for value in case.sent]

    assert described(results) == described(case.arriving)


@every_annotation
def test_values_come_back_from_a_group(app: AsyncCelery, case: Case[T]) -> None:
    results = group([case.echo.s(value) for value in case.sent]).delay().get()

    assert described(results) == described(case.arriving)


@every_annotation
def test_values_pass_through_a_chord(app: AsyncCelery, case: Case[T]) -> None:
    header = [case.echo.s(value) for value in case.sent]

    results = chord(header, case.echo_all.p()).delay().get()

    assert described(results) == described(case.arriving)


@every_annotation
def test_value_reaches_a_callback(app: AsyncCelery, case: Case[T]) -> None:
    app.conf.task_store_eager_result = True
    ids = [str(uuid4()) for _ in case.sent]

    for value, task_id in zip(case.sent, ids, strict=True):
        case.echo.s(value).set(link=case.echo.p().set(task_id=task_id)).delay().get()

    results = [case.echo.AsyncResult(task_id).get() for task_id in ids]
    assert described(results) == described(case.arriving)
