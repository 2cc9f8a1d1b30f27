"""What does not fit an annotation fails where the task is called, and the message helps."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import functools
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    Generic,
    Literal,
    NamedTuple,
    Never,
    NotRequired,
    ParamSpec,
    Protocol,
    TypeVar,
    cast,
)
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from annotated_types import Gt
from kombu.exceptions import EncodeError
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    RootModel,
    Secret,
    SecretBytes,
    SecretStr,
    Strict,
    StringConstraints,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypedDict, Unpack, override

from tomskit.celery import AsyncCelery, AsyncTask, BoundTask, TypedResult, async_shared_task
from tomskit.errors import ConfigurationError, TaskArgumentsError, TaskResultError, TomsKitError

if TYPE_CHECKING:
    from decimal import Decimal as HiddenDecimal

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
N = TypeVar("N", bound=int)

_numbers = count()


# -- tasks of an application


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1


class Word(enum.StrEnum):
    YES = "yes"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Author(BaseModel):
    name: str
    born: date | None = None


class Novelist(Author):
    novels: int = 1


class Book(BaseModel):
    title: str
    authors: list[Author] = []
    ratio: float = 0.5


@dataclasses.dataclass
class Place:
    lat: float
    tags: list[str] = dataclasses.field(default_factory=list[str])


@dataclasses.dataclass
class NamedPlace(Place):
    name: str = "here"


class Pair(NamedTuple):
    left: int
    right: int


class Span(TypedDict):
    start: date
    end: NotRequired[date]


class Customer:
    """Of no kind that pydantic knows."""


@async_shared_task(name="shop.order")
async def order(book: Book, copies: int, *, on: date | None = None) -> list[str]:
    return [book.title] * copies


class Way(Protocol):
    """A way of calling a task."""

    def __call__(
        self, task: AsyncTask[..., object], /, *args: object, **kwargs: object
    ) -> object: ...


def delay(task: AsyncTask[..., object], /, *args: object, **kwargs: object) -> object:
    return task.delay(*args, **kwargs)


def adelay(task: AsyncTask[..., object], /, *args: object, **kwargs: object) -> object:
    return asyncio.run(cast("Coroutine[object, Never, object]", task.adelay(*args, **kwargs)))


def apply_async(task: AsyncTask[..., object], /, *args: object, **kwargs: object) -> object:
    return task.apply_async(args, kwargs)


def apply(task: AsyncTask[..., object], /, *args: object, **kwargs: object) -> object:
    return task.apply(args, kwargs)


def s(task: AsyncTask[..., object], /, *args: object, **kwargs: object) -> object:
    return task.s(*args, **kwargs)


def si(task: AsyncTask[..., object], /, *args: object, **kwargs: object) -> object:
    return task.si(*args, **kwargs)


def options_delay(task: AsyncTask[..., object], /, *args: object, **kwargs: object) -> object:
    return task.options(countdown=1).delay(*args, **kwargs)


def options_si(task: AsyncTask[..., object], /, *args: object, **kwargs: object) -> object:
    return task.options(countdown=1).si(*args, **kwargs)


COMPLETE: Final[tuple[Way, ...]] = (
    delay,
    adelay,
    apply_async,
    apply,
    si,
    options_delay,
    options_si,
)
"""Ways to call a task that want all of its arguments."""

by_every_way = pytest.mark.parametrize("call", [*COMPLETE, s])
by_every_complete_way = pytest.mark.parametrize("call", COMPLETE)


@pytest.fixture
def published(app: AsyncCelery, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The arguments of all that was sent."""
    app.conf.task_always_eager = False
    sent: list[object] = []

    def send_task(_name: str, args: object, kwargs: object, **_: object) -> None:
        sent.append((args, kwargs))

    monkeypatch.setattr(app, "send_task", send_task)
    return sent


class Maker:
    """Makes tasks, and keeps what their functions got."""

    def __init__(self) -> None:
        self.received: list[object] = []

    def taking(self, annotation: object) -> AsyncTask[..., object]:
        received = self.received

        async def function(value: object) -> None:
            received.append(value)

        function.__annotations__ = {"value": annotation, "return": None}
        return async_shared_task(name=f"taking-{next(_numbers)}")(function)

    def returning(self, annotation: object, value: object) -> AsyncTask[..., object]:
        async def function() -> object:
            return value

        function.__annotations__ = {"return": annotation}
        return async_shared_task(name=f"returning-{next(_numbers)}")(function)


