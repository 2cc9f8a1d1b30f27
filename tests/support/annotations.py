"""hypothesis strategies for annotations, with values of theirs."""

from __future__ import annotations

import dataclasses
import enum
import functools
import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from pathlib import Path, PurePosixPath
from types import GenericAlias, NoneType
from typing import (
    Annotated,
    Any,
    Final,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    TypeVar,
    cast,
)
from uuid import UUID
from zoneinfo import ZoneInfo

from annotated_types import Ge, Le, MaxLen, MinLen
from hypothesis import strategies as st
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    RootModel,
    computed_field,
    create_model,
)
from pydantic.alias_generators import to_camel
from typing_extensions import TypedDict

from tests.support.json_strategies import INTEGERS, TEXT, TIMEZONES, datetimes


class Kind(NamedTuple):
    """An annotation, and values that a type checker accepts for it."""

    annotation: object
    values: st.SearchStrategy[object]


_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
SAFE_TEXT = TEXT.filter(lambda text: not _PAIR.search(text))
"""Without pairs of surrogates: kombu's json makes one character of them, orjson refuses them."""

ZONES: st.SearchStrategy[tzinfo] = st.sampled_from(
    [ZoneInfo("Europe/Berlin"), ZoneInfo("America/St_Johns"), ZoneInfo("Asia/Kathmandu"), UTC]
)
DATETIMES = datetimes() | st.datetimes(timezones=ZONES)
TIMES = st.times() | st.times(timezones=TIMEZONES)
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False) | st.sampled_from(
    [Decimal("-0"), Decimal("0.00"), Decimal("1E+400"), Decimal("1E-400")]
)
FINITE = st.floats(allow_nan=False)
# The text of a complex NaN is read back as another one, which no comparison takes for the same.
COMPLEX = st.complex_numbers(allow_nan=False)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Mixed(enum.Enum):
    ONE = 1
    TEXT = "1"
    HALF = 0.5
    DAY = date(2024, 2, 29)
    BYTES = b"\xff"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Word(enum.StrEnum):
    YES = "yes"
    NO = "no"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


T = TypeVar("T")
UserId = NewType("UserId", int)
Name = NewType("Name", str)


class Pair(NamedTuple):
    left: int
    right: UUID | None = None


class Span(TypedDict):
    start: date
    end: NotRequired[date]


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    lat: float
    lon: float
    label: str = "here"


@dataclasses.dataclass
class Line:
    """Made from another, and with a field that its __init__ does not take."""

    length: float
    next: Line | None = None
    colour: Colour = Colour.RED
    seen: int = dataclasses.field(init=False, default=0)


class Tree(BaseModel):
    value: int
    children: list[Tree] = []


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    lives: int = 1


class Box(BaseModel, Generic[T]):
    content: T
    more: list[T] = []


@dataclasses.dataclass
class Crate(Generic[T]):
    content: T


PLACES = st.builds(Place, FINITE, FINITE, SAFE_TEXT)
LINES = st.builds(
    Line,
    st.floats(),
    st.none() | st.builds(Line, st.floats(), colour=st.sampled_from(Colour)),
    st.sampled_from(Colour),
)
TREES = st.recursive(
    st.builds(Tree, value=INTEGERS),
    lambda inner: st.builds(Tree, value=INTEGERS, children=st.lists(inner, max_size=2)),
    max_leaves=4,
)
PAIRS = st.builds(Pair, INTEGERS, st.none() | st.uuids())

PLAIN_KINDS: Final = (
    Kind(int, INTEGERS),
    Kind(str, SAFE_TEXT),
    Kind(bool, st.booleans()),
    Kind(float, st.floats()),
    Kind(NoneType, st.none()),
)
"""What JSON has as well."""

_SCALAR_KINDS: Final = (
    *PLAIN_KINDS[:3],
    Kind(bytes, st.binary()),
    Kind(datetime, DATETIMES),
    Kind(date, st.dates()),
    Kind(time, TIMES),
    Kind(Decimal, DECIMALS),
    Kind(UUID, st.uuids()),
)
"""What keeps its type on the wire, and so is told from the others in a union."""

_HASHABLE_KINDS: Final = (
    *_SCALAR_KINDS,
    Kind(float, FINITE),
    Kind(timedelta, st.timedeltas()),
    Kind(Colour, st.sampled_from(Colour)),
    Kind(Level, st.sampled_from(Level)),
    Kind(Word, st.sampled_from(Word)),
    Kind(Rights, st.sampled_from([Rights.READ, Rights.WRITE, Rights(0), Rights(3)])),
    Kind(Path, SAFE_TEXT.map(Path)),
    Kind(complex, COMPLEX),
    Kind(Pair, PAIRS),
    Kind(Place, PLACES),
    Kind(UserId, INTEGERS),
)

