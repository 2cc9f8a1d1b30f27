"""Types and values of an application, and a text that tells values apart."""

from __future__ import annotations

import dataclasses
import enum
from collections import deque
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Generic, Literal, NamedTuple, NewType, NotRequired, TypeVar, cast
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import BaseModel, Field
from typing_extensions import TypedDict

T = TypeVar("T")


# -- types of an application


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Priority(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Size(enum.StrEnum):
    SMALL = "S"
    LARGE = "L"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Holiday(enum.Enum):
    NEW_YEAR = date(2024, 1, 1)
    MAY_DAY = date(2024, 5, 1)


class Text(str):
    __slots__ = ()


class Number(int):
    pass


class Ratio(float):
    pass


class Point(NamedTuple):
    x: Decimal
    at: datetime
    label: str = "here"


class Span(TypedDict):
    start: datetime
    end: NotRequired[date]


@dataclasses.dataclass
class Address:
    street: str
    since: date
    tags: set[UUID] = dataclasses.field(default_factory=set[UUID])


@dataclasses.dataclass
class Person:
    name: str
    address: Address
    former: list[Address]
    born: date | None = dataclasses.field(default=None, kw_only=True)


@dataclasses.dataclass(frozen=True, slots=True)
class Version:
    number: tuple[int, ...]
    released: date


class Line(BaseModel):
    item: str
    price: Decimal
    colour: Colour = Colour.RED


class Order(BaseModel):
    id: UUID
    placed_at: datetime = Field(alias="placedAt")
    lines: list[Line] = []
    due: date | datetime | None = None
    attachment: bytes = b""


class Animal(BaseModel):
    name: str


class Dog(Animal):
    born: datetime


class Cat(Animal):
    kind: Literal["cat"] = "cat"
    seen: date


class Bird(Animal):
    kind: Literal["bird"] = "bird"
    seen: datetime


class Frozen(BaseModel, frozen=True):
    day: date


class Node(BaseModel):
    day: date
    children: list[Node] = []


class Response(BaseModel, Generic[T]):
    data: T
    took: timedelta = timedelta(0)


UserId = NewType("UserId", UUID)


# -- a text for a value


def described(value: object) -> str:
    """A text that two values share only if they are equal, and of the same types all through."""
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}{_content(value)}"


def _content(value: object) -> str:
    if isinstance(value, datetime):
        # Of a time zone, the offset arrives. In the hour that a zone has twice, Python takes no
        # two datetimes of different zones for equal.
        return value.isoformat()
    if isinstance(value, AbstractSet):
        return f"{{{', '.join(sorted(map(described, cast('AbstractSet[object]', value))))}}}"
    if isinstance(value, (list, tuple, deque)):
        return f"[{', '.join(map(described, cast('Sequence[object]', value)))}]"
    pairs = _parts(value)
    if pairs is None:
        return f" {value!r}"
    return f"{{{', '.join(f'{described(key)}: {described(pairs[key])}' for key in pairs)}}}"


def _parts(value: object) -> Mapping[Any, object] | None:
    if isinstance(value, BaseModel):
        return value.__dict__ | (value.model_extra or {})
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return cast("Mapping[Any, object]", value) if isinstance(value, Mapping) else None


# -- values


ID: Final = UUID("12345678-1234-5678-1234-567812345678")
OTHER_ID: Final = UUID("87654321-4321-8765-4321-876543218765")
NOON: Final = datetime(2024, 2, 29, 12, 0, 0, 5, tzinfo=UTC)
NAIVE: Final = datetime(2024, 2, 29, 12)  # noqa: DTZ001 (naive ones arrive as such)
MIDNIGHT: Final = datetime(2024, 2, 29)  # noqa: DTZ001 (which is not a date)
BERLIN: Final = ZoneInfo("Europe/Berlin")
DAY: Final = date(2024, 2, 29)
BINARY: Final = b"\xff\x00\xfe"
PRICE: Final = Decimal("1.10")
LINES: Final = [Line(item="tea", price=PRICE), Line(item="ü☂", price=PRICE, colour=Colour.BLUE)]
ORDER: Final = Order(id=ID, placedAt=NOON, lines=LINES, due=DAY, attachment=BINARY)
SMALL_ORDER: Final = Order(id=OTHER_ID, placedAt=NAIVE, due=MIDNIGHT)
PLAIN_ORDER: Final = Order(id=OTHER_ID, placedAt=NAIVE, due=DAY)
RESPONSE: Final = Response[Order](data=ORDER, took=timedelta(seconds=1.5))
HOME: Final = Address("Elm St.", DAY, {ID, OTHER_ID})