@pytest.fixture
def make(app: AsyncCelery) -> Maker:
    return Maker()


# Bugs that are known. Strict: who mends one takes its mark away.
refused_too_little = pytest.mark.xfail(
    strict=True, reason="one value that strict mode refuses lets others pass as their base"
)
refused_too_much = pytest.mark.xfail(
    strict=True, reason="a union in an annotation makes all that it holds exact"
)


# -- a call that does not fit


@by_every_way
def test_a_value_of_another_type_is_refused_before_anything_is_sent(
    published: list[object], call: Way
) -> None:
    with pytest.raises(TaskArgumentsError, match=r"shop\.order: copies is '5' \(str\), not int: "):
        call(order, Book(title="Emma"), "5")

    assert published == []


@by_every_way
def test_a_wrong_keyword_argument_is_refused(published: list[object], call: Way) -> None:
    expected = r"shop\.order: on is 'today' \(str\), not datetime\.date \| None: "
    with pytest.raises(TaskArgumentsError, match=expected):
        call(order, Book(title="Emma"), copies=1, on="today")

    assert published == []


def test_a_wrong_argument_of_a_partial_signature_is_refused(published: list[object]) -> None:
    partial = cast("Callable[..., object]", order.p)

    with pytest.raises(TaskArgumentsError, match=r"shop\.order: copies is '5' \(str\), not int: "):
        partial("5")


def test_the_argument_that_comes_later_is_refused_when_it_comes(published: list[object]) -> None:
    partial = order.p(2)

    with pytest.raises(TaskArgumentsError, match=r"shop\.order: book.*'Emma' \(str\)"):
        cast("Callable[[object], object]", partial.delay)("Emma")

    assert published == []


@by_every_way
def test_what_fits_is_accepted(published: list[object], call: Way) -> None:
    call(order, Book(title="Emma"), 2, on=date(2024, 1, 1))


def test_the_error_is_a_type_error_of_ours() -> None:
    assert issubclass(TaskArgumentsError, TypeError)
    assert issubclass(TaskArgumentsError, TomsKitError)
    assert issubclass(TaskResultError, TypeError)


@by_every_complete_way
def test_a_missing_argument_is_named_with_its_annotation(
    published: list[object], call: Way
) -> None:
    with pytest.raises(TaskArgumentsError, match=r"^shop\.order: copies: int is missing$"):
        call(order, Book(title="Emma"))

    assert published == []


@by_every_way
def test_an_argument_for_no_parameter_is_named(published: list[object], call: Way) -> None:
    with pytest.raises(TaskArgumentsError, match=r"unexpected keyword argument of: 3 \(int\)"):
        call(order, Book(title="Emma"), 2, of=3)

    assert published == []


@by_every_way
def test_one_argument_too_many_is_counted(published: list[object], call: Way) -> None:
    with pytest.raises(TaskArgumentsError, match=r"unexpected positional argument 3: 4 \(int\)"):
        call(order, Book(title="Emma"), 2, 4)

    assert published == []


@by_every_way
def test_an_argument_that_is_given_twice_is_named(published: list[object], call: Way) -> None:
    with pytest.raises(TaskArgumentsError, match="copies is given twice"):
        call(order, Book(title="Emma"), 2, copies=2)

    assert published == []


@by_every_way
def test_arguments_for_a_task_without_parameters_are_refused(
    published: list[object], call: Way
) -> None:
    with pytest.raises(TaskArgumentsError, match="unexpected positional argument 1: 1"):
        call(ping, 1)

    assert published == []


@async_shared_task
async def ping() -> str:
    return "pong"


def test_all_that_is_wrong_is_said_at_once(app: AsyncCelery) -> None:
    with pytest.raises(TaskArgumentsError) as caught:
        delay(order, Book(title="Emma"), "two", on=3, of=4)

    message = str(caught.value)
    assert "copies is 'two' (str), not int: " in message
    assert "on is 3 (int), not datetime.date | None: " in message
    assert "unexpected keyword argument of: 4 (int)" in message


def test_a_wrong_part_is_named_by_its_path(app: AsyncCelery) -> None:
    with pytest.raises(TaskArgumentsError, match=r"value\.1\.b\.0 is 'x' \(str\)"):
        delay(nesting, [{}, {"b": ["x"]}])


