"""Values arrive in a worker, and come back from it, as what their annotations say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from itertools import product
from typing import Final, TypeVar, cast
from uuid import uuid4

import celery
import pytest
from celery import states
from celery.exceptions import ChordError

from tests.integration import typed_service
from tests.integration.conftest import TIMEOUT, Deployment, deploy, eventually
from tests.integration.typed_service import got, record, record_order
from tests.integration.typed_workers import SERVICE, awaited, both_of, plain, published, serve
from tests.support.echoes import CASES, Case, echo_datetime, echo_model
from tests.support.servers import MariaDBServer, RedisServer
from tests.support.values import (
    DAY,
    HOME,
    ID,
    NAIVE,
    NOON,
    ORDER,
    OTHER_ID,
    PRICE,
    SMALL_ORDER,
    Colour,
    Line,
    Order,
    Person,
    Response,
    described,
)
from tests.support.workers import Pool
from tomskit.celery import AsyncCelery, TypedResult, chain, chord, group
from tomskit.errors import TaskArgumentsError, TaskResultError

T = TypeVar("T")

WORKERS: Final = list(product(("prefork", "threads"), ("json", "orjson")))

READERS: Final[dict[str, Callable[[Case[object], TypedResult[object]], object]]] = {
    "get": lambda _case, sent: got(sent),
    "await": lambda _case, sent: asyncio.run(awaited(sent)),
    "aget": lambda _case, sent: asyncio.run(sent.aget(timeout=TIMEOUT)),
    "get-by-id": lambda case, sent: got(case.echo.AsyncResult(sent.id)),
    "result": lambda _case, sent: (got(sent), sent.result)[1],
}

SENDERS: Final[dict[str, Callable[[str, Order], object]]] = {
    "delay": record.delay,
    "adelay": lambda key, order: asyncio.run(record.adelay(key, order)),
    "apply_async": lambda key, order: record.apply_async((key, order)),
    "apply_async-by-keyword": lambda key, order: record.apply_async((key,), {"order": order}),
    "options": lambda key, order: record.options(countdown=0).delay(key, order),
    "s": lambda key, order: record.s(key, order).delay(),
    "si": lambda key, order: record.si(key, order).delay(),
    "p": lambda key, order: record.p(order=order).delay(key),
    "p-and-the-argument-later": lambda key, order: record_order.p(key).delay(order),
}

SOME: Final = [
    case
    for case in CASES
    if case.name in {"datetime", "model", "list_of_models", "any", "enum", "float", "named_tuple"}
]

every_annotation = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
some_workers = pytest.mark.parametrize(
    # Each pool and each serializer once: the two know nothing of each other.
    "served",
    [WORKERS[0], WORKERS[-1]],
    ids="-".join,
    indirect=True,
    scope="module",
)
one_worker = pytest.mark.parametrize(
    "served", [WORKERS[-1]], ids="-".join, indirect=True, scope="module"
)
some_annotations = pytest.mark.parametrize("case", SOME, ids=[case.name for case in SOME])


@pytest.fixture(scope="module", params=WORKERS, ids="-".join)
def served(
    request: pytest.FixtureRequest, redis_server: RedisServer, mariadb_server: MariaDBServer
) -> Iterator[tuple[Deployment, AsyncCelery]]:
    pool, serializer = cast("tuple[Pool, str]", request.param)
    with (
        deploy(redis_server, mariadb_server) as deployment,
        serve(
            deployment,
            pool,
            CELERY_TASK_SERIALIZER=serializer,
            CELERY_RESULT_SERIALIZER=serializer,
            CELERY_ACCEPT_CONTENT=serializer,
        ) as app,
    ):
        yield deployment, app


@pytest.fixture
def service(served: tuple[Deployment, AsyncCelery], clean_process: None) -> Deployment:
    """A worker for the app that is current meanwhile."""
    deployment, app = served
    app.set_current()
    app.set_default()
    return deployment


@pytest.fixture(scope="module")
def served_by_database(
    redis_server: RedisServer, mariadb_server: MariaDBServer
) -> Iterator[AsyncCelery]:
    with (
        deploy(redis_server, mariadb_server) as deployment,
        serve(deployment, "threads", CELERY_RESULT_BACKEND_TYPE="database") as app,
    ):
        yield app


@pytest.fixture
def _database(served_by_database: AsyncCelery, clean_process: None) -> None:
    """A worker for the app that is current meanwhile, with results in a database."""
    served_by_database.set_current()
    served_by_database.set_default()


# -- every annotation


@every_annotation
def test_value_comes_back(service: Deployment, case: Case[T]) -> None:
    sent = [case.echo.delay(value) for value in case.sent]

    results = [got(result) for result in sent]

    assert described(results) == described(case.arriving)


@some_workers
@every_annotation
def test_value_passes_through_a_chain(service: Deployment, case: Case[T]) -> None:
    sent = [chain(case.echo.s(value), case.echo.p()).delay() for value in case.sent]

    results = [got(result) for result in sent]

    assert described(results) == described(case.arriving)


@some_workers
@every_annotation
def test_values_come_back_from_a_group(service: Deployment, case: Case[T]) -> None:
    sent = group([case.echo.s(value) for value in case.sent]).delay()

    results = got(sent)

    assert described(results) == described(case.arriving)


@some_workers
@every_annotation
def test_values_pass_through_a_chord(service: Deployment, case: Case[T]) -> None:
    header = [case.echo.s(value) for value in case.sent]

    results = got(chord(header, case.echo_all.p()).delay())

    assert described(results) == described(case.arriving)


@some_workers
@every_annotation
def test_value_reaches_a_callback(service: Deployment, case: Case[T]) -> None:
    ids = [str(uuid4()) for _ in case.sent]

    for value, task_id in zip(case.sent, ids, strict=True):
        sent = case.echo.s(value).set(link=case.echo.p().set(task_id=task_id)).delay()
        sent.forget()

    results = [got(case.echo.AsyncResult(task_id)) for task_id in ids]
    assert described(results) == described(case.arriving)


@pytest.mark.parametrize("read", READERS)
@some_annotations
def test_value_is_read_in_every_way(service: Deployment, case: Case[object], read: str) -> None:
    sent = [case.echo.delay(value) for value in case.sent]

    results = [READERS[read](case, one) for one in sent]

    assert described(results) == described(case.arriving)


@some_annotations
def test_values_of_a_group_are_awaited(service: Deployment, case: Case[T]) -> None:
    sent = group([case.echo.s(value) for value in case.sent]).delay()

    results = asyncio.run(sent.aget(timeout=TIMEOUT))

    assert described(results) == described(case.arriving)


@some_annotations
def test_value_is_sent_and_awaited_by_a_coroutine(service: Deployment, case: Case[T]) -> None:
    async def call(value: T) -> T:
        return await awaited(await case.echo.adelay(value))

    results = [asyncio.run(call(value)) for value in case.sent]

    assert described(results) == described(case.arriving)


@some_annotations
def test_value_passes_through_a_plain_task(service: Deployment, case: Case[T]) -> None:
    sent = [
        celery.chain(case.echo.s(value), plain("pass_on"), case.echo.p()).apply_async()
        for value in case.sent
    ]

    results = [got(result) for result in sent]

    assert described(results) == described(case.arriving)


# -- every kind of parameter


def test_arguments_by_position_arrive(service: Deployment) -> None:
    sent = typed_service.positional.delay(NAIVE, ORDER)

    assert got(sent) == both_of(NAIVE, ORDER)


def test_arguments_by_keyword_arrive(service: Deployment) -> None:
    sent = typed_service.positional.delay(order=ORDER, at=NOON)

    assert got(sent) == both_of(NOON, ORDER)


def test_arguments_of_apply_async_arrive(service: Deployment) -> None:
    sent = typed_service.positional.apply_async((NOON,), {"order": ORDER})

    assert got(sent) == both_of(NOON, ORDER)


def test_arguments_of_a_call_with_options_arrive(service: Deployment) -> None:
    sent = typed_service.positional.options(countdown=0).delay(NOON, order=ORDER)

    assert got(sent) == both_of(NOON, ORDER)


def test_positional_only_arguments_arrive(service: Deployment) -> None:
    sent = typed_service.positional_only.delay(NOON, frozenset({ID}))

    assert got(sent) == both_of(NOON, frozenset({ID}))


def test_keyword_only_arguments_arrive(service: Deployment) -> None:
    sent = typed_service.keyword_only.delay(day=DAY, colour=Colour.RED)

    assert got(sent) == both_of(DAY, Colour.RED)


def test_default_of_a_keyword_only_argument_is_the_functions(service: Deployment) -> None:
    sent = typed_service.keyword_only.delay(day=DAY)

    assert got(sent) == both_of(DAY, Colour.BLUE)


def test_defaults_are_the_functions(service: Deployment) -> None:
    sent = typed_service.defaults.delay()

    assert got(sent) == both_of(timedelta(hours=1), frozenset({ID}))


def test_default_is_the_functions_beside_a_given_argument(service: Deployment) -> None:
    sent = typed_service.defaults.delay(ids=frozenset({OTHER_ID}))

    assert got(sent) == both_of(timedelta(hours=1), frozenset({OTHER_ID}))


def test_any_number_of_arguments_arrive(service: Deployment) -> None:
    sent = typed_service.any_number.delay(DAY, NOON, NAIVE)

    assert got(sent) == both_of(DAY, (NOON, NAIVE))


def test_arguments_of_any_name_arrive(service: Deployment) -> None:
    sent = typed_service.any_names.delay(DAY, low=PRICE, high=Decimal(2))

    assert got(sent) == both_of(DAY, {"low": PRICE, "high": Decimal(2)})


# -- tasks that run again


def test_retry_gets_its_new_arguments(service: Deployment) -> None:
    sent = typed_service.retry_with_args.delay(NAIVE, {ID})

    assert got(sent) == both_of(NAIVE + timedelta(days=1), {ID, OTHER_ID})


def test_retry_gets_its_new_keyword_arguments(service: Deployment) -> None:
    sent = typed_service.retry_with_kwargs.delay(at=NOON, order=ORDER)

    expected = both_of(NOON + timedelta(days=1), ORDER.model_copy(update={"due": None}))
    assert got(sent) == expected


def test_retry_without_arguments_gets_the_same_again(service: Deployment) -> None:
    person = Person("Ada", HOME, [])

    sent = typed_service.retry_unchanged.delay(NOON, person=person)

    assert got(sent) == both_of(NOON, person)


def test_retry_with_arguments_that_do_not_fit_fails(service: Deployment) -> None:
    sent = typed_service.retry_with_misfit.delay(NOON)

    with pytest.raises(TaskArgumentsError, match=r"retry_with_misfit: at is 'soon' \(str\)"):
        got(sent)


def test_automatic_retry_gets_the_same_arguments(service: Deployment) -> None:
    orders = {ID: ORDER, OTHER_ID: SMALL_ORDER}

    sent = typed_service.autoretry.delay(NAIVE, orders)

    assert got(sent) == both_of(NAIVE, orders)


def test_retried_task_in_a_chain_passes_its_result_on(service: Deployment) -> None:
    sent = chain(
        typed_service.retry_with_args.s(NOON, {ID}), typed_service.join.p(separator=" ")
    ).delay()

    expected = " ".join(both_of(NOON + timedelta(days=1), {ID, OTHER_ID}))
    assert got(sent) == expected


# -- workflows whose steps are of different types


def test_steps_of_a_chain_get_what_the_ones_before_return(service: Deployment) -> None:
    line = Line(item="cake", price=Decimal("3.50"), colour=Colour.BLUE)

    sent = chain(
        typed_service.place.s(DAY, PRICE),
        typed_service.add_line.p(line),
        typed_service.respond.p(),
    ).delay()

    order = ORDER.model_copy(update={"due": DAY, "lines": [Line(item="tea", price=PRICE), line]})
    expected = Response[Order](data=order, took=timedelta(seconds=1))
    assert described(got(sent)) == described(expected)


def test_chain_without_its_first_argument_gets_it_when_it_is_sent(service: Deployment) -> None:
    steps = chain(
        typed_service.add_line.p(Line(item="tea", price=PRICE)), typed_service.respond.p()
    )

    response = got(steps.delay(SMALL_ORDER))

    assert described(response.data.lines) == described([Line(item="tea", price=PRICE)])


def test_immutable_step_keeps_its_own_arguments(service: Deployment) -> None:
    sent = chain(echo_datetime.s(NOON), typed_service.respond.si(ORDER)).delay()

    assert described(got(sent).data) == described(ORDER)


def test_result_of_an_earlier_step_is_read_as_its_type(service: Deployment) -> None:
    sent = chain(echo_datetime.s(NAIVE), typed_service.respond.si(ORDER)).delay()

    got(sent)

    earlier = cast("TypedResult[object]", sent.parent)
    assert described(got(earlier)) == described(NAIVE)


def test_chord_body_gets_a_list_of_models(service: Deployment) -> None:
    header = group(typed_service.place.s(DAY, PRICE) for _ in range(3))

    sent = chord(header, typed_service.total.p()).delay()

    assert described(got(sent)) == described(3 * PRICE)


def test_group_between_two_tasks_gets_and_gives_models(service: Deployment) -> None:
    line = Line(item="cake", price=Decimal(1))

    sent = chain(
        typed_service.place.s(DAY, PRICE),
        group(typed_service.add_line.p(line), typed_service.add_line.p(line))
        | typed_service.total.p(),
    ).delay()

    assert described(got(sent)) == described(2 * PRICE + 2)


def test_group_of_different_types_comes_back_as_these(service: Deployment) -> None:
    sent = group(echo_datetime.s(NAIVE), echo_model.s(ORDER)).delay()

    assert described(got(sent)) == described([NAIVE, ORDER])


def test_group_of_one_is_a_list(service: Deployment) -> None:
    sent = group([echo_model.s(ORDER)]).delay()

    assert described(got(sent)) == described([ORDER])


def test_plain_task_gets_what_is_on_the_wire(service: Deployment) -> None:
    sent = celery.chain(echo_model.s(ORDER), plain("kinds")).apply_async()

    assert got(sent) == ["dict"]


# -- callbacks


def test_callback_gets_the_result_and_arguments_of_its_own(service: Deployment) -> None:
    key = uuid4().hex
    callback = typed_service.record_order.p(key=key)

    got(typed_service.place.s(DAY, PRICE).set(link=callback).delay())

    order = ORDER.model_copy(update={"due": DAY, "lines": [Line(item="tea", price=PRICE)]})
    eventually(lambda: service.key(key) is not None)
    assert service.key(key) == described(order)


def test_error_callback_is_called_with_request_error_and_traceback(service: Deployment) -> None:
    callback = typed_service.on_failure.signature()

    sent = typed_service.refuse.s(ORDER).set(link_error=callback).delay()

    with pytest.raises(ValueError, match=str(ID)):
        got(sent)
    eventually(lambda: service.key(f"failure-{sent.id}") is not None)
    assert service.key(f"failure-{sent.id}") == f"ValueError({ID!r}), True"


def test_error_callback_with_one_parameter_gets_the_id(service: Deployment) -> None:
    callback = typed_service.on_failure_of.p()

    sent = typed_service.refuse.s(ORDER).set(link_error=callback).delay()

    with pytest.raises(ValueError, match=str(ID)):
        got(sent)
    eventually(lambda: service.key(f"failure-{sent.id}") is not None)
    assert service.key(f"failure-{sent.id}") == f"{sent.id} for {SERVICE}.on_failure_of"


def test_error_callback_of_a_chain_is_called_for_the_step_that_fails(service: Deployment) -> None:
    callback = typed_service.on_failure.signature()
    steps = chain(typed_service.place.s(DAY, PRICE), typed_service.refuse.p())

    sent = steps.on_error(callback).delay()

    with pytest.raises(ValueError, match=str(ID)):
        got(sent)
    eventually(lambda: service.key(f"failure-{sent.id}") is not None)


def test_error_callback_of_a_chord_is_called_when_its_header_fails(service: Deployment) -> None:
    callback = typed_service.on_failure.signature()
    header = [typed_service.place.s(DAY, PRICE), typed_service.refuse.s(ORDER)]

    sent = chord(header, typed_service.total.p().on_error(callback)).delay()

    # Celery raises the task's own error, or that of the body that is not run: whichever it sees first.
    with pytest.raises((ValueError, ChordError), match=str(ID)):
        got(sent)
    eventually(lambda: service.key(f"failure-{sent.id}") is not None)
    assert str(ID) in str(service.key(f"failure-{sent.id}"))


# -- what does not fit


@pytest.mark.parametrize("way", SENDERS)
def test_arguments_that_do_not_fit_are_refused_before_anything_is_sent(
    service: Deployment, way: str
) -> None:
    with published() as names, pytest.raises(TaskArgumentsError, match="order"):
        SENDERS[way](uuid4().hex, cast("Order", {"id": "no order"}))

    assert names == []


def test_result_that_does_not_fit_fails_the_task(service: Deployment) -> None:
    key = uuid4().hex

    sent = typed_service.give_wrong_result.delay(key)

    with pytest.raises(TaskResultError) as caught:
        got(sent)
    assert str(caught.value).startswith(
        f"{SERVICE}.give_wrong_result: its result is 'tomorrow' (str), not datetime.date: "
    )
    assert sent.state == states.FAILURE
    assert service.key(key) == "ran"


def test_result_that_does_not_fit_calls_no_callback(service: Deployment) -> None:
    key = uuid4().hex
    steps = chain(
        typed_service.give_wrong_result.s(key), typed_service.record.si(f"{key}-next", ORDER)
    )

    with pytest.raises(TaskResultError):
        got(steps.delay())

    assert service.key(f"{key}-next") is None


# -- results in a database


@pytest.mark.usefixtures("_database")
@some_annotations
def test_value_comes_back_from_a_database(case: Case[T]) -> None:
    sent = [case.echo.delay(value) for value in case.sent[:2]]

    results = [got(result) for result in sent]

    assert described(results) == described(case.arriving[:2])


@pytest.mark.usefixtures("_database")
@some_annotations
def test_value_is_awaited_from_a_database(case: Case[T]) -> None:
    sent = [case.echo.delay(value) for value in case.sent[:2]]

    results = [asyncio.run(result.aget(timeout=TIMEOUT, interval=0.01)) for result in sent]

    assert described(results) == described(case.arriving[:2])


@pytest.mark.usefixtures("_database")
@some_annotations
def test_value_is_read_from_a_database_by_the_id_of_its_task(case: Case[T]) -> None:
    ids = [case.echo.delay(value).id for value in case.sent[:2]]

    results = [got(case.echo.AsyncResult(task_id)) for task_id in ids]

    assert described(results) == described(case.arriving[:2])


@pytest.mark.usefixtures("_database")
def test_group_comes_back_from_a_database() -> None:
    sent = group(echo_datetime.s(NAIVE), echo_model.s(ORDER)).delay()

    assert described(got(sent)) == described([NAIVE, ORDER])


@pytest.mark.usefixtures("_database")
def test_value_passes_through_a_chain_with_results_in_a_database() -> None:
    sent = chain(typed_service.place.s(DAY, PRICE), typed_service.respond.p()).delay()

    response = got(sent)

    assert described(response.data.due) == described(DAY)
