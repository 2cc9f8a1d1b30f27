"""Values of every annotation, in tasks that run where they are called."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar, cast
from uuid import UUID, uuid4

import pytest
from celery.result import AsyncResult

from tests.support.echoes import CASES, Case, echo_date
from tests.support.values import DAY, ID, NAIVE, ORDER, OTHER_ID, Order, described
from tomskit.celery import AsyncCelery, BoundTask, async_shared_task, chain, chord, group
from tomskit.sqlalchemy import DatabaseConfig

T = TypeVar("T")

every_annotation = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


@pytest.fixture(scope="module")
def one_app() -> AsyncCelery:
    return AsyncCelery(
        "test",
        set_as_current=False,
        broker="memory://",
        backend="cache+memory://",
        database=DatabaseConfig(SQLALCHEMY_DATABASE_URI_SCHEME="sqlite+aiosqlite"),
        task_always_eager=True,
        task_store_eager_result=True,  # nobody has the result of a callback otherwise
    )


@pytest.fixture
def app(one_app: AsyncCelery, clean_environment: None) -> AsyncCelery:
    """The same app for all, as it takes longer to make it than to run a test."""
    one_app.set_current()
    one_app.set_default()
    return one_app


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
    ids = [str(uuid4()) for _ in case.sent]

    for value, task_id in zip(case.sent, ids, strict=True):
        case.echo.s(value).set(link=case.echo.p().set(task_id=task_id)).delay().get()

    results = [case.echo.AsyncResult(task_id).get() for task_id in ids]
    assert described(results) == described(case.arriving)


@async_shared_task(bind=True)
async def retry_with_args(self: BoundTask, at: datetime, ids: set[UUID]) -> list[str]:
    if self.request.retries == 0:
        raise self.retry(args=(at + timedelta(days=1), ids | {OTHER_ID}), countdown=0)
    return [described(at), described(ids)]


def test_retry_gets_its_new_arguments(app: AsyncCelery) -> None:
    results = retry_with_args.delay(NAIVE, {ID}).get()

    assert results == [described(NAIVE + timedelta(days=1)), described({ID, OTHER_ID})]


@async_shared_task(bind=True, autoretry_for=(ConnectionError,), default_retry_delay=0)
async def autoretry(self: BoundTask, orders: dict[UUID, Order]) -> str:
    if self.request.retries == 0:
        raise ConnectionError
    return described(orders)


def test_automatic_retry_gets_the_same_arguments(app: AsyncCelery) -> None:
    assert autoretry.delay({ID: ORDER}).get() == described({ID: ORDER})


@pytest.mark.parametrize("way", [echo_date.apply_async, echo_date.apply])
def test_positional_arguments_may_be_a_list_as_in_celery(
    app: AsyncCelery, way: Callable[..., object]
) -> None:
    send = cast("Callable[[list[object]], AsyncResult[object]]", way)

    assert described(send([DAY]).get()) == described(DAY)


@async_shared_task
async def complex_of(value: complex) -> complex:
    return value


def test_int_may_stand_for_a_complex_as_for_a_type_checker(app: AsyncCelery) -> None:
    assert described(complex_of.delay(1).get()) == described(1 + 0j)
