"""A value arrives as it was sent, or is refused where the task is called."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter, OrderedDict, UserDict, UserList, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Generic, Literal, TypeVar, cast
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from annotated_types import Gt
from kombu.exceptions import EncodeError
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, RootModel, StringConstraints
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import override

from tests.support.calling import Maker, delay
from tests.support.shop import (
    Author,
    Book,
    Colour,
    Customer,
    Level,
    NamedPlace,
    Node,
    Novelist,
    Pair,
    Place,
    Rights,
    Span,
    Word,
)
from tomskit.celery import AsyncCelery, async_shared_task
from tomskit.errors import TaskArgumentsError

T = TypeVar("T")
N = TypeVar("N", bound=int)


# -- what fits nearly

NEARLY: Final[tuple[tuple[str, object, object, str], ...]] = (
    ("a str for an int", int, "5", r"'5' \(str\), not int"),
    ("a float for an int", int, 5.0, r"5\.0 \(float\), not int"),
    ("a Decimal for an int", int, Decimal(5), r"not int"),
    ("None for an int", int, None, r"None \(NoneType\), not int"),
    ("an int for a str", str, 5, r"5 \(int\), not str"),
    ("bytes for a str", str, b"a", r"b'a' \(bytes\), not str"),
    ("a str for bytes", bytes, "a", r"'a' \(str\), not bytes"),
    ("an int for a bool", bool, 1, r"1 \(int\), not bool"),
    ("a str for a float", float, "1.5", r"'1\.5' \(str\), not float"),
    ("an int that is no float", float, 10**400, r"not float"),
    ("an int that no float is", float, 2**53 + 1, r"9007199254740993 \(int\)"),
    ("a float for a Decimal", Decimal, 1.5, r"1\.5 \(float\), not decimal\.Decimal"),
    ("an int for a Decimal", Decimal, 1, r"1 \(int\), not decimal\.Decimal"),
    ("a Decimal that is NaN", Decimal, Decimal("nan"), r"Input should be a finite number"),
    ("a str for a UUID", UUID, str(UUID(int=1)), r"\(str\), not uuid\.UUID"),
    ("a str for a date", date, "2024-01-01", r"\(str\), not datetime\.date"),
    ("a datetime for a date", date, datetime(2024, 1, 1, tzinfo=UTC), r"not datetime\.date"),
    ("a naive datetime for a date", date, datetime(2024, 1, 1), r"not datetime\.date"),  # noqa: DTZ001
    ("a date for a datetime", datetime, date(2024, 1, 1), r"\(date\), not datetime\.datetime"),
    ("seconds for a timedelta", timedelta, 5, r"5 \(int\), not datetime\.timedelta"),
    ("a str for a time", time, "10:00", r"\(str\), not datetime\.time"),
    ("a str for a Path", Path, "/tmp", r"'/tmp' \(str\)"),
    ("a value for an Enum", Colour, "red", r"'red' \(str\)"),
    ("a name for an Enum", Colour, "RED", r"'RED' \(str\)"),
    ("a tuple for a list", list[int], (1,), r"\(1,\) \(tuple\), not list\[int\]"),
    ("a set for a list", list[int], {1}, r"\{1\} \(set\), not list\[int\]"),
    ("a list for a tuple", tuple[int, ...], [1], r"\[1\] \(list\), not tuple\[int, \.\.\.\]"),
    ("a longer tuple", tuple[int, int], (1, 2, 3), r"\(1, 2, 3\) \(tuple\)"),
    ("a list for a set", set[int], [1], r"\[1\] \(list\), not set\[int\]"),
    ("a str for a Sequence of str", Sequence[str], "ab", r"'ab' \(str\)"),
    ("a list for a deque", deque[int], [1], r"\[1\] \(list\)"),
    ("pairs for a dict", dict[str, int], [("a", 1)], r"\(list\), not dict\[str, int\]"),
    ("a wrong item", list[int], [1, "2"], r"value\.1 is '2' \(str\), not list\[int\]"),
    ("a wrong key", dict[int, int], {"1": 1}, r"value\.1.* is '1' \(str\)"),
    ("a dict for a model", Author, {"name": "Jane"}, r"\(dict\) and would arrive as Author\("),
    ("a dict for a dataclass", Place, {"lat": 1.0}, r"\(dict\), not tests.*Place"),
    ("a dict in a list of models", list[Author], [{"name": "J"}], r"would arrive as \[Author\("),
    ("another model", Author, Book(title="Emma"), r"value.* Author"),
    ("a subclass of a model", Author, Novelist(name="J"), r"Novelist\).* as Author\("),
    ("it in a list", list[Author], [Novelist(name="J")], r"Novelist\(.* as \[Author\("),
    ("a subclass of a dataclass", Place, NamedPlace(1.0), r"NamedPlace\) and .* as Place\("),
    ("it in a dict", dict[str, Place], {"a": NamedPlace(1.0)}, r"would arrive as \{'a': Place\("),
    ("a dataclass for a model", Author, Place(1.0), r"Place\(.*not tests.*Author"),
    ("a key that a TypedDict lacks", Span, {"start": date(2024, 1, 1), "to": 1}, r"'to': 1"),
    ("a TypedDict without a key", Span, {}, r"value\.start"),
    ("a model under Any", Any, Author(name="J"), r"Any is Author\(.*\) and would arrive as \{"),
    ("a model under object", object, Author(name="J"), r"object is Author\(.*would arrive as \{"),
    ("a dataclass under Any", Any, Place(1.0), r"Any is Place\(.*would arrive as \{"),
    ("a tuple under Any", Any, (1,), r"Any is \(1,\) \(tuple\) and would arrive as \[1\] \(list\)"),
    ("a tuple in a dict of Any", dict[str, Any], {"a": (1,)}, r"would arrive as \{'a': \[1\]\}"),
    ("a set under Any", Any, {1}, r"\{1\} \(set\) and would arrive as \[1\] \(list\)"),
    ("an Enum under Any", Any, Colour.RED, r"would arrive as 'red' \(str\)"),
    ("an IntEnum under Any", Any, Level.LOW, r"would arrive as 1 \(int\)"),
    ("an IntEnum in a set of Any", set[Any], {Level.LOW}, r"would arrive as \{1\}"),
    ("an IntEnum in a deque of Any", deque[Any], deque([Level.LOW]), r"would arrive as"),
    ("a StrEnum as key of Any", dict[Any, int], {Word.YES: 1}, r"would arrive as \{'yes': 1\}"),
    ("a number as key under Any", Any, {1: 1}, r"would arrive as \{'1': 1\}"),
    ("a timedelta under Any", Any, timedelta(1), r"would arrive as 'P1D' \(str\)"),
    ("a StrEnum in a union with str", Word | str, Word.YES, r"would arrive as 'yes' \(str\)"),
    ("an IntEnum in a union with int", int | Level, Level.LOW, r"would arrive as 1 \(int\)"),
    ("a tuple in a union with list", tuple[int, ...] | list[int], (1,), r"would arrive as \[1\]"),
    ("a set in a union with list", list[int] | set[int], {1}, r"would arrive as \[1\] \(list\)"),
    ("a Path in a union with str", Path | str, Path("/tmp"), r"would arrive as '/tmp' \(str\)"),
    ("the base in a union with a subclass", Novelist | Author, Author(name="J"), r"Novelist\("),
    ("too small", Annotated[int, Gt(3)], 2, r"greater than 3"),
    ("not the literal", Literal["a", "b"], "c", r"'c' \(str\), not Literal\['a', 'b'\]"),
    ("one key in two types", dict[int | str, int], {1: 1, "1": 2}, r"the same text in JSON"),
    ("a key without a text form", dict[tuple[int], int], {(1,): 1}, r"only text as keys"),
    ("what kombu takes for a mark", dict[str, int], {"__type__": 1, "__value__": 2}, r"other keys"),
    ("a time with a zone", time, time(1, tzinfo=ZoneInfo("Europe/Berlin")), r"lose its time zone"),
    (
        "it as a key",
        dict[time, int],
        {time(1, tzinfo=ZoneInfo("Europe/Berlin")): 1},
        r"lose its time zone",
    ),
    ("a length of a deque", deque[int], deque([1], maxlen=3), r"value.*maxlen=3"),
    ("a generator for a list", list[int], iter([1]), r"not list\[int\]"),
    ("no type of JSON", Customer, Customer(), r"Customer.*which cannot be sent"),
)


@pytest.mark.parametrize(
    ("annotation", "value", "message"), [one[1:] for one in NEARLY], ids=[one[0] for one in NEARLY]
)
def test_what_a_type_checker_would_refuse_or_json_change_is_refused(
    make: Maker, annotation: object, value: object, message: str
) -> None:
    task = make.taking(annotation)

    with pytest.raises(TaskArgumentsError, match=rf"{task.name}: .*{message}"):
        delay(task, value)

    assert make.received == []


def test_an_argument_that_only_nearly_fits_makes_no_exception_for_another(
    app: AsyncCelery,
) -> None:
    # Strict mode refuses True for an int, and so the whole call.
    with pytest.raises(TaskArgumentsError, match="would arrive as 'yes'"):
        delay(answer, True, Word.YES)


def test_an_item_that_only_nearly_fits_makes_no_exception_for_another(make: Maker) -> None:
    message = r"value\.1 is <Word\.YES: 'yes'> \(Word\) and would arrive as 'yes' \(str\)"
    with pytest.raises(TaskArgumentsError, match=message):
        delay(make.taking(tuple[int, Word | str]), (True, Word.YES))


@async_shared_task
async def answer(number: int, word: Word | str) -> None: ...


def test_an_unfit_part_of_a_dataclass_is_refused(make: Maker) -> None:
    place = Place(1.0, cast("list[str]", ("north",)))

    with pytest.raises(TaskArgumentsError, match=r"would arrive as Place\(.*tags=\['north'\]"):
        delay(make.taking(Place), place)


def test_an_unfit_part_of_a_changed_model_is_refused(make: Maker) -> None:
    book = Book(title="Emma")
    book.authors = cast("list[Author]", (Author(name="Jane"),))

    with pytest.raises(TaskArgumentsError, match=r"would arrive as Book\(.*authors=\[Author"):
        delay(make.taking(Book), book)


def test_a_changed_private_attribute_is_refused(make: Maker) -> None:
    class Counting(BaseModel):
        _count: int = PrivateAttr(default=0)

    counting = Counting()
    counting._count = 5

    message = r"value\._count is 5 \(int\) and would arrive as 0 .*private attributes are not sent"
    with pytest.raises(TaskArgumentsError, match=message):
        delay(make.taking(Counting), counting)


def test_a_changed_field_that_init_does_not_take_is_refused(make: Maker) -> None:
    @dataclasses.dataclass
    class Counting:
        count: int = dataclasses.field(init=False, default=0, compare=False)

    counting = Counting()
    counting.count = 5

    with pytest.raises(TaskArgumentsError, match=r"count=5.* would arrive as .*count=0"):
        delay(make.taking(Counting), counting)


def test_a_subclass_that_equals_its_base_is_refused(make: Maker) -> None:
    @dataclasses.dataclass
    class Entity:
        id: int

        @override
        def __eq__(self, other: object) -> bool:
            return isinstance(other, Entity) and self.id == other.id

        @override
        def __hash__(self) -> int:
            return self.id

    @dataclasses.dataclass(eq=False)
    class User(Entity):
        name: str = "Jane"

    with pytest.raises(TaskArgumentsError, match=r"User\(.* would arrive as .*Entity\("):
        delay(make.taking(Entity), User(1))


def test_an_enum_member_among_the_extra_fields_of_a_model_is_refused(make: Maker) -> None:
    class Open(BaseModel):
        model_config = ConfigDict(extra="allow")

    with pytest.raises(TaskArgumentsError, match=r"Word\.YES.* would arrive as .*'yes'"):
        delay(make.taking(Open), Open.model_validate({"word": Word.YES}))


def test_a_model_that_writes_itself_otherwise_than_it_reads_is_refused(make: Maker) -> None:
    class Swapped(BaseModel):
        a: int = Field(alias="b")
        b: int = Field(alias="a")

    with pytest.raises(TaskArgumentsError, match="would arrive as"):
        delay(make.taking(Swapped), Swapped(b=1, a=2))


def test_two_surrogates_that_are_one_character_do_not_arrive_as_another_text(make: Maker) -> None:
    with pytest.raises((TaskArgumentsError, EncodeError)):
        make.taking(str).options(serializer="orjson").delay("\ud83d\ude00").get()


# -- what fits although its type is another


class Numbers(list[int]):
    """A list, for type checkers."""


WIDENED: tuple[tuple[str, object, object, object], ...] = (
    ("a bool for an int", int, True, 1),
    ("an IntEnum for an int", int, Level.LOW, 1),
    ("a bool for a float", float, True, 1.0),
    ("an int for a float", float, 3, 3.0),
    ("an int within floats", list[float], [1, 2.5], [1.0, 2.5]),
    ("an int for float or Decimal", float | Decimal, 3, 3.0),
    ("a StrEnum for a str", str, Word.YES, "yes"),
    ("a StrEnum as key", dict[str, int], {Word.YES: 1}, {"yes": 1}),
    ("a tuple for a Sequence", Sequence[int], (1, 2), [1, 2]),
    ("a tuple for a Sequence in a dict", dict[str, Sequence[str]], {"a": ("b",)}, {"a": ["b"]}),
    ("a bool for an int in a union", int | str, True, 1),
    ("an IntEnum for an int in a union", int | str, Level.LOW, 1),
    ("an int for a float in a union", float | str, 1, 1.0),
    ("a bool for an int in a list of a union", list[int | str], [True], [1]),
    ("a tuple for a Sequence or None", Sequence[int] | None, (1,), [1]),
    ("it beside a list", tuple[Sequence[int], list[int]], ((1,), [1]), ([1], [1])),
    ("a set for a Set in a union", AbstractSet[int] | str, {1}, frozenset([1])),
    ("a NamedTuple for a tuple", tuple[int, int], Pair(1, 2), (1, 2)),
    ("a set for a Set", AbstractSet[int], {1}, frozenset([1])),
    ("a frozenset for a Set", AbstractSet[int], frozenset([1]), frozenset([1])),
    ("a set for a Set of Any", AbstractSet[Any], {1}, frozenset([1])),
    ("an OrderedDict for a Mapping", Mapping[str, int], OrderedDict[str, int](a=1), {"a": 1}),
    ("an OrderedDict for a dict", dict[str, int], OrderedDict[str, int](a=1), {"a": 1}),
    (
        "a text that is stripped",
        Annotated[str, StringConstraints(strip_whitespace=True)],
        " a",
        "a",
    ),
    ("an int for a float beside Any", dict[str, Any] | list[float], [1], [1.0]),
    ("a list of a subclass", list[int], Numbers([1]), [1]),
    ("a Counter for a dict", dict[str, int], Counter[str]("aa"), {"a": 2}),
    ("a defaultdict for a dict", dict[str, float], defaultdict[str, float](float, a=1), {"a": 1.0}),
    (
        "an int in a defaultdict",
        defaultdict[str, float],
        defaultdict[str, float](float, a=1),
        defaultdict[str, float](float, a=1.0),
    ),
    (
        "an int in an OrderedDict",
        OrderedDict[str, float],
        OrderedDict[str, float](a=1),
        OrderedDict[str, float](a=1.0),
    ),
    ("a bool in a set", set[int], {True}, {1}),
    ("a bool in a deque", deque[int], deque[int]([True]), deque[int]([1])),
    ("a deque for a Sequence", Sequence[int], deque[int]([1]), [1]),
    ("a range for a Sequence", Sequence[int], range(2), [0, 1]),
    ("a UserList for a Sequence", Sequence[int], UserList[int]([1]), [1]),
    ("a UserDict for a Mapping", Mapping[str, int], UserDict[str, int](a=1), {"a": 1}),
    ("a read-only dict for a Mapping", Mapping[str, int], MappingProxyType({"a": 1}), {"a": 1}),
    ("keys for a Set", AbstractSet[str], {"a": 1}.keys(), frozenset(["a"])),
    ("a float of numpy for a float", float, np.float64(1.5), 1.5),
    ("a text of numpy for a str", str, np.str_("a"), "a"),
)


@pytest.mark.parametrize(
    ("annotation", "value", "arrived"),
    [one[1:] for one in WIDENED],
    ids=[one[0] for one in WIDENED],
)
def test_what_a_type_checker_takes_for_it_arrives_as_the_annotation_says(
    make: Maker, annotation: object, value: object, arrived: object
) -> None:
    delay(make.taking(annotation), value)

    assert make.received == [arrived]
    assert type(make.received[0]) is type(arrived)


@dataclasses.dataclass
class Sample:
    word: str = "x"
    count: int = 1
    ratio: float = 0.5
    items: Sequence[int] = ()
    marks: AbstractSet[int] = frozenset()
    names: Mapping[str, int] = dataclasses.field(default_factory=dict[str, int])


@dataclasses.dataclass
class SampleOfEither(Sample):
    either: int | str = 1


@pytest.mark.parametrize("kind", [Sample, SampleOfEither])
@pytest.mark.parametrize(
    ("given", "arriving"),
    [
        ({"word": Word.YES}, {"word": "yes"}),
        ({"count": True}, {"count": 1}),
        ({"count": Level.LOW}, {"count": 1}),
        ({"ratio": 2}, {"ratio": 2.0}),
        ({"items": (1, 2)}, {"items": [1, 2]}),
        ({"marks": {1}}, {"marks": frozenset([1])}),
        ({"names": OrderedDict[str, int](a=1)}, {"names": {"a": 1}}),
    ],
    ids=repr,
)
def test_a_part_that_a_type_checker_takes_for_it_arrives_as_the_field_says(
    make: Maker, kind: Callable[..., object], given: dict[str, Any], arriving: dict[str, Any]
) -> None:
    delay(make.taking(kind), kind(**given))

    # By text, which tells the types apart.
    assert repr(make.received) == repr([kind(**{"items": [], **arriving})])


def test_a_tuple_for_a_sequence_arrives_where_it_may_be_something_else(make: Maker) -> None:
    delay(make.taking(Sequence[int] | bytes), (1,))

    assert make.received == [[1]]


def test_an_int_for_a_float_arrives_beside_a_field_of_any(make: Maker) -> None:
    class Measured(BaseModel):
        anything: Any
        ratio: float = 1

    delay(make.taking(Measured), Measured(anything="x"))

    assert make.received == [Measured(anything="x", ratio=1.0)]


def test_a_generic_model_without_its_argument_arrives_with_it(make: Maker) -> None:
    delay(make.taking(Box[int]), Box(content=1))

    assert make.received == [Box[int](content=1)]


class Box(BaseModel, Generic[T]):
    content: T


def test_a_moment_keeps_its_offset_where_its_zone_has_a_name(make: Maker) -> None:
    summer = datetime(2024, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin"))

    delay(make.taking(datetime), summer)

    (arrived,) = cast("list[datetime]", make.received)
    assert arrived == summer
    assert arrived.utcoffset() == timedelta(hours=2)


def test_an_hour_that_a_zone_repeats_arrives_as_the_one_that_was_sent(make: Maker) -> None:
    second = datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin"))

    delay(make.taking(datetime), second)

    (arrived,) = cast("list[datetime]", make.received)
    assert arrived.astimezone(UTC) == second.astimezone(UTC)


EXACTLY: Final[tuple[tuple[str, object, object], ...]] = (
    ("a Fraction", Fraction, Fraction(1, 3)),
    ("a Flag", Rights, Rights.READ | Rights.WRITE),
    ("a Literal of a StrEnum's member", Literal[Word.YES], Word.YES),
    ("a Literal of an Enum's member", Literal[Colour.RED], Colour.RED),
    ("it in a list", list[Literal[Colour.RED, 5]], [Colour.RED, 5]),
    ("Any within a dict or None", dict[str, Any] | None, {"a": [1, "b", None]}),
    ("nothing", None, None),
    ("a moment in a union with a str", datetime | str, datetime(2024, 1, 1, tzinfo=UTC)),
    ("a str in a union with a moment", datetime | str, "2024-01-01"),
    ("a date in a union with a moment", date | datetime, date(2024, 1, 1)),
    ("midnight in a union with a date", date | datetime, datetime(2024, 1, 1, tzinfo=UTC)),
    ("a UUID in a union with a str", str | UUID, UUID(int=1)),
    ("bytes in a union with a str", str | bytes, b"text"),
    ("a bool in a union with an int", int | bool, True),
    ("a float in a union with an int", int | float, 1.0),
    ("a large int in a union with a float", int | float, 2**53 + 1),
    ("the subclass in a union with its base", Author | Novelist, Novelist(name="J", novels=2)),
)


@pytest.mark.parametrize(
    ("annotation", "value"), [one[1:] for one in EXACTLY], ids=[one[0] for one in EXACTLY]
)
def test_what_json_might_confuse_arrives_as_it_was(
    make: Maker, annotation: object, value: object
) -> None:
    delay(make.taking(annotation), value)

    assert make.received == [value]
    assert type(make.received[0]) is type(value)


def test_a_set_of_frozen_dataclasses_in_a_model_arrives(make: Maker) -> None:
    class Map(BaseModel):
        points: set[Point]

    Map.model_rebuild(_types_namespace={"Point": Point})
    delay(make.taking(Map), Map(points={Point(1, 2)}))

    assert make.received == [Map(points={Point(1, 2)})]


@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: int


def test_a_recursive_dataclass_with_a_field_that_init_does_not_take_arrives(make: Maker) -> None:
    delay(make.taking(Node), Node(1.5, Node(2.5)))

    assert make.received == [Node(1.5, Node(2.5))]


def test_a_root_model_of_such_a_set_arrives(make: Maker) -> None:
    root = cast("Callable[[object], object]", RootModel[set[Point]])

    delay(make.taking(root), root({Point(1, 2)}))

    assert make.received == [root({Point(1, 2)})]


def test_what_a_dataclass_of_pydantic_has_beside_its_fields_is_refused(make: Maker) -> None:
    open_place = cast("Callable[..., object]", OpenPlace)(lat=1.5, name="here")

    with pytest.raises(TaskArgumentsError, match="would arrive as"):
        delay(make.taking(OpenPlace), open_place)


@pydantic_dataclass(config=ConfigDict(extra="allow"))
class OpenPlace:
    lat: float


def test_a_model_arrives_whose_cached_property_was_read(make: Maker) -> None:
    class Squared(BaseModel):
        number: float

        @functools.cached_property
        def square(self) -> float:
            return self.number**2

    # Not a number equals nothing, so that the fields are compared one by one.
    squared = Squared(number=float("nan"))
    assert squared.square != 0

    delay(make.taking(Squared), squared)

    assert len(make.received) == 1


def test_a_root_model_arrives(make: Maker) -> None:
    root = cast("Callable[[object], object]", RootModel[dict[str, tuple[int, ...]]])

    delay(make.taking(root), root({"a": (1, 2)}))

    assert make.received == [root({"a": (1, 2)})]


def test_type_variables_take_what_their_bound_takes(make: Maker) -> None:
    with pytest.raises(TaskArgumentsError, match=r"'a' \(str\)"):
        delay(make.taking(N), "a")