_KEY_KINDS: Final = (
    Kind(str, SAFE_TEXT),
    Kind(int, INTEGERS),
    Kind(bool, st.booleans()),
    Kind(float, FINITE),
    Kind(UUID, st.uuids()),
    Kind(date, st.dates()),
    # As text a time zone may have an offset of whole minutes only.
    Kind(datetime, st.datetimes(timezones=st.none() | st.just(UTC))),
    Kind(time, st.times()),
    Kind(timedelta, st.timedeltas()),
    Kind(Decimal, DECIMALS),
    Kind(Path, SAFE_TEXT.map(Path)),
    Kind(Colour, st.sampled_from(Colour)),
    Kind(Level, st.sampled_from(Level)),
    Kind(Word, st.sampled_from(Word)),
    Kind(Name, SAFE_TEXT),
    Kind(Literal["a", "b"], st.sampled_from(["a", "b"])),
)

_OTHER_KINDS: Final = (
    Kind(Mixed, st.sampled_from(Mixed)),
    Kind(PurePosixPath, SAFE_TEXT.map(PurePosixPath)),
    Kind(Span, st.fixed_dictionaries({"start": st.dates()}, optional={"end": st.dates()})),
    Kind(Line, LINES),
    Kind(Tree, TREES),
    Kind(
        Annotated[Cat | Dog, Field(discriminator="kind")],
        st.builds(Cat, lives=INTEGERS) | st.builds(Dog),
    ),
    Kind(Literal["a", 1, False, b"b"] | None, st.sampled_from(["a", 1, False, None, b"b"])),
    Kind(Literal[Word.YES, Level.HIGH], st.sampled_from([Word.YES, Level.HIGH])),
    Kind(Annotated[int, Ge(0), Le(2**70)], st.integers(0, 2**70)),
    Kind(Annotated[list[int], MinLen(1), MaxLen(2)], st.lists(INTEGERS, min_size=1, max_size=2)),
    Kind(
        # Signalling NaN is left out: to compare it is an error.
        Annotated[Decimal, Field(allow_inf_nan=True)],
        st.decimals().filter(lambda number: not number.is_snan()),
    ),
    Kind(
        Annotated[datetime, Field(description="at noon")], st.just(datetime(2024, 1, 1, tzinfo=UTC))
    ),
)

LEAF_KINDS: Final = (*PLAIN_KINDS, *_HASHABLE_KINDS, *_OTHER_KINDS)

# pydantic makes no complex of text where strict=True, and allows no init=False with extra="allow".
_MODEST_KINDS: Final = st.sampled_from(
    [kind for kind in LEAF_KINDS if not (kind.annotation is complex or kind.annotation is Line)]
)


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class _Camel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)


