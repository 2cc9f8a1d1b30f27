"""The "orjson" serializer, as Celery meets it: through kombu."""

import dataclasses
import enum
import json
import math
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Iterator, Mapping
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
from kombu import serialization
from kombu.exceptions import DecodeError, EncodeError
from kombu.utils import json as kombu_json
from pydantic import BaseModel, Field, RootModel
from typing_extensions import override

from tests.strategies import KEYS, SCALARS, TAGGED, TEXT, VALUES, nested
from tomskit.celery.serializers import (
    OrjsonSerializer,
    register_orjson_serializer,
    register_serializer,
)

LARGEST = 2**64 - 1
SMALLEST = -(2**63)
NAIVE = datetime(2026, 1, 2, 3, 4, 5, 6)  # noqa: DTZ001 (naive ones travel as well)


@pytest.fixture(scope="module", autouse=True)
def _registered() -> None:
    assert register_orjson_serializer()


def dumps(value: object) -> str | bytes:
    content_type, encoding, payload = serialization.dumps(value, "orjson")
    assert (content_type, encoding) == ("application/json", "utf-8")
    return payload


def loads(data: str | bytes | bytearray | memoryview) -> object:
    # The stubs know str and bytes only; transports hand out buffers as well.
    return cast(
        "object", serialization.loads(cast("bytes", data), "application/json", "utf-8", force=True)
    )


def round_trip(value: object) -> object:
    return loads(dumps(value))


def read_by_kombu(data: str | bytes) -> object:
    return cast("object", kombu_json.loads(data))


def written_by_kombu(value: object) -> bytes:
    return kombu_json.dumps(value).encode()


def same(one: object, other: object) -> bool:
    """Equal in value and in type, everywhere inside; a tuple counts as a list."""
    if isinstance(one, (list, tuple)):
        items = cast("list[object]", one)
        others = cast("list[object]", other)
        return type(other) is list and len(items) == len(others) and all(map(same, items, others))
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        pairs = cast("dict[object, object]", one)
        other_pairs = cast("dict[object, object]", other)
        return len(pairs) == len(other_pairs) and all(
            same(*keys) and same(pairs[keys[0]], other_pairs[keys[1]])
            for keys in zip(pairs, other_pairs, strict=True)
        )
    if isinstance(one, (float, Decimal)):
        # By text, which tells the zeros apart and makes NaN itself.
        return repr(one) == repr(other)
    if isinstance(one, datetime):
        assert isinstance(other, datetime)
        return (one, one.utcoffset()) == (other, other.utcoffset())
    return one == other


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


class Text(str):
    __slots__ = ()


class Number(int):
    pass


class Ratio(float):
    pass


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


# The same JSON as kombu's


@given(VALUES)
@example([1, -0.0, 1e400, {"a": (math.nan, b"\xff")}])
def test_kombu_reads_what_we_write_as_we_do(value: object) -> None:
    try:
        data = dumps(value)
    except EncodeError:
        return
    json.loads(data, parse_constant=pytest.fail)
    assert same(loads(data), read_by_kombu(data))


@given(nested(SCALARS, st.one_of(TEXT, st.integers(), st.floats(), st.none())))
@example([math.nan, -math.inf, 2**64, -(2**63) - 1, "\ud800"])
@example(["\ud83d\ude00", 1e16, 5e-324, 1.7976931348623157e308])
def test_we_read_what_kombu_writes_as_kombu_does(value: object) -> None:
    try:
        data = written_by_kombu(value)
        expected = read_by_kombu(data)
    except (ValueError, TypeError, KeyError, AttributeError):
        return  # The value looks like a mark.
    assert same(expected, loads(data))
    assert same(expected, loads(data.decode()))


@given(TAGGED)
def test_marks_in_any_order_and_with_white_space_are_read(value: object) -> None:
    mark = cast("dict[str, object] | float", json.loads(kombu_json.dumps(value)))
    if isinstance(mark, dict):
        text = json.dumps({"__value__": mark["__value__"], "__type__": mark["__type__"]}, indent=1)
        assert same(read_by_kombu(text), loads(text))


