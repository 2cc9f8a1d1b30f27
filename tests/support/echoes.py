"""A task for each annotation that tasks may have, and values of it.

The tasks belong to whichever app is current: the unit tests run them where they are called, the
workers of the integration tests import them.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import typing
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Final, Generic, Literal, TypeVar, cast
from uuid import UUID

from annotated_types import Gt
from celery import current_task
from pydantic import Field

from tests.support.values import (
    BERLIN,
    BINARY,
    DAY,
    HOME,
    ID,
    MIDNIGHT,
    NAIVE,
    NOON,
    ORDER,
    OTHER_ID,
    PLAIN_ORDER,
    PRICE,
    RESPONSE,
    SMALL_ORDER,
    Address,
    Animal,
    Bird,
    Cat,
    Colour,
    Dog,
    Frozen,
    Holiday,
    Node,
    Order,
    Person,
    Point,
    Priority,
    Response,
    Rights,
    Size,
    Span,
    UserId,
    Version,
    described,
)
from tomskit.celery import AsyncTask, async_shared_task

T = TypeVar("T")


def _as_sent(value: T) -> T:
    """Fails the running task unless `value` is one of those that it is sent."""
    text = described(value)
    assert text in {described(one) for one in _BY_TASK[current_task.name].arriving}, text
    return value


@async_shared_task
async def echo_datetime(value: datetime) -> datetime:
    return _as_sent(value)


@async_shared_task
async def echo_date(value: date) -> date:
    return _as_sent(value)


@async_shared_task
async def echo_time(value: time) -> time:
    return _as_sent(value)


@async_shared_task
async def echo_timedelta(value: timedelta) -> timedelta:
    return _as_sent(value)


@async_shared_task
async def echo_decimal(value: Decimal) -> Decimal:
    return _as_sent(value)


@async_shared_task
async def echo_uuid(value: UUID) -> UUID:
    return _as_sent(value)


@async_shared_task
async def echo_enum(value: Colour) -> Colour:
    return _as_sent(value)


@async_shared_task
async def echo_enum_of_dates(value: Holiday) -> Holiday:
    return _as_sent(value)


@async_shared_task
async def echo_int_enum(value: Priority) -> Priority:
    return _as_sent(value)


@async_shared_task
async def echo_str_enum(value: Size) -> Size:
    return _as_sent(value)


@async_shared_task
async def echo_flag(value: Rights) -> Rights:
    return _as_sent(value)


@async_shared_task
async def echo_path(value: Path) -> Path:
    return _as_sent(value)


@async_shared_task
async def echo_pure_path(value: PurePosixPath) -> PurePosixPath:
    return _as_sent(value)


@async_shared_task
async def echo_bytes(value: bytes) -> bytes:
    return _as_sent(value)


@async_shared_task
async def echo_set(value: set[date]) -> set[date]:
    return _as_sent(value)


@async_shared_task
async def echo_frozenset(value: frozenset[UUID]) -> frozenset[UUID]:
    return _as_sent(value)


@async_shared_task
async def echo_set_of_models(value: set[Frozen]) -> set[Frozen]:
    return _as_sent(value)


@async_shared_task
async def echo_pair(value: tuple[int, str]) -> tuple[int, str]:
    return _as_sent(value)


@async_shared_task
async def echo_tuple(value: tuple[int, ...]) -> tuple[int, ...]:
    return _as_sent(value)


@async_shared_task
async def echo_deque(value: deque[date]) -> deque[date]:
    return _as_sent(value)


@async_shared_task
async def echo_named_tuple(value: Point) -> Point:
    return _as_sent(value)


@async_shared_task
async def echo_typed_dict(value: Span) -> Span:
    return _as_sent(value)


@async_shared_task
async def echo_dataclass(value: Person) -> Person:
    return _as_sent(value)


@async_shared_task
async def echo_dataclass_with_slots(value: Version) -> Version:
    return _as_sent(value)


@async_shared_task
async def echo_model(value: Order) -> Order:
    return _as_sent(value)


@async_shared_task
async def echo_recursive_model(value: Node) -> Node:
    return _as_sent(value)


@async_shared_task
async def echo_generic_model(value: Response[Order]) -> Response[Order]:
    return _as_sent(value)


@async_shared_task
async def echo_generic_model_of_scalars(value: Response[set[UUID]]) -> Response[set[UUID]]:
    return _as_sent(value)


@async_shared_task
async def echo_list_of_models(value: list[Order]) -> list[Order]:
    return _as_sent(value)


@async_shared_task
async def echo_models_by_uuid(value: dict[UUID, Order]) -> dict[UUID, Order]:
    return _as_sent(value)


@async_shared_task
async def echo_texts_by_int(value: dict[int, str]) -> dict[int, str]:
    return _as_sent(value)


@async_shared_task
async def echo_sets_by_date(value: dict[date, set[Priority]]) -> dict[date, set[Priority]]:
    return _as_sent(value)


@async_shared_task
async def echo_prices_by_enum(value: dict[Colour, Decimal]) -> dict[Colour, Decimal]:
    return _as_sent(value)


@async_shared_task
async def echo_optional_model(value: Order | None) -> Order | None:
    return _as_sent(value)


@async_shared_task
async def echo_base_or_sub(value: Animal | Dog) -> Animal | Dog:
    return _as_sent(value)


@async_shared_task
async def echo_sub_or_base(value: Dog | Animal) -> Dog | Animal:
    return _as_sent(value)


@async_shared_task
async def echo_discriminated(
    value: Annotated[Cat | Bird, Field(discriminator="kind")],
) -> Annotated[Cat | Bird, Field(discriminator="kind")]:
    return _as_sent(value)


@async_shared_task
async def echo_datetime_or_str(value: datetime | str) -> datetime | str:
    return _as_sent(value)


@async_shared_task
async def echo_date_or_datetime(value: date | datetime) -> date | datetime:
    return _as_sent(value)


@async_shared_task
async def echo_uuid_or_str(value: UUID | str) -> UUID | str:
    return _as_sent(value)


@async_shared_task
async def echo_bytes_or_str(value: bytes | str) -> bytes | str:
    return _as_sent(value)


@async_shared_task
async def echo_number(value: Decimal | float) -> Decimal | float:
    return _as_sent(value)


@async_shared_task
async def echo_constrained(value: Annotated[int, Gt(0)]) -> Annotated[int, Gt(0)]:
    return _as_sent(value)


@async_shared_task
async def echo_new_type(value: UserId) -> UserId:
    return _as_sent(value)


@async_shared_task
async def echo_literal(value: Literal["fast", 1]) -> Literal["fast", 1]:
    return _as_sent(value)


@async_shared_task
async def echo_complex(value: complex) -> complex:
    return _as_sent(value)


@async_shared_task
async def echo_any(value: Any) -> Any:
    return _as_sent(value)


@async_shared_task
async def echo_object(value: object) -> object:
    return _as_sent(value)


@async_shared_task
async def echo_float(value: float) -> float:
    return _as_sent(value)


@async_shared_task
async def echo_int(value: int) -> int:
    return _as_sent(value)


@async_shared_task
async def echo_bool_or_int(value: bool | int) -> bool | int:
    return _as_sent(value)


@async_shared_task
async def echo_text(value: str) -> str:
    return _as_sent(value)


@async_shared_task
async def echo_none(value: None) -> None:
    return _as_sent(value)


@async_shared_task
async def echo_nested_containers(
    value: dict[str, list[tuple[date, UUID | None]]],
) -> dict[str, list[tuple[date, UUID | None]]]:
    return _as_sent(value)


# -- the table


@dataclasses.dataclass(frozen=True)
class Case(Generic[T]):
    """An annotation: a task for a value of it, one for a list, and values."""

    name: str
    echo: AsyncTask[[T], T]
    echo_all: AsyncTask[[list[T]], list[T]]
    sent: list[T]
    arriving: list[T]
    """What they are in the task and in its result; nearly always what was sent."""


def _case(echo: AsyncTask[[T], T], *sent: T, arriving: Sequence[T] = ()) -> Case[T]:
    function = cast("Callable[..., object]", inspect.unwrap(echo))
    name = function.__name__.removeprefix("echo_")
    case = Case(name, echo, _for_lists(function), list(sent), list(arriving or sent))
    for task in (function.__name__, f"{function.__name__}_all"):
        _BY_TASK[f"{__name__}.{task}"] = case
    return case


def _for_lists(function: Callable[..., object]) -> AsyncTask[[list[Any]], list[Any]]:
    """The task that a chord's body may be: it takes what all tasks of the header return."""

    async def echo_all(values: list[Any]) -> list[Any]:
        return [_as_sent(value) for value in values]

    one: Any = typing.get_type_hints(function, include_extras=True)["value"]
    echo_all.__annotations__ = {"values": list[one], "return": list[one]}
    return async_shared_task(name=f"{__name__}.{function.__name__}_all")(echo_all)