class _CamelByName(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class _Hiding(BaseModel):
    """With what is not a field."""

    _count: int = PrivateAttr(default=3)

    @computed_field
    def double(self) -> int:
        return 2 * self._count


_MODEL_BASES: Final = (BaseModel, _Open, _Strict, _Frozen, _Camel, _CamelByName, _Hiding)
_ALIASES: Final[tuple[dict[str, Any], ...]] = (
    {},
    {},
    {"alias": "al-{}"},
    {"validation_alias": "va-{}"},
    {"serialization_alias": "sa-{}"},
    {"validation_alias": AliasChoices("first", "second")},
    {"validation_alias": AliasPath("path", 0)},
    {"alias": "al-{}", "validation_alias": "va-{}", "serialization_alias": "sa-{}"},
)


def kinds(depth: int = 2) -> st.SearchStrategy[Kind]:
    """Every annotation that tasks may have, made of others down to this depth."""
    leaves = st.sampled_from(LEAF_KINDS)
    # By index, because one_of() prefers some of its alternatives by far.
    return _one_of([leaves, *_containers(kinds(depth - 1))]) if depth else leaves


def _one_of(strategies: Sequence[st.SearchStrategy[Kind]]) -> st.SearchStrategy[Kind]:
    return st.integers(0, len(strategies) - 1).flatmap(lambda index: strategies[index])


def _containers(inner: st.SearchStrategy[Kind]) -> list[st.SearchStrategy[Kind]]:
    hashable = _hashables()
    return [
        inner.map(lambda kind: Kind(_of(list, kind), lists_of(kind))),
        inner.map(lambda kind: Kind(_of(Sequence, kind), lists_of(kind))),
        inner.map(lambda kind: Kind(_of(deque, kind), lists_of(kind).map(deque))),
        inner.map(_variadic_tuple),
        st.lists(inner, max_size=3).map(_fixed_tuple),
        hashable.map(lambda kind: Kind(_of(set, kind), lists_of(kind).map(lambda items: {*items}))),
        hashable.map(lambda kind: Kind(_of(frozenset, kind), lists_of(kind).map(frozenset))),
        st.builds(_dict, st.just(dict), st.sampled_from(_KEY_KINDS), inner),
        st.builds(_dict, st.just(Mapping), st.sampled_from(_KEY_KINDS), inner),
        inner.map(_optional),
        _unions(inner),
        inner.map(lambda kind: Kind(_new_type("Renamed", kind.annotation), kind.values)),
        inner.map(lambda kind: Kind(_note(kind.annotation), kind.values)),
        _dataclasses(inner),
        _dataclasses(inner),
        _models(inner),
        _models(inner),
        _models(inner),
        inner.map(_root_model),
        inner.map(_generic_model),
        inner.map(lambda kind: Kind(_of(Crate, kind), kind.values.map(Crate))),
        _typed_dicts(inner),
        _named_tuples(inner),
    ]


# Annotations made at run time are no types for type checkers.
_new_type = cast("Callable[[str, object], object]", NewType)
_dataclass_field = cast("Callable[..., object]", dataclasses.field)
_model_field = cast("Callable[..., object]", Field)
_create_model = cast("Callable[..., type[BaseModel]]", create_model)


def _of(generic: type, *kinds: Kind) -> object:
    return GenericAlias(generic, tuple(kind.annotation for kind in kinds))


def _union(one: Any, other: Any) -> object:
    return one | other


def _either(*annotations: object) -> object:
    return functools.reduce(_union, annotations)


def _note(annotation: object) -> object:
    return cast("object", cast("Any", Annotated)[annotation, "a note"])


def lists_of(kind: Kind) -> st.SearchStrategy[list[object]]:
    return st.lists(kind.values, max_size=3)


def _optional(kind: Kind) -> Kind:
    return Kind(
        _either(NoneType, kind.annotation),
        # A root model of None is None on the wire: it would not be told from the other None.
        st.none() | kind.values.filter(lambda value: not _is_none_within(value)),
    )


def _is_none_within(value: object) -> bool:
    while isinstance(value, RootModel):
        value = cast("object", value.root)
    return value is None


def _variadic_tuple(kind: Kind) -> Kind:
    return Kind(GenericAlias(tuple, (kind.annotation, ...)), lists_of(kind).map(tuple))


def _fixed_tuple(kinds: list[Kind]) -> Kind:
    return Kind(_of(tuple, *kinds), st.tuples(*(kind.values for kind in kinds)))


def _hashables() -> st.SearchStrategy[Kind]:
    scalars = st.sampled_from(_HASHABLE_KINDS)
    return _one_of(
        [
            scalars,
            scalars,
            st.lists(scalars, max_size=2).map(_fixed_tuple),
            scalars.map(_variadic_tuple),
            scalars.map(lambda kind: Kind(_of(frozenset, kind), lists_of(kind).map(frozenset))),
            scalars.map(_frozen),
        ]
    )


def _frozen(kind: Kind) -> Kind:
    made = dataclasses.make_dataclass(
        "Made", [("field", cast("Any", kind.annotation))], frozen=True
    )
    return Kind(made, kind.values.map(made))


def _dict(generic: type, keys: Kind, items: Kind) -> Kind:
    values: st.SearchStrategy[object] = st.dictionaries(keys.values, items.values, max_size=3)
    return Kind(_of(generic, keys, items), values)


@st.composite
def _unions(draw: st.DrawFn, inner: st.SearchStrategy[Kind]) -> Kind:
    """Types that the wire tells apart: scalars, and one that is no scalar."""
    members = draw(st.lists(st.sampled_from(_SCALAR_KINDS), min_size=1, max_size=3, unique_by=id))
    structures = st.one_of(
        inner.map(lambda kind: Kind(_of(list, kind), lists_of(kind))),
        st.just(Kind(Line, LINES)),
        st.just(Kind(Tree, TREES)),
    )
    members.append(draw(structures))
    return Kind(
        _either(*(member.annotation for member in draw(st.permutations(members)))),
        st.one_of([member.values for member in members]),
    )


@st.composite
def _dataclasses(draw: st.DrawFn, inner: st.SearchStrategy[Kind]) -> Kind:
    fields: list[tuple[str, object, object]] = []
    required: dict[str, st.SearchStrategy[object]] = {}
    optional: dict[str, st.SearchStrategy[object]] = {}
    for index, kind in enumerate(draw(st.lists(inner, max_size=3))):
        name = f"field_{index}"
        if draw(st.booleans()):
            default = draw(kind.values)
            made = functools.partial(_identity, default)
            fields.append((name, kind.annotation, _dataclass_field(default_factory=made)))
            optional[name] = kind.values
        else:
            fields.append((name, kind.annotation, _dataclass_field()))
            required[name] = kind.values
    if draw(st.booleans()):
        fields.append(("made", int, _dataclass_field(init=False, default=7)))
    made_class = dataclasses.make_dataclass(
        "Made",
        cast("Any", fields),
        kw_only=True,
        frozen=draw(st.booleans()),
        slots=draw(st.booleans()),
        order=draw(st.booleans()),
    )
    return Kind(made_class, _built(made_class, required, optional))


def _identity(value: object) -> object:
    return value


def _built(
    function: Callable[..., object],
    required: Mapping[str, st.SearchStrategy[object]],
    optional: Mapping[str, st.SearchStrategy[object]],
) -> st.SearchStrategy[object]:
    return st.fixed_dictionaries({**required}, optional={**optional}).map(
        lambda fields: function(**fields)
    )


@st.composite
def _models(draw: st.DrawFn, inner: st.SearchStrategy[Kind]) -> Kind:
    base = draw(st.sampled_from(_MODEL_BASES))
    if base in {_Strict, _Open}:
        inner = _MODEST_KINDS
    fields: dict[str, tuple[object, object]] = {}
    required: dict[str, st.SearchStrategy[object]] = {}
    optional: dict[str, st.SearchStrategy[object]] = {}
    for index, kind in enumerate(draw(st.lists(inner, max_size=3))):
        name = f"field_{index}"
        aliases = draw(st.sampled_from(_ALIASES))
        options = {
            key: alias.format(index) if isinstance(alias, str) else alias
            for key, alias in aliases.items()
        }
        if draw(st.booleans()):
            made = functools.partial(_identity, draw(kind.values))
            fields[name] = (kind.annotation, _model_field(default_factory=made, **options))
            optional[name] = kind.values
        else:
            fields[name] = (kind.annotation, _model_field(**options))
            required[name] = kind.values
    if base is _Open:
        optional["extra"] = st.none() | SAFE_TEXT | DATETIMES | st.floats()
        optional["another"] = st.lists(INTEGERS, max_size=2)
    made_class = _create_model("Made", __base__=base, **fields)
    return Kind(
        made_class,
        st.fixed_dictionaries(required, optional=optional).map(
            lambda values: made_class.model_validate(values, by_alias=False, by_name=True)
        ),
    )


def _root_model(kind: Kind) -> Kind:
    root = cast("Callable[[object], object]", cast("Any", RootModel)[kind.annotation])
    return Kind(root, kind.values.map(root))


def _generic_model(kind: Kind) -> Kind:
    box = cast("Callable[..., object]", cast("Any", Box)[kind.annotation])
    return Kind(box, st.builds(box, content=kind.values, more=lists_of(kind)))


@st.composite
def _typed_dicts(draw: st.DrawFn, inner: st.SearchStrategy[Kind]) -> Kind:
    members = draw(st.lists(inner, max_size=3))
    required = {f"key_{i}": one for i, one in enumerate(members) if draw(st.booleans())}
    optional = {f"key {i}": one for i, one in enumerate(members) if f"key_{i}" not in required}
    keys: dict[str, object] = {name: one.annotation for name, one in required.items()}
    keys |= {name: cast("Any", NotRequired)[one.annotation] for name, one in optional.items()}
    return Kind(
        cast("Callable[..., object]", TypedDict)("Made", keys),
        st.fixed_dictionaries(
            {name: one.values for name, one in required.items()},
            optional={name: one.values for name, one in optional.items()},
        ),
    )


@st.composite
def _named_tuples(draw: st.DrawFn, inner: st.SearchStrategy[Kind]) -> Kind:
    members = draw(st.lists(inner, min_size=1, max_size=3))
    make = cast("Callable[..., Callable[..., object]]", NamedTuple)
    made = make("Made", [(f"field_{i}", one.annotation) for i, one in enumerate(members)])
    return Kind(made, st.builds(made, *(one.values for one in members)))
