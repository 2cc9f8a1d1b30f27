"""What the codec lets pass arrives: equal and of the same type, through every JSON serializer."""

from __future__ import annotations

import dataclasses
import enum
import functools
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import PurePath
from typing import Annotated, Any, Final, NamedTuple, cast
from uuid import UUID

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from tests.support.annotations import (
    SAFE_TEXT,
    Colour,
    Kind,
    Level,
    Line,
    Pair,
    Place,
    Tree,
    Word,
    kinds,
)
from tests.support.calls import Call, calls
from tests.support.examples import examples
from tests.support.json_strategies import INTEGERS, nested
from tests.support.sameness import are, is_a, is_composite, matched, parts_of, same
from tests.support.serializing import SERIALIZERS, travelled
from tests.support.values import Number, Ratio, Text
from tomskit.celery._values.codec import Codec
from tomskit.errors import TaskArgumentsError, TaskResultError

few = settings(max_examples=examples(80))


def codec_of(annotation: object) -> Codec:
    """Of a task that takes and returns `annotation`."""

    async def function(value: object) -> object:
        return value

    function.__annotations__ = {"value": annotation, "return": annotation}
    return Codec(function, name="echo", bind=False)


def sent(codec: Codec, value: object, serializer: str) -> object:
    """What arrives for `value`.

    Raises:
        TaskArgumentsError: Nothing, it is refused.
    """
    args, kwargs = cast(
        "tuple[list[object], dict[str, object]]",
        travelled(codec.check((value,), {}), serializer),
    )
    (arrived,) = codec.load(tuple(args), kwargs)[0]
    return arrived


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True),
        (1, 1.0),
        (0.0, -0.0),
        (Word.YES, "yes"),
        ([1], (1,)),
        ({1}, {True}),
        ({1: "a"}, {True: "a"}),
        (Pair(1), (1, None)),
        (Place(1.0, 2.0), Place(1, 2.0)),
        (Tree(value=1), Tree.model_construct(value=True)),
        ([[datetime(2024, 1, 1)]], [[datetime(2024, 1, 1).astimezone()]]),  # noqa: DTZ001
        (deque([1]), deque([1], 5)),
    ],
    ids=repr,
)
def test_the_comparison_of_these_tests_tells_apart_what_is_merely_equal(
    one: object, other: object
) -> None:
    assert same(one, one)
    assert same(other, other)
    assert not same(one, other)


# What fits its annotation


@given(kinds().flatmap(lambda kind: st.tuples(st.just(kind), kind.values)))
@settings(max_examples=examples(400))
def test_a_value_arrives_equal_and_of_the_same_type(case: tuple[Kind, object]) -> None:
    kind, value = case
    codec = codec_of(kind.annotation)

    for serializer in SERIALIZERS:
        assert same(value, sent(codec, value, serializer))


@given(kinds().flatmap(lambda kind: st.tuples(st.just(kind), kind.values)))
@settings(max_examples=examples(200))
def test_a_result_arrives_equal_and_of_the_same_type(case: tuple[Kind, object]) -> None:
    kind, value = case
    codec = codec_of(kind.annotation)

    for serializer in SERIALIZERS:
        arrived = codec.load_result(travelled(codec.dump_result(value), serializer))
        assert same(value, arrived)


@given(calls())
@settings(max_examples=examples(200))
def test_every_argument_of_a_call_arrives(call: Call) -> None:
    codec = Codec(call.function, name="call", bind=call.bind)
    given_arguments = bound(call, call.args, call.kwargs)

    for serializer in SERIALIZERS:
        wire = travelled(codec.check(call.args, call.kwargs), serializer)
        args, kwargs = cast("tuple[list[object], dict[str, object]]", wire)
        arrived = codec.load(tuple(args), kwargs)
        assert same(given_arguments, bound(call, *arrived))


def bound(call: Call, args: tuple[object, ...], kwargs: dict[str, object]) -> dict[str, object]:
    """The parameters with what they get, defaults included."""
    arguments = call.signature.bind(*args, **kwargs)
    arguments.apply_defaults()
    return dict(arguments.arguments)


# The wire form


@given(calls())
@few
def test_what_is_in_wire_form_already_is_taken_as_it_is(call: Call) -> None:
    codec = Codec(call.function, name="call", bind=call.bind)
    wire = codec.check(call.args, call.kwargs)

    assert same(wire, codec.encode(*wire))


@given(calls())
@few
def test_lenient_encoding_gives_the_wire_form_that_the_strict_check_gives(call: Call) -> None:
    codec = Codec(call.function, name="call", bind=call.bind)

    assert same(codec.check(call.args, call.kwargs), codec.encode(call.args, call.kwargs))


# What does not fit its annotation, or nearly fits


@st.composite
def misfits(draw: st.DrawFn) -> tuple[object, object]:
    """An annotation, and a value that was made for another or that looks like one of its own."""
    annotation = draw(kinds()).annotation
    value = draw(draw(kinds()).values)
    return annotation, draw(twisted(value))


