"""What comes back from the "orjson" serializer: values as they were, or what stands for them."""

import dataclasses
import enum
import math
from collections import OrderedDict
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from itertools import pairwise
from typing import NamedTuple, cast
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from celery import Celery, chain, chord, group, signature
from hypothesis import example, given
from hypothesis import strategies as st
from kombu.exceptions import EncodeError
from kombu.utils import json as kombu_json
from pydantic import BaseModel, Field, RootModel
from typing_extensions import override

from tests.support.json_strategies import KEYS, SCALARS, VALUES, nested
from tests.support.serializing import dumps, loads, read_by_kombu, round_trip
from tests.support.serializing import same_but_tuples as same
from tests.support.values import Number, Ratio, Text

LARGEST = 2**64 - 1
SMALLEST = -(2**63)
NAIVE = datetime(2026, 1, 2, 3, 4, 5, 6)  # noqa: DTZ001 (naive ones travel as well)


# What comes back


@given(VALUES)
@example([math.nan, math.inf, -math.inf, -0.0])
@example({"__type__": 1, "__value__": 2, "third": [UUID(int=1)]})
@example([[[b"\xff", b"text", b""]], "\ud800", 2**64])
@example(("__type__", '"__type__"', {"__type__": "datetime"}))
def test_values_come_back_equal_and_of_the_same_type_or_are_refused(value: object) -> None:
    try:
        data = dumps(value)
    except EncodeError:
        assert has_surrogate_pair(value) or has_mark(value)
        return
    assert same(value, loads(data))


def has_surrogate_pair(value: object) -> bool:
    if isinstance(value, str):
        return any(
            "\ud800" <= one <= "\udbff" and "\udc00" <= two <= "\udfff"
            for one, two in pairwise(value)
        )
    return any(map(has_surrogate_pair, inside(value)))


def has_mark(value: object) -> bool:
    if isinstance(value, dict):
        keys = cast("dict[object, object]", value).keys()
        return keys == {"__type__", "__value__"} or any(
            map(has_mark, inside(cast("object", value)))
        )
    return any(map(has_mark, inside(value)))


def inside(value: object) -> Iterator[object]:
    if isinstance(value, (list, tuple)):
        yield from cast("list[object]", value)
    if isinstance(value, dict):
        for pair in cast("dict[object, object]", value).items():
            yield from pair


@given(SCALARS)
def test_a_lone_scalar_is_a_message_too(value: object) -> None:
    if not has_surrogate_pair(value):
        assert same(value, round_trip(value))


@pytest.mark.parametrize(
    "value",
    [
        NAIVE,
        datetime(2026, 1, 2, tzinfo=UTC),
        datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=5, minutes=30))),
        datetime(2026, 7, 2, tzinfo=ZoneInfo("Europe/Berlin")),
        date(2026, 1, 2),
        time(1, 2, 3, 4),
        Decimal("1.10"),
        Decimal("NaN"),
        UUID("12345678123456781234567812345678"),
        b"text",
        b"\xff\x00",
        LARGEST,
        SMALLEST,
        LARGEST + 1,
        SMALLEST - 1,
        10**1000,
        "lone \ud800 and \udc00",
        "\U0001f600 \u2028 \x00",
    ],
    ids=repr,
)
def test_each_type_that_kombu_marks_keeps_its_type_alone_and_nested(value: object) -> None:
    assert same([value, {"key": value}], round_trip((value, {"key": value})))


def test_types_registered_with_kombu_keep_their_type_before_all_else() -> None:
    @dataclasses.dataclass
    class Span:
        start: date
        end: date

    kombu_json.register_type(
        Span, "test-span", lambda span: [span.start, span.end], lambda pair: Span(*pair)
    )
    spans = {"spans": [Span(date(2026, 1, 2), date(2026, 1, 3))]}

    assert round_trip(spans) == spans
    assert read_by_kombu(dumps(spans)) == spans


def test_a_registered_mark_may_hold_a_dict_of_one_item() -> None:
    class Wrapped:
        def __init__(self, inner: object) -> None:
            self.inner = inner

    kombu_json.register_type(
        Wrapped, "test-wrapped", lambda it: {"hex": it.inner}, lambda it: Wrapped(it["hex"])
    )
    restored = round_trip(Wrapped([UUID(int=1)]))

    assert isinstance(restored, Wrapped)
    assert restored.inner == [UUID(int=1)]


def test_objects_with_a_json_method_are_what_it_returns() -> None:
    class Money:
        def __init__(self, form: object) -> None:
            self.form = form

        def __json__(self) -> object:
            return self.form

    forms = [{"amount": Decimal("1.10")}, [Decimal("1.10")], "1.10"]
    assert round_trip([Money(form) for form in forms]) == forms


# What becomes a simpler type


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Word(enum.StrEnum):
    YES = "yes"


class Moment(enum.Enum):
    START = NAIVE


class Pair(NamedTuple):
    left: int
    right: UUID


@dataclasses.dataclass(frozen=True, slots=True)
class Inner:
    when: datetime
    ratio: float


@dataclasses.dataclass
class Outer:
    inner: Inner
    colour: Colour


class Item(BaseModel):
    sku: str = Field(alias="SKU")
    price: Decimal
    ratio: float = math.nan


