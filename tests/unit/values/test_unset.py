"""Fields of a model that were not set are not set where it arrives, either."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Generic, Literal, TypeVar, cast
from uuid import UUID, uuid4

import pytest
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    Json,
    ModelWrapValidatorHandler,
    RootModel,
    SerializerFunctionWrapHandler,
    field_serializer,
    model_serializer,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypedDict

from tests.support.calling import Maker, Way, by_every_complete_way, delay
from tests.support.serializing import SERIALIZERS, travelled
from tomskit.celery import AsyncCelery, async_shared_task, chain
from tomskit.celery._values.codec import Codec
from tomskit.celery._values.wire import to_wire

T = TypeVar("T")
_count = itertools.count()


class Patch(BaseModel):
    a: int | None = None
    b: int | None = None


class Outer(BaseModel):
    patch: Patch = Patch(a=1)
    patches: list[Patch] = []
    by_name: dict[str, Patch] = {}
    either: Patch | int = 0
    more: Sequence[Patch] = ()


class Box(BaseModel, Generic[T]):
    content: T
    label: str = "box"


class Made(BaseModel):
    id: UUID = Field(default_factory=uuid4)
    number: int = Field(default_factory=lambda: next(_count))
    tags: list[str] = Field(default_factory=list[str])
    next: Made | None = None


class MadeOfData(BaseModel):
    a: int = 1
    b: int = Field(default_factory=lambda data: cast("int", data["a"]) + 1)


class Aliased(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="allow")
    first_name: str = "Jane"
    last_patch: Patch = Patch()


class OwnAlias(BaseModel):
    a: int = Field(default=1, validation_alias="read", serialization_alias="written")
    b: int = 2


class OwnField(BaseModel):
    a: int = 1
    patch: Patch = Patch(a=1)
    other: Patch = Patch()

    @field_serializer("a")
    def _text(self, value: int) -> str:
        return str(value)


class OwnModel(BaseModel):
    a: int = 1
    patch: Patch = Patch(a=1)

    @model_serializer(mode="wrap")
    def _wrapped(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return cast("dict[str, Any]", handler(self))


class OwnInit(BaseModel):
    a: int = 1
    id: UUID = Field(default_factory=uuid4)

    def __init__(self, **data: object) -> None:
        super().__init__(**data)


class Validated(BaseModel):
    a: int = 1
    id: UUID = Field(default_factory=uuid4)

    @model_validator(mode="before")
    @classmethod
    def _before(cls, data: Mapping[str, object]) -> object:
        assert {*data} <= {"a", "id"}
        return data

    @model_validator(mode="wrap")
    @classmethod
    def _around(cls, data: object, handler: ModelWrapValidatorHandler[Validated]) -> Validated:
        return handler(data)


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    a: int = 1
    id: UUID = Field(default_factory=uuid4)


class WithJson(BaseModel):
    a: int = 1
    data: Json[list[int]] = Field(default_factory=lambda: [1])


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    lives: int = 1


class Left(BaseModel):
    left: int = 1


class Right(BaseModel):
    right: int = 1


class Tags(RootModel[list[str]]):
    root: list[str] = []


class Tagged(BaseModel):
    tags: Tags = Tags()
    more: dict[str, Tags] = {}


@dataclasses.dataclass
class Holder:
    patch: Patch
    patches: tuple[Patch, ...] = ()


@pydantic_dataclass
class CheckedHolder:
    patch: Patch


class Typed(TypedDict):
    patch: Patch


def touched(made: Made) -> Made:
    made.tags.append("red")
    return made


CASES: Final[tuple[tuple[str, object, object], ...]] = (
    ("one of two", Patch, Patch(b=2)),
    ("none", Patch, Patch()),
    ("all", Patch, Patch(a=1, b=None)),
    ("one set to its default", Patch, Patch(a=None)),
    ("in a model", Outer, Outer(patch=Patch(b=1))),
    ("in a model's list", Outer, Outer(patches=[Patch(), Patch(a=1)])),
    ("in a model's dict", Outer, Outer(by_name={"x": Patch(b=None)})),
    ("in a model's union", Outer, Outer(either=Patch(a=1))),
    ("in a model's Sequence", Outer, Outer(more=[Patch(a=1)])),
    ("in a list", list[Patch], [Patch(), Patch(a=1)]),
    ("in a dict", dict[str, Patch], {"x": Patch(b=1)}),
    ("in a tuple", tuple[Patch, int], (Patch(b=1), 1)),
    ("in a TypedDict", Typed, Typed(patch=Patch(b=1))),
    ("or None", Patch | None, Patch(b=1)),
    ("in a generic model", Box[Patch], Box[Patch](content=Patch(b=1))),
    (
        "in a generic model in another",
        Box[Box[Patch]],
        Box[Box[Patch]](content=Box(content=Patch())),
    ),
    ("in a dataclass", Holder, Holder(Patch(b=1), (Patch(),))),
    ("in a dataclass of pydantic", CheckedHolder, CheckedHolder(Patch(b=1))),
    ("in a RootModel", RootModel[list[Patch]], RootModel[list[Patch]]([Patch(b=1)])),
    ("a RootModel", Tags, Tags()),
    ("a RootModel that is set", Tags, Tags([])),
    ("RootModels in a model", Tagged, Tagged(tags=Tags(), more={"x": Tags(), "y": Tags(["a"])})),
    ("of a factory", Made, Made()),
    ("of a factory, some set", Made, Made(number=5, next=Made(id=UUID(int=1)))),
    ("of a factory, changed in place", Made, touched(Made())),
    ("of a factory that takes data", MadeOfData, MadeOfData(a=5)),
    ("with aliases", Aliased, Aliased.model_validate({"lastPatch": {"a": 1}})),
    ("with extra values", Aliased, Aliased.model_validate({"other": 3})),
    ("with two aliases", OwnAlias, OwnAlias.model_validate({"read": 1})),
    ("with a serializer of a field", OwnField, OwnField(patch=Patch(b=1))),
    ("with a serializer of the model", OwnModel, OwnModel(patch=Patch(b=1))),
    ("with an __init__", OwnInit, OwnInit(a=2)),
    ("with validators", Validated, Validated(a=2)),
    ("without extra values", Closed, Closed(a=2)),
    ("with JSON", WithJson, WithJson()),
    ("in a tagged union", Annotated[Cat | Dog, Field(discriminator="kind")], Dog()),
    ("in a union by literals", Cat | Dog, Dog(lives=2)),
    ("in a union without literals", Left | Right, Right()),
    ("in a list of such a union", list[Left | Right], [Left(), Right(right=2)]),
)


def set_fields(value: object) -> object:
    """The fields that were set in all the models that a value holds."""
    if isinstance(value, BaseModel):
        inner = {name: set_fields(item) for name, item in vars(value).items()}
        return sorted(value.model_fields_set), inner
    if dataclasses.is_dataclass(value):
        return {name: set_fields(item) for name, item in vars(value).items()}
    if isinstance(value, Mapping):
        pairs = cast("Mapping[object, object]", value)
        return {key: set_fields(item) for key, item in pairs.items()}
    if isinstance(value, (list, tuple)):
        return [set_fields(item) for item in cast("Sequence[object]", value)]
    return None


by_case = pytest.mark.parametrize(
    ("annotation", "value"), [one[1:] for one in CASES], ids=[one[0] for one in CASES]
)


@by_case
def test_what_was_not_set_is_not_set_in_the_worker(
    make: Maker, annotation: object, value: object
) -> None:
    delay(make.taking(annotation), value)

    assert make.received == [value]
    assert set_fields(make.received[0]) == set_fields(value)


@by_case
def test_what_was_not_set_is_not_set_in_the_result(
    make: Maker, annotation: object, value: object
) -> None:
    result = make.returning(annotation, value).delay().get()

    assert result == value
    assert set_fields(result) == set_fields(value)


@by_every_complete_way
def test_what_was_not_set_is_not_set_by_any_way_of_calling(make: Maker, call: Way) -> None:
    outcome = call(make.taking(Patch), Patch(b=2))
    getattr(outcome, "delay", lambda: None)()

    (arrived,) = cast("list[Patch]", make.received)
    assert arrived.model_dump(exclude_unset=True) == {"b": 2}


def test_what_was_not_set_is_not_set_after_a_chain(app: AsyncCelery) -> None:
    sent = chain(changed.s(Patch(b=2)), changed.p()).delay()

    assert sent.get().model_dump(exclude_unset=True) == {"b": 4}


@async_shared_task
async def changed(patch: Patch) -> Patch:
    fields = patch.model_dump(exclude_unset=True)
    return Patch(**{name: value + 1 for name, value in fields.items()})


# -- the wire, which plain clients read


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        (Patch(b=2), {"b": 2}),
        (Patch(a=None), {"a": None}),
        (
            Outer(patch=Patch(a=1), patches=[Patch()]),
            {"patch": {"a": 1}, "patches": [dict[str, object]()]},
        ),
        (Made(id=UUID(int=1), number=1), {"id": UUID(int=1), "number": 1}),
        (OwnField(), dict[str, object]()),
    ],
    ids=repr,
)
def test_the_wire_is_that_of_pydantic_without_what_was_not_set(value: object, wire: object) -> None:
    assert to_wire(value) == wire


def test_a_value_of_a_factory_is_sent_and_named_as_not_set() -> None:
    made = Made(number=1)

    wire = cast("dict[str, object]", to_wire(made))

    assert wire == {"id": made.id, "number": 1, "__unset__": ["id"]}
    assert all(travelled(wire, serializer) == wire for serializer in SERIALIZERS)


@pytest.mark.parametrize(
    ("sent", "are_set"),
    [({"a": None, "b": 2}, {"a", "b"}), ({"b": 2}, {"b"}), (dict[str, object](), set[str]())],
)
def test_plain_clients_may_send_all_some_or_none_of_the_fields(
    sent: object, are_set: set[str]
) -> None:
    async def function(patch: Patch) -> None: ...

    codec = Codec(function, name="shop.patch", bind=False)

    (patch,), _ = codec.load((sent,), {})

    assert isinstance(patch, Patch)
    assert patch.model_fields_set == are_set


def test_a_model_that_may_have_any_key_has_no_other(make: Maker) -> None:
    class Open(BaseModel):
        model_config = ConfigDict(extra="allow")
        id: UUID = Field(default_factory=uuid4)

    value = Open.model_validate({"x": 1})
    delay(make.taking(Open), value)

    (arrived,) = cast("list[Open]", make.received)
    assert arrived.model_extra == {"x": 1}
    assert arrived.id == value.id