@pytest.mark.parametrize(
    "text",
    [
        '{"__type__": "uuid", "__value__": {"hex": "{12345678-1234-5678-1234-567812345678}"}}',
        '{"__type__": "uuid", "__value__": {"hex": "0x345678123456781234567812345678"}}',
        '{"__type__": "uuid", "__value__": {"int": 5}}',
        '{"__type__": "uuid", "__value__": {"hex": "12345678123456781234567812345678", "version": 4}}',
        '{"__type__": "date", "__value__": "2026-01-02T03:04:05"}',
        '{"__type__": "decimal", "__value__": 5}',
        '{"__type__": "base64", "__value__": "/w=="}',
        '{"__type__": "float", "__value__": "nan"}',
        '{"a": 1, "a": 2}',
        "1e400",
        "-0",
        '"\\ud800"',
        '"\\ud83d\\ude00"',
        "[" * 300 + "]" * 300,
        '[{"__type__": "bytes", "__value__": "x"}, ' * 300 + "1" + "]" * 300,
    ],
)
def test_unusual_json_is_read_as_kombu_reads_it(text: str) -> None:
    assert same(read_by_kombu(text), loads(text))
    assert same(read_by_kombu(text), loads(text.encode()))


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b" ",
        b"\t",
        b"[1]]",
        b'"\xed\xa0\x80"',
        b"\xff",
        "\ufeff1",
        "\ud800",
        b'{"__type__": "nobody", "__value__": 1}',
        b'{"__type__": "uuid", "__value__": 1}',
        b'{"__type__": "uuid", "__value__": {"hex": 1}}',
        b'{"__type__": "datetime", "__value__": "yesterday"}',
        b'{"__type__": "datetime", "__value__": {"a": 1}}',
        b'{"__type__": [], "__value__": 1}',
    ],
    ids=repr,
)
def test_what_kombu_cannot_read_is_a_decode_error(data: str | bytes) -> None:
    with pytest.raises((ValueError, TypeError, AttributeError)):
        read_by_kombu(data)
    with pytest.raises(DecodeError):
        loads(data)


@pytest.mark.parametrize("data", [b"", "", b" \t", b"\t "])
def test_nothing_is_no_json(data: str | bytes) -> None:
    with pytest.raises(ValueError, match="Expecting value"):
        OrjsonSerializer().loads(data)


@pytest.mark.parametrize("value", [[1, "a"], [UUID(int=1)], [2**64]])
def test_buffers_and_text_are_read_as_bytes_are(value: object) -> None:
    data = dumps(value)
    assert isinstance(data, bytes)
    for form in (bytearray(data), memoryview(data), data.decode()):
        assert same(value, loads(form))


def test_the_class_needs_no_registration() -> None:
    serializer = OrjsonSerializer()
    assert serializer.loads(serializer.dumps([1, math.inf, 2**64])) == [1, math.inf, 2**64]


# Registration


def test_a_serializer_of_ones_own_is_registered_by_shape() -> None:
    class Reversed:
        name = "test-reversed"
        content_type = "application/x-test-reversed"
        content_encoding = "utf-8"

        def dumps(self, obj: object) -> str:
            return json.dumps(obj)[::-1]

        def loads(self, data: str | bytes) -> object:
            return cast("object", json.loads(data[::-1]))

    register_serializer(Reversed())
    try:
        content_type, encoding, payload = serialization.dumps([1, 23], "test-reversed")
        loaded: object = serialization.loads(
            cast("bytes", memoryview(payload.encode())),
            content_type,
            encoding,
            force=True,
        )
    finally:
        serialization.unregister("test-reversed")

    assert payload == "]32 ,1["
    assert loaded == [1, 23]


class TestWithoutOrjson:
    @pytest.fixture(autouse=True)
    def _without_orjson(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        with monkeypatch.context() as patch:
            patch.setitem(cast("Mapping[str, object]", sys.modules), "orjson", None)
            yield
        register_orjson_serializer()

    def test_one_warning_says_so(self) -> None:
        with pytest.warns(RuntimeWarning, match="pip install orjson") as caught:
            assert not register_orjson_serializer()
        assert len(caught) == 1
        assert caught[0].filename == __file__

    @pytest.mark.filterwarnings("ignore:orjson cannot be imported")
    def test_orjson_is_another_name_for_json(self) -> None:
        with_orjson = b'\t [{"__type__":"float","__value__":"inf"},1]'
        register_orjson_serializer()
        value = [NAIVE, {"id": UUID(int=1)}]

        assert dumps(value) == kombu_json.dumps(value)
        assert round_trip(value) == value
        assert loads(with_orjson) == [math.inf, 1]

    def test_the_class_itself_says_what_is_missing(self) -> None:
        with pytest.raises(ImportError, match="orjson"):
            OrjsonSerializer()


def test_the_module_imports_where_orjson_is_missing() -> None:
    program = "import sys; sys.modules['orjson'] = None; import tomskit.celery.serializers"
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)