@async_shared_task
async def nesting(value: list[dict[str, list[int]]]) -> None: ...


def test_a_long_value_is_shortened(app: AsyncCelery) -> None:
    token = "sk-" + "0123456789" * 30

    with pytest.raises(TaskArgumentsError, match=r"'sk-0123.*\.\.\. \(str\), not int") as caught:
        delay(order, Book(title="Emma"), token)

    assert token[:120] not in str(caught.value)


def test_a_long_value_within_another_is_shortened(app: AsyncCelery) -> None:
    token = "sk-" + "0123456789" * 30

    with pytest.raises(TaskArgumentsError) as caught:
        delay(nesting, [{"b": [token]}])

    assert token[:120] not in str(caught.value)


def test_a_value_whose_repr_fails_is_named_all_the_same(make: Maker) -> None:
    class Shy:
        @override
        def __repr__(self) -> str:
            raise RuntimeError("no repr")

    with pytest.raises(TaskArgumentsError, match=r"value.*Shy"):
        delay(make.taking(int), Shy())


def test_an_integer_too_long_for_text_is_refused_where_a_text_belongs(make: Maker) -> None:
    with pytest.raises(TaskArgumentsError, match=r"value is .*int.*, not str"):
        delay(make.taking(str), 10**5000)


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


@refused_too_little
def test_an_item_that_only_nearly_fits_makes_no_exception_for_another(make: Maker) -> None:
    with pytest.raises(TaskArgumentsError):
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

    with pytest.raises(TaskArgumentsError, match="would arrive as"):
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


@pytest.mark.parametrize("kind", [Sample, pytest.param(SampleOfEither, marks=refused_too_much)])
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


@refused_too_much
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


@dataclasses.dataclass
class Node:
    weight: float
    next: Node | None = None
    seen: int = dataclasses.field(init=False, default=0)


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


# -- annotations that nothing can be sent for


class Account(BaseModel):
    user: str
    password: SecretStr


class Vault(TypedDict):
    key: SecretBytes


REFUSED: Final[tuple[tuple[str, object, str], ...]] = (
    ("SecretStr", SecretStr, "Send the secret's name"),
    ("SecretBytes", SecretBytes, "Send the secret's name"),
    ("Secret", Secret[int], "Send the secret's name"),
    ("SecretStr or None", SecretStr | None, "Send the secret's name"),
    ("SecretStr in a model", Account, "Send the secret's name"),
    ("SecretStr in a model in a dict", dict[str, list[Account]], "Send the secret's name"),
    ("SecretBytes in a TypedDict", Vault, "Send the secret's name"),
    ("SecretStr with a constraint", Annotated[SecretStr, Field(min_length=1)], "the secret's name"),
    ("Callable", Callable[[int], str], "send its name, or a task's signature"),
    ("Callable in a list", list[Callable[..., object]], "send its name"),
    ("Iterable", Iterable[int], "annotate it as a Sequence, a Set or a list"),
    ("Iterable in a dict", dict[str, Iterable[int]], "annotate it as a Sequence"),
    ("Generator", Generator[int, None, None], "annotate it as a Sequence"),
    ("a type", type[int], "send its name"),
    ("a type or None", type[Author] | None, "send its name"),
    ("a constraint that pydantic has not", Annotated[Sequence[int], Strict()], "Use a model"),
)

refused = pytest.mark.parametrize(
    ("annotation", "way_out"), [one[1:] for one in REFUSED], ids=[one[0] for one in REFUSED]
)


@refused
def test_an_annotation_that_cannot_be_sent_is_refused_at_the_first_call(
    make: Maker, annotation: object, way_out: str
) -> None:
    task = make.taking(annotation)

    with pytest.raises(ConfigurationError, match=rf"{task.name} cannot be used.*{way_out}"):
        delay(task, 1)


@refused
def test_an_annotation_that_cannot_be_read_is_refused_at_the_first_call(
    make: Maker, annotation: object, way_out: str
) -> None:
    task = make.returning(annotation, 1)

    with pytest.raises(ConfigurationError, match=rf"{task.name} cannot be used.*result.*{way_out}"):
        delay(task)


