"""Plain Celery at the other end: its clients, its workers, and both in one workflow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, cast
from uuid import UUID, uuid4

import celery
import pytest
from celery import signature, states
from celery.result import AsyncResult

from tests.integration import typed_service
from tests.integration.typed_service import got
from tests.support.deployment import Deployment, deploy, eventually
from tests.support.echoes import CASES, echo_model
from tests.support.servers import MariaDBServer, RedisServer
from tests.support.values import (
    DAY,
    HOME,
    ID,
    NAIVE,
    NOON,
    ORDER,
    OTHER_ID,
    PLAIN_ORDER,
    PRICE,
    Address,
    Animal,
    Colour,
    Dog,
    Line,
    Order,
    Person,
    Point,
    Priority,
    Response,
    Size,
    Span,
    described,
)
from tomskit.celery import AsyncCelery, async_shared_task, chain, chord, group
from tomskit.errors import TaskArgumentsError, TaskResultError

SERVICE: Final = typed_service.__name__
STOCK: Final = "tests.integration.stock_service"

ECHOS: Final = {case.name: case.echo for case in CASES}


# -- tasks of the plain service, as a caller of ours declares them


@async_shared_task(name=f"{STOCK}.knows_tomskit", queue="stock")
async def knows_tomskit() -> bool:
    raise NotImplementedError


@async_shared_task(name=f"{STOCK}.kinds", queue="stock")
async def kinds(
    *moments: datetime,
    day: date,
    price: Decimal,
    order: Order,
    person: Person,
    ids: set[UUID],
    by_id: dict[UUID, date],
    colour: Colour,
    path: Path,
    step: timedelta,
    text: bytes,
) -> list[str]:
    raise NotImplementedError


@async_shared_task(name=f"{STOCK}.answer", queue="stock")
async def answer(value: Any) -> Response[Order]:
    raise NotImplementedError


@async_shared_task(name=f"{STOCK}.postpone", queue="stock")
async def postpone(order: Order, due: datetime) -> Order:
    raise NotImplementedError


# -- fixtures


@pytest.fixture(scope="module", params=["json", "orjson"])
def served(
    request: pytest.FixtureRequest, redis_server: RedisServer, mariadb_server: MariaDBServer
) -> Iterator[tuple[Deployment, AsyncCelery]]:
    """A worker of ours, and one of plain Celery, which knows the serializer "json" only."""
    serializer: str = request.param
    with deploy(redis_server, mariadb_server) as deployment:
        deployment.environment.update(
            CELERY_TASK_SERIALIZER=serializer,
            CELERY_RESULT_SERIALIZER=serializer,
            CELERY_ACCEPT_CONTENT=serializer,
        )
        deployment.worker("threads", 2, "-Q", "celery", module=SERVICE)
        deployment.worker(
            "solo",
            1,
            *("-Q", "stock"),
            module=STOCK,
            STOCK_BROKER=deployment.redis_db.broker_url,
            STOCK_BACKEND=deployment.redis_db.result_url,
        )
        with typed_service.client(deployment.environment) as app:
            yield deployment, app


@pytest.fixture
def service(served: tuple[Deployment, AsyncCelery], clean_process: None) -> Deployment:
    """Both workers; the current app meanwhile is one that sends to both."""
    deployment, app = served
    app.set_current()
    app.set_default()
    return deployment


def send(deployment: Deployment, task: str, *args: object, **kwargs: object) -> AsyncResult[object]:
    """Send what is given, as it is, with a client of plain Celery."""
    call = cast("Callable[..., AsyncResult[object]]", deployment.client.send_task)
    return call(task, args, kwargs)


# -- a client of plain Celery calls our tasks

ORDER_AS_JSON: Final[Mapping[str, object]] = {
    "id": str(OTHER_ID),
    "placedAt": "2024-02-29T12:00:00",
    "due": "2024-02-29",
}
"""PLAIN_ORDER, as a program that knows nothing of Order writes it."""

MANY: Final = {1: "one", -2: "minus two", 2**70: "many"}

PLAIN_JSON: Final[list[tuple[str, object, object]]] = [
    ("datetime", "2024-02-29T12:00:00.000005+00:00", NOON),
    ("datetime", "2024-02-29T12:00:00.000005Z", NOON),
    ("datetime", "2024-02-29T12:00:00", NAIVE),
    ("date", "2024-02-29", DAY),
    ("time", "01:02:03.000004", time(1, 2, 3, 4)),
    ("timedelta", "P400DT0.000001S", timedelta(days=400, microseconds=1)),
    ("timedelta", 0, timedelta(0)),
    ("decimal", "1.10", PRICE),
    ("uuid", str(ID), ID),
    ("uuid", ID.hex, ID),
    ("enum", "red", Colour.RED),
    ("int_enum", 2, Priority.HIGH),
    ("str_enum", "L", Size.LARGE),
    ("path", "/tmp/ü x", Path("/tmp/ü x")),
    ("bytes", "text", b"text"),
    ("set", ["2024-02-29", "9999-12-31"], {DAY, date.max}),
    ("frozenset", [str(ID), str(OTHER_ID)], frozenset({ID, OTHER_ID})),
    ("pair", [1, "one"], (1, "one")),
    ("tuple", [1, 2, 3], (1, 2, 3)),
    ("named_tuple", ["1.10", "2024-02-29T12:00:00.000005Z"], Point(PRICE, NOON)),
    ("named_tuple", {"x": "1.10", "at": "2024-02-29T12:00:00.000005Z"}, Point(PRICE, NOON)),
    (
        "typed_dict",
        {"start": "2024-02-29T12:00:00.000005Z", "end": "2024-02-29"},
        Span(start=NOON, end=DAY),
    ),
    (
        "dataclass",
        {
            "name": "Ada",
            "address": {"street": "Elm St.", "since": "2024-02-29", "tags": [ID.hex, OTHER_ID.hex]},
            "former": [
                {"street": "Elm St.", "since": "2024-02-29", "tags": [ID.hex, OTHER_ID.hex]},
                {"street": "Oak St.", "since": "2024-02-29"},
            ],
            "born": "2024-02-29",
        },
        Person("Ada", HOME, [HOME, Address("Oak St.", DAY)], born=DAY),
    ),
    ("model", ORDER_AS_JSON, PLAIN_ORDER),
    (
        "model",
        {**{k: v for k, v in ORDER_AS_JSON.items() if k != "placedAt"}, "placed_at": str(NAIVE)},
        PLAIN_ORDER,
    ),
    ("generic_model", {"data": ORDER_AS_JSON}, Response[Order](data=PLAIN_ORDER)),
    ("optional_model", None, None),
    ("list_of_models", [], []),
    ("texts_by_int", {"1": "one", "-2": "minus two", str(2**70): "many"}, MANY),
    ("base_or_sub", {"name": "x"}, Animal(name="x")),
    (
        "base_or_sub",
        {"name": "y", "born": "2024-02-29T12:00:00.000005Z"},
        Dog(name="y", born=NOON),
    ),
    ("date_or_datetime", "2024-02-29", DAY),
    ("date_or_datetime", "2024-02-29T12:00:00.000005Z", NOON),
    ("datetime_or_str", "later", "later"),
    ("uuid_or_str", str(ID), str(ID)),
    ("new_type", str(ID), ID),
    ("literal", "fast", "fast"),
    ("complex", "1+2j", 1 + 2j),
    ("float", 3, 3.0),
]
"""An annotation, plain JSON for it, and what that is to be in the task."""


@pytest.mark.parametrize(("annotation", "plain", "expected"), PLAIN_JSON)
def test_plain_json_becomes_what_the_annotation_says(
    service: Deployment, annotation: str, plain: object, expected: object
) -> None:
    echo = ECHOS[annotation]

    sent = send(service, echo.name, plain)

    assert described(got(echo.AsyncResult(sent.id))) == described(expected)


def test_values_that_celery_marks_arrive_too(service: Deployment) -> None:
    sent = send(service, f"{SERVICE}.any_names", DAY, low=PRICE)

    assert got(sent) == [described(DAY), described({"low": PRICE})]


def test_keyword_arguments_of_plain_json_arrive(service: Deployment) -> None:
    sent = send(service, f"{SERVICE}.positional", at=NOON.isoformat(), order=ORDER_AS_JSON)

    assert got(sent) == [described(NOON), described(PLAIN_ORDER)]


def test_any_number_of_arguments_of_plain_json_arrive(service: Deployment) -> None:
    sent = send(service, f"{SERVICE}.any_number", "2024-02-29", NOON.isoformat(), str(NAIVE))

    assert got(sent) == [described(DAY), described((NOON, NAIVE))]


def test_arguments_of_any_name_of_plain_json_arrive(service: Deployment) -> None:
    sent = send(service, f"{SERVICE}.any_names", "2024-02-29", low="1.10", high=2)

    assert got(sent) == [described(DAY), described({"low": PRICE, "high": Decimal(2)})]


def test_result_of_ours_is_plain_for_a_plain_client(service: Deployment) -> None:
    sent = send(service, echo_model.name, ORDER_AS_JSON)

    # Without the fields that were not set: lines and attachment.
    assert got(sent) == {"id": OTHER_ID, "placed_at": NAIVE, "due": DAY}


@pytest.mark.parametrize(
    ("args", "kwargs", "told"),
    [
        ((ORDER_AS_JSON,), {}, ["order: tests.support.values.Order is missing"]),
        (("KEY",), {}, ["order: tests.support.values.Order is missing"]),
        ((), {"order": ORDER_AS_JSON}, ["key: str is missing"]),
        (("KEY", "no"), {}, ["order is 'no' (str), not tests.support.values.Order: "]),
        (
            ("KEY", {**ORDER_AS_JSON, "id": "no"}),
            {},
            ["order.id is 'no' (str), not tests.support.values.Order: "],
        ),
        (
            ("KEY", {**ORDER_AS_JSON, "lines": [{"item": "tea", "price": "much"}]}),
            {},
            ["order.lines.0.price is 'much' (str), not tests.support.values.Order: "],
        ),
        (("KEY", ORDER_AS_JSON, 3), {}, ["unexpected positional argument 3: 3 (int)"]),
        (("KEY", ORDER_AS_JSON), {"size": 3}, ["unexpected keyword argument size: 3 (int)"]),
        (("KEY", ORDER_AS_JSON), {"key": "x"}, ["key is given twice"]),
        (
            ("KEY", {**ORDER_AS_JSON, "id": 5}, 3),
            {},
            ["order.id is 5 (int), not ", "unexpected positional argument 3: 3 (int)"],
        ),
    ],
)
def test_message_that_does_not_fit_fails_and_the_body_is_not_run(
    service: Deployment, args: tuple[object, ...], kwargs: dict[str, object], told: list[str]
) -> None:
    key = uuid4().hex
    args = tuple(key if arg == "KEY" else arg for arg in args)

    sent = send(service, f"{SERVICE}.record", *args, **kwargs)

    with pytest.raises(TaskArgumentsError) as caught:
        got(sent)
    message = str(caught.value)
    assert message.startswith(f"{SERVICE}.record: ")
    assert [part for part in told if part not in message] == []
    assert str(sent.state) == states.FAILURE
    assert service.key(key) is None


def test_message_that_does_not_fit_is_not_retried(service: Deployment) -> None:
    sent = send(service, f"{SERVICE}.autoretry_for_anything", "soon")

    with pytest.raises(TaskArgumentsError, match=r"autoretry_for_anything: at is 'soon' \(str\)"):
        got(sent)


def test_message_that_does_not_fit_calls_the_error_callback(service: Deployment) -> None:
    callback = signature(f"{SERVICE}.on_failure", app=service.client)

    sent = service.send(f"{SERVICE}.record", uuid4().hex, "no", link_error=callback)

    with pytest.raises(TaskArgumentsError):
        got(sent)
    eventually(lambda: service.key(f"failure-{sent.id}") is not None)
    assert "TaskArgumentsError" in str(service.key(f"failure-{sent.id}"))


# -- our clients call tasks of plain Celery


def test_plain_worker_is_one(service: Deployment) -> None:
    assert got(knows_tomskit.delay()) is False


def test_plain_worker_gets_marked_values_as_objects_and_all_others_as_json(
    service: Deployment,
) -> None:
    person = Person("Ada", Address("Elm St.", DAY, {ID}), [])

    sent = kinds.delay(
        *(NOON, NAIVE),
        day=DAY,
        price=PRICE,
        order=ORDER,
        person=person,
        ids={ID, OTHER_ID},
        by_id={ID: DAY},
        colour=Colour.RED,
        path=Path("/tmp"),
        step=timedelta(days=1),
        text=b"text",
    )

    # The colour of the first line was not set.
    lines = "list(dict(item=str, price=Decimal), dict(item=str, price=Decimal, colour=str))"
    address = "dict(street=str, since=date, tags=list(UUID))"
    assert got(sent) == [
        *("datetime", "datetime", "date", "Decimal"),
        f"dict(id=UUID, placed_at=datetime, lines={lines}, due=date, attachment=bytes)",
        f"dict(name=str, address={address}, former=list(), born=NoneType)",
        "list(UUID, UUID)",
        f"dict({ID}=date)",
        *("str", "str", "str", "bytes"),
    ]


def test_answer_of_a_plain_worker_becomes_what_the_annotation_says(service: Deployment) -> None:
    sent = answer.delay({"data": dict(ORDER_AS_JSON), "took": "PT1S"})

    expected = Response[Order](data=PLAIN_ORDER, took=timedelta(seconds=1))
    assert described(got(sent)) == described(expected)


def test_answer_of_a_plain_worker_that_does_not_fit_is_an_error_where_it_is_read(
    service: Deployment,
) -> None:
    sent = answer.delay({"data": {**ORDER_AS_JSON, "id": "none"}})

    with pytest.raises(TaskResultError) as caught:
        got(sent)
    assert str(caught.value).startswith(
        f"{STOCK}.answer: its result.data.id is 'none' (str), not "
        "tests.support.values.Response[Order]: "
    )


def test_arguments_for_a_plain_worker_are_checked(service: Deployment) -> None:
    with pytest.raises(TaskArgumentsError, match=rf"{STOCK}\.postpone: due is 'soon' \(str\)"):
        postpone.delay(ORDER, cast("datetime", "soon"))


# -- workflows of both


def test_chain_passes_through_a_plain_worker(service: Deployment) -> None:
    sent = chain(
        typed_service.place.s(DAY, PRICE),
        postpone.p(NOON).set(queue="stock"),
        typed_service.respond.p(),
    ).delay()

    order = ORDER.model_copy(
        update={"due": NOON, "lines": [Line(item="tea", price=PRICE)]},
    )
    expected = Response[Order](data=order, took=timedelta(seconds=1))
    assert described(got(sent)) == described(expected)


def test_chain_passes_through_a_plain_task_of_the_same_worker(service: Deployment) -> None:
    pass_on = signature(f"{SERVICE}.pass_on", app=celery.current_app)

    sent = celery.chain(
        typed_service.place.s(DAY, PRICE), pass_on, typed_service.respond.p()
    ).apply_async()

    assert described(got(sent).data.due) == described(DAY)


def test_chain_that_begins_in_a_plain_worker_passes_on_what_fits(service: Deployment) -> None:
    sent = chain(postpone.s(ORDER, NAIVE), typed_service.respond.p()).delay()

    expected = ORDER.model_copy(update={"due": NAIVE})
    assert described(got(sent).data) == described(expected)


def test_result_of_a_plain_task_that_does_not_fit_ends_the_chain(service: Deployment) -> None:
    key = uuid4().hex
    pass_on = signature(f"{SERVICE}.pass_on", args=("no order",), app=celery.current_app)

    sent = celery.chain(pass_on, typed_service.record_order.p(key)).apply_async()

    with pytest.raises(TaskArgumentsError, match=r"record_order: order is 'no order' \(str\)"):
        got(sent)
    assert service.key(key) is None


def test_group_of_both_comes_back_as_the_annotations_say(service: Deployment) -> None:
    sent = group(echo_model.s(ORDER), postpone.s(ORDER, NOON)).delay()

    expected = [ORDER, ORDER.model_copy(update={"due": NOON})]
    assert described(got(sent)) == described(expected)


def test_chord_body_gets_the_results_of_both(service: Deployment) -> None:
    header = [typed_service.place.s(DAY, PRICE), postpone.s(ORDER, NOON)]

    sent = chord(header, typed_service.total.p()).delay()

    assert described(got(sent)) == described(3 * PRICE)


def test_chain_of_ours_that_a_plain_process_has_sent(service: Deployment) -> None:
    start = cast("Callable[..., AsyncResult[str]]", service.client.send_task)
    names = [echo_model.name, f"{STOCK}.answer", typed_service.respond.name]

    task_id = got(start(f"{STOCK}.send", (names, [ORDER_AS_JSON]), queue="stock"))

    result = got(typed_service.respond.AsyncResult(task_id))
    assert described(result.data) == described(PLAIN_ORDER)