@st.composite
def near_misfits(draw: st.DrawFn) -> tuple[object, object]:
    """An annotation, and a value of it with something in it replaced by what resembles it."""
    kind = draw(kinds())
    return kind.annotation, draw(twisted(draw(kind.values)))


@given(misfits() | near_misfits())
@settings(max_examples=examples(400))
def test_what_does_not_fit_is_refused_or_arrives_equal(case: tuple[object, object]) -> None:
    annotation, value = case
    codec = codec_of(annotation)

    for serializer in SERIALIZERS:
        try:
            arrived = sent(codec, value, serializer)
        except TaskArgumentsError:
            continue
        assert alike(value, arrived)


def kind_of(value: object) -> object:
    """The class of a value, of a generic model without its arguments."""
    generic = getattr(value, "__pydantic_generic_metadata__", {"origin": None})["origin"]
    return generic or type(value)


def alike(one: object, other: object) -> bool:
    """Equal, as a tuple or deque for a Sequence is to the list that arrives."""
    if are(Mapping, one, other):
        one, other = (dict(cast("Mapping[object, object]", each)) for each in (one, other))
    elif is_a((list, tuple, deque), one) and isinstance(other, list):
        one, other = list(cast("Sequence[object]", one)), cast("list[object]", other)
    if one == other:
        return True
    is_composed = is_composite(one) and kind_of(one) is kind_of(other)
    if not are((list, tuple), one, other) and not is_composed:
        return same(one, other)
    parts, others = parts_of(one), parts_of(other)
    if is_a((dict, set, frozenset), one):
        return matched(parts, others, alike)
    return len(parts) == len(others) and all(map(alike, parts, others))


@st.composite
def twisted(draw: st.DrawFn, value: object) -> object:
    """`value` with something in it replaced by what resembles it."""
    places = [*places_of(value)]
    is_inside: bool = draw(st.booleans())
    if places and is_inside:
        part, put = places[draw(st.integers(0, len(places) - 1))]
        return put(draw(twisted(part)))
    others = [*resembling(value)] or [value]
    return others[draw(st.integers(0, len(others) - 1))]


def places_of(value: object) -> Iterator[tuple[object, Callable[[object], object]]]:
    """Each part of a value, and what puts another in its place."""
    if type(value) in {list, tuple}:
        for index, item in enumerate(parts_of(value)):
            yield item, functools.partial(with_item, value, index)
    elif isinstance(value, dict):
        pairs = cast("dict[object, object]", value)
        for key, item in pairs.items():
            yield item, functools.partial(with_pair, pairs, key)
    else:
        for name in names_in(value):
            yield getattr(value, name), functools.partial(with_field, value, name)


def names_in(value: object) -> list[str]:
    if isinstance(value, BaseModel):
        return [name for name, _ in value]
    if dataclasses.is_dataclass(value):
        return [field.name for field in dataclasses.fields(value) if field.init]
    return []


def with_item(items: object, index: int, new: object) -> object:
    changed = parts_of(items)
    changed[index] = new
    return changed if isinstance(items, list) else tuple(changed)


def with_pair(pairs: dict[object, object], key: object, new: object) -> object:
    return {**pairs, key: new}