@by_every_way
def test_every_way_of_calling_refuses_it(published: list[object], call: Way) -> None:
    with pytest.raises(ConfigurationError, match=r"parameter password.*SecretStr"):
        call(log_in, "jane", SecretStr("opensesame"))

    assert published == []


@async_shared_task
async def log_in(user: str, password: SecretStr) -> None: ...


def test_the_refusal_does_not_tell_the_secret(app: AsyncCelery) -> None:
    with pytest.raises(ConfigurationError) as caught:
        delay(log_in, "jane", SecretStr("opensesame"))

    assert "opensesame" not in str(caught.value)


def test_it_is_refused_at_every_call(app: AsyncCelery) -> None:
    for _ in range(2):
        with pytest.raises(ConfigurationError):
            delay(log_in, "jane", SecretStr("opensesame"))


def test_a_secret_under_any_is_refused_and_not_told(make: Maker) -> None:
    with pytest.raises(TaskArgumentsError, match=r"would arrive as '\*+'") as caught:
        delay(make.taking(Any), SecretStr("opensesame"))

    assert "opensesame" not in str(caught.value)


def test_a_name_that_is_imported_for_type_checkers_only_is_refused(app: AsyncCelery) -> None:
    with pytest.raises(
        ConfigurationError, match=r"HiddenDecimal.*Import the name at run time"
    ):
        delay(pay, Decimal(1))


@async_shared_task
async def pay(amount: HiddenDecimal) -> None: ...


def test_such_a_name_in_the_annotation_of_the_result_is_refused_too(app: AsyncCelery) -> None:
    with pytest.raises(ConfigurationError, match=r"HiddenDecimal.*not only under TYPE_CHECKING"):
        delay(earn, 1)


@async_shared_task
async def earn(hours: int) -> HiddenDecimal:
    return Decimal(hours)


@pytest.mark.parametrize("annotation", ["dict[str, int", "not_defined.Here"])
def test_what_is_no_annotation_is_refused(make: Maker, annotation: str) -> None:
    task = make.taking(annotation)

    with pytest.raises(ConfigurationError, match=task.name):
        delay(task, 1)


def test_any_class_may_be_a_parameter_that_is_not_used(app: AsyncCelery) -> None:
    assert serve.delay().get() == 1


def test_a_call_with_an_object_that_cannot_be_sent_is_refused(app: AsyncCelery) -> None:
    with pytest.raises(TaskArgumentsError, match=r"customer is .*Customer.*cannot be sent"):
        delay(serve, Customer())


@async_shared_task
async def serve(customer: Customer | None = None) -> int:
    return 1


def test_any_class_as_a_result_is_refused(make: Maker) -> None:
    task = make.returning(Customer, Customer())

    with pytest.raises(ConfigurationError, match=r"its result.*Customer.*Use a model, a dataclass"):
        delay(task)


def test_a_result_that_is_ignored_may_be_of_any_class(app: AsyncCelery) -> None:
    delay(forget, 1)


@async_shared_task(ignore_result=True)
async def forget(number: int) -> Customer:
    return Customer()


# -- tasks that say less


async def _bare(*args: object, **kwargs: object) -> object:
    return [args, kwargs]


async def _partly(checked: int, free: object, *, also: date) -> object:
    return [checked, free, also.isoformat()]


# Taken away here, because type checkers want them.
_bare.__annotations__.clear()
del _partly.__annotations__["free"]
bare: AsyncTask[..., object] = async_shared_task(_bare)
partly: AsyncTask[..., object] = async_shared_task(_partly)


def test_without_annotations_values_arrive_as_with_plain_celery(app: AsyncCelery) -> None:
    result = bare.delay((1, (2,)), word=Word.YES, when=date(2024, 1, 1))

    assert result.get() == [([1, [2]],), {"word": "yes", "when": date(2024, 1, 1)}]


def test_without_annotations_pass_models_as_plain_celery_does_not(app: AsyncCelery) -> None:
    with pytest.raises((EncodeError, TaskArgumentsError)):
        delay(bare, Customer())


def test_a_parameter_without_annotation_is_left_alone_beside_others(app: AsyncCelery) -> None:
    assert partly.delay(1, (2,), also=date(2024, 1, 1)).get() == [1, [2], "2024-01-01"]


def test_the_other_parameters_are_checked_all_the_same(app: AsyncCelery) -> None:
    with pytest.raises(TaskArgumentsError, match=r"also is '2024-01-01' \(str\)") as caught:
        delay(partly, 1, (2,), also="2024-01-01")

    assert "free" not in str(caught.value)