NESTED: OrderedDict[str, object] = OrderedDict(a=OrderedDict[str, object](b=time(1)))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ((1, (2,)), [1, [2]]),
        (Pair(1, UUID(int=2)), [1, UUID(int=2)]),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (Word.YES, "yes"),
        (Moment.START, NAIVE),
        ({Word.YES: 1}, {"yes": 1}),
        (Text("text"), "text"),
        (Number(2**80), 2**80),
        (Ratio(math.inf), math.inf),
        (NESTED, {"a": {"b": time(1)}}),
        (
            Outer(Inner(NAIVE, 0.5), Colour.RED),
            {"inner": {"when": NAIVE, "ratio": 0.5}, "colour": "red"},
        ),
        (
            Item(SKU="a", price=Decimal("1.10"), ratio=1),
            {"SKU": "a", "price": "1.10", "ratio": 1.0},
        ),
        (RootModel[list[int]]([1, 2]), [1, 2]),
    ],
    ids=repr,
)
def test_what_json_lacks_becomes_what_it_stands_for(value: object, expected: object) -> None:
    assert same(expected, round_trip(value))
    assert same([expected, expected], round_trip((value, value)))
    assert same({"key": expected}, read_by_kombu(dumps({"key": value})))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.array([1.5, math.inf]), [1.5, math.inf]),
        (np.array([b"\xff", None], dtype=object), [b"\xff", None]),
        (np.array([NAIVE], dtype="datetime64[us]"), [NAIVE]),
        (np.int64(-1), -1),
        (np.uint64(LARGEST), LARGEST),
        (np.float32(0.5), 0.5),
        (np.float64(-math.inf), -math.inf),
        (np.bool_(True), True),
        (np.str_("text"), "text"),
        (np.datetime64("2026-01-02"), date(2026, 1, 2)),
    ],
    ids=repr,
)
def test_numpy_arrays_become_lists_and_its_scalars_python_ones(
    value: object, expected: object
) -> None:
    assert same({"key": expected}, round_trip({"key": value}))


@pytest.mark.parametrize(
    "value", [np.float64(math.nan), np.array([math.nan]), Item(SKU="a", price=Decimal(1))]
)
def test_nan_inside_other_types_stays_nan(value: object) -> None:
    assert "nan" in repr(round_trip(value))


def test_celery_signatures_pass_as_the_dicts_they_are() -> None:
    app = Celery("signatures", set_as_current=False)
    when = datetime(2026, 1, 2, tzinfo=UTC)
    step = signature("step", args=(1, when), kwargs={"id": UUID(int=1)}, app=app)
    plain = signature("plain", args=(1,), app=app)
    embed = {
        "callbacks": [step, plain],
        "errbacks": [plain],
        "chain": [chain(step, plain, app=app)],
        "chord": chord([step, group([plain, step], app=app)], plain, app=app),
    }
    bodies: list[object] = [((1,), {}, embed), ([], {}, {"callbacks": [plain], "chord": None})]
    for body in bodies:
        assert round_trip(body) == read_by_kombu(kombu_json.dumps(body))
        assert read_by_kombu(dumps(body)) == round_trip(body)


# What never changes silently


@given(nested(SCALARS, KEYS))
@example({1: "a"})
@example({"a": {None: 1.5}})
@example({"__type__": "uuid", "__value__": {"hex": "0" * 32}})
def test_dicts_with_any_keys_come_back_exactly_or_are_refused(value: object) -> None:
    try:
        data = dumps(value)
    except EncodeError:
        return
    assert same(value, loads(data))
    assert same(value, read_by_kombu(data))


class Twin(str):
    """Text that a dict takes for another key than the same text as str."""

    __slots__ = ()

    @override
    def __hash__(self) -> int:
        return 7


@pytest.mark.parametrize(
    "value",
    [
        {1: "int"},
        {1.5: "float"},
        {True: "bool"},
        {None: "None"},
        {(1, 2): "tuple"},
        {b"bytes": 1},
        {date(2026, 1, 2): 1},
        {Colour.RED: 1},
        {"a": 1, Twin("a"): 2},
        {"__type__": "datetime", "__value__": "2026-01-02"},
        {"__value__": None, "__type__": None},
        {Twin("__type__"): "float", Twin("__value__"): "1"},
        {1, 2},
        1j,
        object(),
        Inner,
        "\ud83d\ude00",
        {"\ud83d\ude00": 2**64},
        np.datetime64("NaT", "us"),
        np.array(["2026-01-02T03:04:05.123456789"], dtype="datetime64[ns]"),
        math.isnan,
        ...,
    ],
)
def test_what_json_would_change_silently_is_an_encode_error(value: object) -> None:
    for nested_value in (value, [value], {"a": [{"b": value}, UUID(int=1)]}):
        with pytest.raises(EncodeError):
            dumps(nested_value)


def test_the_error_names_the_key_and_the_way_out() -> None:
    with pytest.raises(EncodeError, match=r"key 1, .* Use str keys"):
        dumps({"outer": {1: 2}})


def test_a_loop_is_an_encode_error() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(EncodeError):
        dumps(loop)


@given(st.floats(), st.integers())
def test_no_float_hides_behind_other_values(number: float, other: int) -> None:
    value = [other, str(other), number, -1, {"g": number, "\xe7": [number]}]
    assert same(value, round_trip(value))