def with_field(value: object, name: str, new: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_copy(update={name: new})
    return cast("object", dataclasses.replace(cast("Any", value), **{name: new}))


@dataclasses.dataclass
class LongLine(Line):
    width: int = 1


BEYOND_FLOAT: Final = 2**53 + 1
"""The first integer that no float is."""

RESEMBLING: Final[tuple[tuple[type | tuple[type, ...], Callable[[Any], Iterable[object]]], ...]] = (
    (enum.Enum, lambda it: [it.value, it.name]),
    (bool, lambda it: [int(it), float(it), str(it)]),
    (int, lambda it: [float(it % 2**60), str(it), Number(it), Decimal(it), bool(it)]),
    (int, lambda it: [Level.HIGH, BEYOND_FLOAT]),
    (float, lambda it: [repr(it), Ratio(it), Decimal(it), complex(it), BEYOND_FLOAT, 1]),
    (str, lambda it: [Text(it), [*it], it.encode(errors="replace"), Word.YES, Colour.RED]),
    (bytes, lambda it: [it.decode(errors="replace"), bytearray(it), [*it]]),
    (datetime, lambda it: [it.isoformat(), it.date(), 1.5]),
    (date, lambda it: [it.isoformat(), datetime.combine(it, time())]),
    ((UUID, Decimal, PurePath, time, complex), lambda it: [str(it)]),
    ((list, tuple, deque), lambda it: [[*it], (*it,), deque(it), deque(it, 9), iter([*it])]),
    ((set, frozenset), lambda it: [[*it], {*it}, frozenset(it)]),
    (dict, lambda it: [OrderedDict(it), [*it], {**it, "more": 1}, {str(k): it[k] for k in it}]),
    (BaseModel, lambda it: [dict(it), it.model_copy(update={"more": 1})]),
    (Line, lambda it: [LongLine(it.length, it.next, it.colour), dataclasses.asdict(it)]),
)


def resembling(value: object) -> Iterator[object]:
    """Other values that a converter might take for this one."""
    for types, others in RESEMBLING:
        if isinstance(value, types):
            yield from others(value)


# Any


class Loose(BaseModel):
    value: Any
    ratio: float = 0.5


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class LooseDict(TypedDict):
    value: Any


@dataclasses.dataclass
class LooseData:
    value: Any


class LooseTuple(NamedTuple):
    value: Any


LOOSE: Final[tuple[tuple[object, Callable[[Any], object]], ...]] = (
    (Any, lambda value: value),
    (object, lambda value: value),
    (Any | None, lambda value: value),
    (list[Any], lambda value: [value]),
    (list, lambda value: [value]),
    (tuple, lambda value: (value,)),
    (tuple[Any, ...], lambda value: (value, value)),
    (dict[str, Any], lambda value: {"key": value}),
    (dict, lambda value: {"key": value}),
    (deque[Any], lambda value: deque([value])),
    (Sequence[Any], lambda value: [value]),
    (Mapping[str, object], lambda value: {"key": value}),
    (Annotated[Any, Field(description="loose")], lambda value: value),
    (Loose, lambda value: Loose(value=value)),
    (Open, lambda value: Open.model_validate({"value": value})),
    (LooseDict, lambda value: {"value": value}),
    (LooseData, LooseData),
    (LooseTuple, LooseTuple),
)

anything = nested(kinds().flatmap(lambda kind: kind.values), SAFE_TEXT | st.sampled_from(Word))


@given(st.sampled_from(LOOSE), anything)
@settings(max_examples=examples(150))
def test_under_any_a_value_arrives_the_same_or_is_refused(
    loose: tuple[object, Callable[[Any], object]], value: object
) -> None:
    annotation, wrapped = loose
    assert_same_or_refused(annotation, wrapped(value))


@given(
    st.sampled_from([set, set[Any], frozenset[Any], set[object]]),
    st.sampled_from([1, True, "yes", *Level, *Word, Colour.RED, (1,), frozenset([1]), Pair(1)]),
)
@few
def test_in_sets_of_any_a_value_arrives_the_same_or_is_refused(
    annotation: object, element: object
) -> None:
    elements = {element}
    is_frozen = annotation == frozenset[Any]
    assert_same_or_refused(annotation, frozenset(elements) if is_frozen else elements)


@given(
    st.sampled_from([dict, dict[Any, int], Mapping[Any, int], dict[object, int]]),
    st.sampled_from([1, True, "yes", *Level, *Word, Colour.RED, (1,), None, Text("a"), 1.5]),
)
@few
def test_as_keys_of_any_a_value_arrives_the_same_or_is_refused(
    annotation: object, key: object
) -> None:
    assert_same_or_refused(annotation, {key: 1})


def assert_same_or_refused(annotation: object, value: object) -> None:
    codec = codec_of(annotation)
    for serializer in SERIALIZERS:
        try:
            arrived = sent(codec, value, serializer)
        except TaskArgumentsError:
            continue
        assert same(value, arrived)


# What comes from elsewhere


JSON: Final = nested(
    st.one_of(
        st.none(),
        st.booleans(),
        INTEGERS,
        st.floats(),
        SAFE_TEXT,
        st.sampled_from(["2024-01-01", "P1D", "nan", "1e999", "yes", "1/0", "+00:00", "[", "\0"]),
    ),
    SAFE_TEXT | st.sampled_from(["value", "children", "field_0", "kind", "length", "key_0"]),
)
"""Whatever a plain client may have put in a message."""


@given(calls(), st.lists(JSON, max_size=3), st.dictionaries(SAFE_TEXT, JSON, max_size=2))
@settings(max_examples=examples(100))
def test_arguments_from_elsewhere_fit_or_are_refused(
    call: Call, args: list[object], kwargs: dict[str, object]
) -> None:
    codec = Codec(call.function, name="call", bind=call.bind)

    # Without parameters there are no annotations, and what arrives is what was sent.
    assume(call.signature.parameters)

    with suppress(TaskArgumentsError):
        loaded = codec.load(tuple(args), kwargs)
        call.signature.bind(*loaded[0], **loaded[1])


@given(kinds(), JSON)
@settings(max_examples=examples(150))
def test_a_value_from_elsewhere_that_fits_can_be_sent_on(kind: Kind, wire: object) -> None:
    codec = codec_of(kind.annotation)
    try:
        loaded = codec.load((wire,), {})
    except TaskArgumentsError:
        return

    codec.check(*loaded)


@given(kinds(), JSON)
@few
def test_a_result_from_elsewhere_fits_or_is_refused(kind: Kind, wire: object) -> None:
    codec = codec_of(kind.annotation)

    with suppress(TaskResultError):
        codec.load_result(wire)


@given(misfits() | near_misfits())
@settings(max_examples=examples(150))
def test_a_lying_result_is_refused_or_arrives_equal(case: tuple[object, object]) -> None:
    annotation, value = case
    codec = codec_of(annotation)

    for serializer in SERIALIZERS:
        try:
            wire = codec.dump_result(value)
        except TaskResultError:
            return
        assert alike(value, codec.load_result(travelled(wire, serializer)))