def test_a_result_without_annotation_is_left_alone(make: Maker) -> None:
    async def unsaid(number: int) -> object:
        return {"number": number}

    del unsaid.__annotations__["return"]

    assert async_shared_task(unsaid).delay(1).get() == {"number": 1}


def test_with_typing_false_nothing_is_checked_where_it_is_called(published: list[object]) -> None:
    delay(unchecked, "5", on="2024-01-01")

    assert published == [(("5",), {"on": "2024-01-01"})]


def test_with_typing_false_values_become_what_the_annotations_say(app: AsyncCelery) -> None:
    call = cast("Callable[..., TypedResult[str]]", unchecked.delay)

    assert call("5", on="2024-01-01").get() == "5 on Monday"


def test_with_typing_false_what_does_not_fit_fails_in_the_task(app: AsyncCelery) -> None:
    call = cast("Callable[..., TypedResult[str]]", unchecked.delay)

    with pytest.raises(TaskArgumentsError, match=r"copies is 'five' \(str\), not int"):
        call("five", on="2024-01-01").get()


@async_shared_task(typing=False)
async def unchecked(copies: int, on: date) -> str:
    return f"{copies} on {on:%A}"


def test_with_pickle_objects_arrive_as_they_are(app: AsyncCelery) -> None:
    app.conf.accept_content = ["pickle"]

    assert keep.delay((1, Customer), Word.YES).get() == "(tuple, Word)"


@async_shared_task(serializer="pickle")
async def keep(pair: Any, word: object) -> str:
    return f"({type(pair).__name__}, {type(word).__name__})"


# -- functions


def test_self_is_no_parameter_of_a_bound_task(app: AsyncCelery) -> None:
    with pytest.raises(TaskArgumentsError) as caught:
        delay(bound, "5")

    assert "number is '5' (str), not int" in str(caught.value)
    assert "self" not in str(caught.value)


def test_a_bound_task_gets_what_was_sent(app: AsyncCelery) -> None:
    assert bound.delay(5).get() == 5


@async_shared_task(bind=True)
async def bound(self: BoundTask, number: int) -> int:
    return number


def logged(
    function: Callable[P, Coroutine[object, Never, R]],
) -> Callable[P, Coroutine[object, Never, R]]:
    @functools.wraps(function)
    async def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        return await function(*args, **kwargs)

    return inner


@async_shared_task
@logged
async def decorated(day: date) -> int:
    return day.year


def test_the_annotations_of_a_wrapped_function_count(app: AsyncCelery) -> None:
    with pytest.raises(TaskArgumentsError, match=r"day is '2024-01-01' \(str\)"):
        delay(decorated, "2024-01-01")


def test_a_wrapped_function_gets_what_its_annotations_say(app: AsyncCelery) -> None:
    assert decorated.delay(date(2024, 1, 1)).get() == 2024


def test_classes_of_the_enclosing_function_are_found(app: AsyncCelery) -> None:
    class Local(BaseModel):
        day: date

    @async_shared_task(name="with-a-local-class")
    async def task(local: Local) -> Local:
        return Local(day=local.day + timedelta(1))

    assert task.delay(Local(day=date(2024, 1, 1))).get() == Local(day=date(2024, 1, 2))


def test_the_types_of_keyword_arguments_may_come_from_a_typed_dict(app: AsyncCelery) -> None:
    with pytest.raises(TaskArgumentsError, match=r"start is '2024-01-01' \(str\)"):
        delay(between, start="2024-01-01")


@async_shared_task
async def between(**span: Unpack[Span]) -> list[date]:
    return [span["start"]]


def test_keyword_arguments_of_a_typed_dict_arrive(app: AsyncCelery) -> None:
    assert between.delay(start=date(2024, 1, 1)).get() == [date(2024, 1, 1)]


def test_each_of_many_arguments_is_checked(app: AsyncCelery) -> None:
    with pytest.raises(TaskArgumentsError) as caught:
        delay(add, 1, "2", a=1.5, b="3")

    assert "'2' (str)" in str(caught.value)
    assert "'3' (str)" in str(caught.value)


@async_shared_task
async def add(*numbers: int, **named: float) -> float:
    return sum(numbers) + sum(named.values())