_BY_TASK: Final[dict[str, Case[Any]]] = {}


CASES: Final[Sequence[Case[Any]]] = (
    _case(
        echo_datetime,
        NOON,
        NAIVE,
        MIDNIGHT,
        datetime(2024, 7, 1, 9, tzinfo=BERLIN),
        datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN),
        datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN, fold=1),
        datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=45))),
        datetime.max.replace(tzinfo=UTC),
        datetime.min.replace(tzinfo=UTC),
    ),
    _case(echo_date, DAY, date.min, date.max),
    _case(echo_time, time(0), time(1, 2, 3, 4), time(23, 59, tzinfo=UTC)),
    _case(
        echo_timedelta,
        timedelta(0),
        timedelta(days=400, microseconds=1),
        timedelta(microseconds=-1),
        timedelta.max,
        timedelta.min,
    ),
    _case(
        echo_decimal,
        PRICE,
        Decimal("1E+5"),
        Decimal("-0"),
        Decimal("123456789012345678901234567890.000000001"),
    ),
    _case(echo_uuid, ID),
    _case(echo_enum, *Colour),
    _case(echo_enum_of_dates, *Holiday),
    _case(echo_int_enum, *Priority),
    _case(echo_str_enum, *Size),
    _case(echo_flag, Rights.READ, Rights.READ | Rights.WRITE, Rights(0)),
    _case(echo_path, Path("/tmp/ü x")),
    _case(echo_pure_path, PurePosixPath("a/b")),
    _case(echo_bytes, b"text", "ü☂".encode(), BINARY, b""),
    _case(echo_set, {DAY, date.max}, set[date]()),
    _case(echo_frozenset, frozenset({ID, OTHER_ID})),
    _case(echo_set_of_models, {Frozen(day=DAY), Frozen(day=date.max)}),
    _case(echo_pair, (1, "one")),
    _case(echo_tuple, (1, 2, 3), ()),
    _case(echo_deque, deque([DAY, date.max])),
    _case(echo_named_tuple, Point(PRICE, NOON), Point(PRICE, NAIVE, "there")),
    _case(echo_typed_dict, Span(start=NOON), Span(start=NOON, end=DAY)),
    _case(echo_dataclass, Person("Ada", HOME, [HOME, Address("Oak St.", DAY)], born=DAY)),
    _case(echo_dataclass_with_slots, Version((1, 2), DAY)),
    _case(echo_model, ORDER, SMALL_ORDER, PLAIN_ORDER),
    _case(echo_recursive_model, Node(day=DAY, children=[Node(day=date.max)])),
    _case(
        echo_generic_model,
        RESPONSE,
        Response[Order](data=PLAIN_ORDER),
    ),
    _case(echo_generic_model_of_scalars, Response[set[UUID]](data={ID, OTHER_ID})),
    _case(echo_list_of_models, [ORDER, SMALL_ORDER], []),
    _case(echo_models_by_uuid, {ID: ORDER, OTHER_ID: SMALL_ORDER}),
    _case(echo_texts_by_int, {1: "one", -2: "minus two", 2**70: "many"}),
    _case(echo_sets_by_date, {DAY: {Priority.LOW}, date.max: {*Priority}}),
    _case(echo_prices_by_enum, {Colour.RED: PRICE, Colour.BLUE: Decimal(2)}),
    _case(echo_optional_model, ORDER, None),
    _case(echo_base_or_sub, Animal(name="x"), Dog(name="y", born=NOON)),
    _case(echo_sub_or_base, Animal(name="x"), Dog(name="y", born=NOON)),
    _case(echo_discriminated, Cat(name="x", seen=DAY), Bird(name="y", seen=NAIVE)),
    _case(echo_datetime_or_str, NOON, NAIVE, NOON.isoformat(), "later"),
    _case(echo_date_or_datetime, DAY, MIDNIGHT, NOON),
    _case(echo_uuid_or_str, ID, str(ID), ID.hex),
    _case(echo_bytes_or_str, b"a", "a", BINARY),
    _case(echo_number, Decimal(1), 1.0, PRICE, 1.1),
    _case(echo_constrained, 1, 2**70),
    _case(echo_new_type, UserId(ID)),
    _case(echo_literal, "fast", 1),
    _case(echo_complex, 1 + 2j, complex(0, -1), complex(math.inf, -0.0)),
    _case(
        echo_any,
        *(NOON, NAIVE, DAY, time(1), PRICE, ID, b"text", BINARY),
        *(None, True, 1, 2**70, 1.5, "text", "2024-02-29"),
        [NOON, {"id": ID, "prices": [PRICE, None]}],
        {"__type__": "date"},
    ),
    _case(echo_object, NOON, [ID, {"day": DAY}]),
    _case(
        echo_float,
        *(1.5, 3, -0.0, math.inf, -math.inf, math.nan, 5e-324),
        arriving=(1.5, 3.0, -0.0, math.inf, -math.inf, math.nan, 5e-324),
    ),
    _case(echo_int, 0, -1, 2**64, -(2**70)),
    _case(echo_bool_or_int, True, 1, False, 0),
    _case(echo_text, "", "ü☂\x00", "2024-02-29", "\ud800"),
    _case(echo_none, None),
    _case(echo_nested_containers, {"a": [(DAY, ID), (date.max, None)], "b": []}),
)
"""Every annotation, and values that are to arrive as they are."""
