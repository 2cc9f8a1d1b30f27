"""Members of enums and Literals arrive, also where JSON has another form of their values."""

from __future__ import annotations

import dataclasses
import enum
from collections import Counter
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Final, Literal

import pytest
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from tests.support.calling import Maker, delay
from tests.support.values import described
from tomskit.errors import TaskArgumentsError


class Planet(enum.Enum):
    EARTH = (5.97, (1, 2))
    MARS = (0.64, (3, 4))


class Level(enum.Enum):
    LOW = enum.auto()
    HIGH = enum.auto()


class Odd(enum.Enum):
    NOTHING = None
    SET = frozenset({1})
    HALF = 0.5
    DAY = date(2024, 2, 29)
    TEXT = "1"
    NUMBER = 1


class Cat(BaseModel):
    kind: Literal[Level.LOW] = Level.LOW
    lives: int = 9


class Dog(BaseModel):
    kind: Literal[Level.HIGH] = Level.HIGH
    homes: dict[Level, list[Planet]] = {}


@dataclasses.dataclass
class Trip:
    to: Planet
    days: dict[Level, int]


class Stop(TypedDict):
    at: Planet


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]

ARRIVING: Final[tuple[tuple[object, object], ...]] = (
    (Planet, Planet.MARS),
    (Planet | None, Planet.MARS),
    (Planet | None, None),
    (set[Planet], {Planet.MARS, Planet.EARTH}),
    (Literal[Planet.MARS], Planet.MARS),
    (Literal[Level.LOW, "x", 3], Level.LOW),
    (Literal[Level.LOW, "x", 3], 3),
    *((Odd, member) for member in Odd),
    (dict[Level, int], {Level.HIGH: 1, Level.LOW: 2}),
    (Mapping[Level, Planet], {Level.HIGH: Planet.EARTH}),
    (Counter[Level], Counter([Level.HIGH])),
    (dict[Literal[1, 2], int], {1: 2}),
    (dict[Literal[Level.LOW], int], {Level.LOW: 1}),
    (dict[Odd, int], {Odd.HALF: 1, Odd.DAY: 2}),
    (dict[Odd, int], {Odd.TEXT: 1}),
    (Trip, Trip(Planet.EARTH, {Level.LOW: 3})),
    (list[Stop], [{"at": Planet.EARTH}]),
    (Cat | Dog, Dog(homes={Level.LOW: [Planet.MARS]})),
    (list[Pet], [Cat(), Dog(), Dog(homes={Level.LOW: [Planet.MARS]}), Cat(lives=1)]),
)


@pytest.mark.parametrize(("annotation", "value"), ARRIVING)
def test_a_member_arrives(make: Maker, annotation: object, value: object) -> None:
    delay(make.taking(annotation), value)
    result = make.returning(annotation, value).delay().get()

    assert [described(one) for one in make.received] == [described(value)]
    assert described(result) == described(value)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (dict[Odd, int], {Odd.NUMBER: 1}),
        (dict[Literal[1, "1"], int], {1: 2}),
        (Planet | list[Any], [5.97, [1, 2]]),
        (dict[Level | str, int], {"1": 2}),
    ],
)
def test_what_would_arrive_as_a_member_and_is_none_is_refused(
    make: Maker, annotation: object, value: object
) -> None:
    with pytest.raises(TaskArgumentsError, match="would arrive as"):
        delay(make.taking(annotation), value)


def test_the_models_themselves_read_as_they_did(make: Maker) -> None:
    delay(make.taking(Pet), Dog())

    with pytest.raises(ValidationError):
        Cat.model_validate({"kind": 1})
    with pytest.raises(ValidationError):
        TypeAdapter[Cat | Dog](Pet).validate_python({"kind": 1})