def test_many_arguments_arrive(app: AsyncCelery) -> None:
    assert add.delay(1, 2, a=1, b=0.5).get() == 4.5


# -- structures within themselves


class Tree(BaseModel):
    value: int
    children: list[Tree] = []


def test_a_recursive_model_arrives(make: Maker) -> None:
    tree = Tree(value=1, children=[Tree(value=2, children=[Tree(value=3)])])

    delay(make.taking(Tree), tree)

    assert make.received == [tree]


def test_a_wrong_part_of_a_recursive_structure_is_named_by_its_path(make: Maker) -> None:
    node = Node(1.5, Node(cast("float", "heavy")))

    with pytest.raises(TaskArgumentsError, match=r"value\.next\.weight is 'heavy' \(str\)"):
        delay(make.taking(Node), node)


def model_in_itself() -> object:
    tree = Tree(value=1)
    tree.children.append(tree)
    return tree


def dataclass_in_itself() -> object:
    node = Node(1.5)
    node.next = node
    return node


def list_in_itself() -> object:
    items: list[object] = []
    items.append(items)
    return items


def deep_list() -> object:
    items: list[object] = []
    for _ in range(400):
        items = [items]
    return items


def very_deep_list() -> object:
    items: list[object] = []
    for _ in range(5_000):
        items = [items]
    return items


@pytest.mark.parametrize(
    ("annotation", "made"),
    [
        (Tree, model_in_itself),
        (Node, dataclass_in_itself),
        (list[Any], list_in_itself),
        (list, list_in_itself),
        (Any, list_in_itself),
        (Any, deep_list),
        (Any, very_deep_list),
    ],
)
def test_what_is_in_itself_or_too_deep_is_refused(
    make: Maker, annotation: object, made: Callable[[], object]
) -> None:
    task = make.taking(annotation)

    with pytest.raises(TaskArgumentsError, match=task.name):
        delay(task, made())


def test_a_result_within_itself_fails_the_task(make: Maker) -> None:
    result = make.returning(Tree, model_in_itself()).delay()

    assert isinstance(result.result, TaskResultError)


# -- results


LYING: Final[tuple[tuple[str, object, object, str], ...]] = (
    ("a str for an int", int, "5", r"its result is '5' \(str\), not int"),
    ("None for an int", int, None, r"its result is None \(NoneType\), not int"),
    ("a value for None", None, 5, r"its result is 5 \(int\), not None"),
    ("a tuple for a list", list[int], (1,), r"its result is \(1,\) \(tuple\), not list\[int\]"),
    ("a dict for a model", Author, {"name": "Jane"}, r"would arrive as Author\("),
    ("a subclass of a model", Author, Novelist(name="Jane"), r"would arrive as Author\("),
    ("a model under Any", Any, Author(name="Jane"), r"Any is Author\(.*would arrive as"),
    ("a wrong item", list[int], [1, "2"], r"its result\.1 is '2' \(str\), not list\[int\]"),
    ("no type of JSON", object, Customer(), r"Customer.*which cannot be sent"),
    ("an int that no float is", float, 2**53 + 1, r"9007199254740993 \(int\)"),
)


@pytest.mark.parametrize(
    ("annotation", "value", "message"), [one[1:] for one in LYING], ids=[one[0] for one in LYING]
)
def test_a_result_that_is_not_what_its_annotation_says_fails_the_task(
    make: Maker, annotation: object, value: object, message: str
) -> None:
    task = make.returning(annotation, value)

    with pytest.raises(TaskResultError, match=rf"{task.name}: .*{message}"):
        task.delay().get()


def test_a_long_result_is_shortened_in_the_message(make: Maker) -> None:
    token = "sk-" + "0123456789" * 30
    task = make.returning(int, token)

    with pytest.raises(TaskResultError) as caught:
        task.delay().get()

    assert token[:120] not in str(caught.value)


def test_the_function_itself_returns_what_it_likes(make: Maker) -> None:
    lying = make.returning(int, "5")

    assert asyncio.run(lying.func()) == "5"


@pytest.mark.parametrize(
    ("annotation", "stored"),
    [
        (int, "five"),
        (int, None),
        (Author, {"title": "Emma"}),
        (list[date], ["yesterday"]),
        (None, 5),
    ],
)
def test_a_result_of_another_annotation_is_an_error_where_it_is_read(
    app: AsyncCelery, make: Maker, annotation: object, stored: object
) -> None:
    # The memory of this backend is one for all apps.
    app.conf.task_always_eager, task_id = False, str(uuid4())
    task = make.returning(annotation, None)
    app.backend.store_result(task_id, stored, "SUCCESS")

    with pytest.raises(TaskResultError, match=rf"{task.name}: its result"):
        task.AsyncResult(task_id).get()


def test_a_result_of_a_plain_client_is_converted_where_it_is_read(
    app: AsyncCelery, make: Maker
) -> None:
    # The memory of this backend is one for all apps.
    app.conf.task_always_eager, task_id = False, str(uuid4())
    task = make.returning(dict[str, date], {})
    app.backend.store_result(task_id, {"day": "2024-01-01"}, "SUCCESS")

    assert task.AsyncResult(task_id).get() == {"day": date(2024, 1, 1)}


def test_such_a_result_has_failed_for_who_does_not_raise(app: AsyncCelery, make: Maker) -> None:
    # The memory of this backend is one for all apps.
    app.conf.task_always_eager, task_id = False, str(uuid4())
    task = make.returning(int, None)
    app.backend.store_result(task_id, "five", "SUCCESS")
    result = task.AsyncResult(task_id)

    assert isinstance(result.get(propagate=False), TaskResultError)
    assert result.state == "FAILURE"


# -- retries


def test_arguments_that_do_not_fit_are_not_tried_again(app: AsyncCelery) -> None:
    call = cast("Callable[..., TypedResult[int]]", stubborn.delay)

    with pytest.raises(TaskArgumentsError):
        call("five").get()

    assert tries == []


def test_a_result_that_does_not_fit_is_not_made_again(app: AsyncCelery) -> None:
    with pytest.raises(TaskResultError):
        stubborn.delay(5).get()

    assert tries == [5]


def test_other_errors_are_tried_again(app: AsyncCelery) -> None:
    with pytest.raises(ZeroDivisionError):
        stubborn.delay(0).get()

    assert tries == [0, 0, 0]


tries: list[int] = []


@pytest.fixture(autouse=True)
def _no_tries() -> None:
    tries.clear()


@async_shared_task(
    typing=False,
    autoretry_for=(Exception,),
    max_retries=2,
    default_retry_delay=0,
)
async def stubborn(number: int) -> int:
    tries.append(number)
    return cast("int", str(1 / number))


# -- messages from elsewhere


class TestFromElsewhere:
    """A plain client sends JSON; the task in the registry is what a worker calls."""

    @pytest.fixture
    def registered(self, app: AsyncCelery) -> AsyncTask[..., object]:
        return cast("AsyncTask[..., object]", app.tasks["shop.order"])

    def test_it_becomes_what_the_annotations_say(self, registered: AsyncTask[..., object]) -> None:
        body = {"title": "Emma", "authors": [{"name": "Jane", "born": "1775-12-16"}]}

        assert registered.apply((body, "2"), {"on": "2024-01-01"}).get() == ["Emma", "Emma"]

    def test_what_does_not_fit_is_refused(self, registered: AsyncTask[..., object]) -> None:
        with pytest.raises(TaskArgumentsError, match=r"book\.title.*missing|book\.title.*required"):
            registered.apply(({}, 2)).get()


# -- documented limits


def test_unset_fields_of_a_model_count_as_set_when_they_arrive(make: Maker) -> None:
    delay(make.taking(Author), Author(name="Jane"))

    (arrived,) = cast("list[Author]", make.received)
    assert arrived == Author(name="Jane")


def test_a_root_model_arrives(make: Maker) -> None:
    root = cast("Callable[[object], object]", RootModel[dict[str, tuple[int, ...]]])

    delay(make.taking(root), root({"a": (1, 2)}))

    assert make.received == [root({"a": (1, 2)})]


def test_iterators_are_refused_as_parameters(make: Maker) -> None:
    task = make.taking(Iterator[int])

    with pytest.raises((ConfigurationError, TaskArgumentsError), match=task.name):
        delay(task, iter([1]))


def test_type_variables_take_what_their_bound_takes(make: Maker) -> None:
    with pytest.raises(TaskArgumentsError, match=r"'a' \(str\)"):
        delay(make.taking(N), "a")
