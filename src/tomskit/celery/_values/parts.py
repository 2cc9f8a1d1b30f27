"""A value and what has arrived for it, and the parts of both.

Each function here takes a pair and returns the pairs of its parts, or the difference where the two
differ as a whole.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, time
from decimal import Decimal
from pathlib import PurePath
from typing import Any, Final, NamedTuple, TypeAlias, TypeGuard
from uuid import UUID

from pydantic import BaseModel, RootModel
from typing_extensions import override

from tomskit.celery._internals import pydantic_core as internals
from tomskit.celery._internals.pydantic_core import Node, is_node
from tomskit.celery._values.models import Dataclass, attributes
from tomskit.celery._values.nesting import Path
from tomskit.celery._values.wire import UNCHANGED

__all__ = (
    "ANY",
    "Difference",
    "Pair",
    "Parts",
    "are_equal",
    "are_plainly_the_same",
    "collection",
    "dataclass",
    "exactly",
    "inner",
    "is_for",
    "is_like",
    "is_sequence",
    "items",
    "model",
    "node_of",
)


class Difference(NamedTuple):
    """A part of a value that does not arrive as it was sent."""

    path: Path
    """Where it is in the value."""
    sent: object
    arrived: object
    reason: str = ""
    """Why, where that is not plain from the two."""


class Pair(NamedTuple):
    """A value, or a part of it, and what has arrived for it."""

    node: Node
    """What the annotation says of it."""
    sent: object
    arrived: object
    path: Path
    is_free: bool
    """Whether pydantic converts it where it is sent, too: not so in a model, which has done it."""
    reason: str = ""
    """Why it would differ, if it does."""

    def part(self, key: object, node: object, sent: object, arrived: object) -> Pair:
        """The pair of a part."""
        path = (*self.path, key)
        return Pair(node_of(node), sent, arrived, path, self.is_free, self.reason)

    def differs(self, reason: str = "") -> Difference:
        """The difference of the two as a whole."""
        return Difference(self.path, self.sent, self.arrived, reason or self.reason)


Parts: TypeAlias = "Iterable[Pair] | Difference"
"""The parts of a pair that have to be compared: none where it arrives as a whole."""


def node_of(part: object) -> Node:
    """A part of a schema; where there is none, that of Any."""
    return part if is_node(part) else ANY


ANY: Final[Node] = {internals.TYPE: internals.ANY}


def inner(pair: Pair) -> Parts:
    """Of a node around another."""
    return [pair._replace(node=node_of(pair.node[internals.SCHEMA]))]


def exactly(pair: Pair) -> Parts:
    """Of any value: under Any nothing may arrive as another type."""
    sent, arrived = pair.sent, pair.arrived
    if type(sent) is not type(arrived):
        return pair.differs()
    if isinstance(sent, BaseModel):
        return model(pair)
    if _is_dataclass(sent):
        return dataclass(pair)
    if isinstance(sent, (list, tuple, dict, set, frozenset, deque)):
        return collection(pair)
    return () if are_equal(sent, arrived) else pair.differs()


# Values with parts


def collection(pair: Pair) -> Parts:
    """Of a list, dict, set or another such: what is sent may be of a subclass."""
    sent, arrived, node = pair.sent, pair.arrived, pair.node
    fits = isinstance(sent, type(arrived))
    if _is_mapping(sent) and _is_mapping(arrived):
        # Of a Mapping pydantic makes a dict.
        if fits or (node.get(internals.STRICT) is False and arrived.__class__ is dict):
            return _pairs(pair, sent, arrived, node)
    elif _is_set(sent) and _is_set(arrived):
        # Of a Set it makes a frozenset.
        if fits or isinstance(arrived, frozenset):
            return _members(pair, sent, arrived, internals.items_in(node, 1)[0])
    elif is_sequence(arrived) and is_sequence(sent) and (fits or _is_row_for(sent, arrived)):
        nodes = [*internals.fields_of(node).values()] or internals.items_in(node, len(arrived))
        return items(pair, sent, arrived, nodes)
    return pair.differs()


def items(
    pair: Pair, sent: Sequence[object], arrived: Sequence[object], nodes: Sequence[object]
) -> Parts:
    """Of a sequence, by the nodes of its items."""
    if len(sent) != len(arrived) or _maxlen(sent) != _maxlen(arrived):
        return pair.differs()
    return [
        pair.part(index, nodes[index] if index < len(nodes) else None, one, other)
        for index, (one, other) in enumerate(zip(sent, arrived, strict=True))
        if not are_plainly_the_same(one, other)
    ]


def _maxlen(items: object) -> int | None:
    return items.maxlen if isinstance(items, deque) else None


def _pairs(
    pair: Pair, sent: Mapping[object, object], arrived: Mapping[object, object], node: Node
) -> Parts:
    if internals.is_typed_dict(node):
        return _named(pair, sent, arrived, internals.fields_of(node))
    if len(sent) != len(arrived):
        return pair.differs()
    keys, values = node.get(internals.KEYS), node.get(internals.VALUES)
    parts: list[Pair] = []
    # In their order, which JSON keeps: a key may arrive as another type, or stripped.
    for (key, one), (other_key, other) in zip(sent.items(), arrived.items(), strict=True):
        if not are_plainly_the_same(key, other_key):
            parts.append(pair.part(key, keys, key, other_key))
        if not are_plainly_the_same(one, other):
            parts.append(pair.part(key, values, one, other))
    return parts


def _members(
    pair: Pair, sent: AbstractSet[object], arrived: AbstractSet[object], node: object
) -> Parts:
    found = {one: one for one in arrived}
    if len(sent) != len(found) or not all(one in found for one in sent):
        return pair.differs()
    return [pair.part(one, node, one, found[one]) for one in sent]


def _named(
    pair: Pair,
    sent: Mapping[Any, object],
    arrived: Mapping[Any, object],
    nodes: Mapping[str, object],
) -> Sequence[Pair] | Difference:
    if sent.keys() != arrived.keys():
        return pair.differs()
    return [
        pair.part(name, nodes.get(name), one, arrived[name])
        for name, one in sent.items()
        if not are_plainly_the_same(one, arrived[name])
    ]


def model(pair: Pair) -> Parts:
    """Of a model."""
    sent, arrived = pair.sent, pair.arrived
    if not isinstance(sent, BaseModel) or not isinstance(arrived, BaseModel):
        return pair.differs()
    # For type checkers Response(...) is a Response[int] where that fits.
    if type(sent) is not type(arrived) and _origin(sent) is not _origin(arrived):
        return pair.differs()
    node = internals.content_of(pair.node)
    inside = pair._replace(is_free=False)
    if isinstance(sent, RootModel):
        root: object = sent.__dict__["root"]
        return [inside._replace(node=node_of(node), sent=root, arrived=arrived.__dict__["root"])]
    parts = _named(inside, attributes(sent), attributes(arrived), internals.fields_of(node))
    if isinstance(parts, Difference):
        return parts
    known = type(sent).__pydantic_fields__
    fields = [
        part._replace(reason=_EXCLUDED) if known[str(part.path[-1])].exclude else part
        for part in parts
    ]
    # What it has beside its fields.
    private = pair._replace(reason=_PRIVATE)
    return [
        *_beside(private, sent.__pydantic_private__, arrived.__pydantic_private__),
        *fields,
        *_beside(pair, sent.__pydantic_extra__, arrived.__pydantic_extra__),
    ]


def _have_equal_scalars(sent: BaseModel, arrived: BaseModel) -> bool:
    # Most models have nothing else: 0.8 us for three of them.
    if sent.__pydantic_private__ or sent.__pydantic_extra__ or arrived.__pydantic_private__:
        return False
    fields, arrived_fields = sent.__dict__, arrived.__dict__
    kinds = [*map(type, fields.values())]
    return (
        UNCHANGED.issuperset(kinds)
        and kinds == [*map(type, arrived_fields.values())]
        and are_equal(fields, arrived_fields)
    )


def _beside(
    pair: Pair, sent: Mapping[str, object] | None, arrived: Mapping[str, object] | None
) -> Iterable[Pair]:
    ones, others = sent or {}, arrived or {}
    for name in {**ones, **others}:
        one, other = ones.get(name, _NOTHING), others.get(name, _NOTHING)
        if not are_plainly_the_same(one, other):
            yield pair.part(name, ANY, one, other)


class _Nothing:
    @override
    def __repr__(self) -> str:
        return "nothing"


_NOTHING: Final = _Nothing()
_EXCLUDED: Final = "the field is excluded, and not sent: leave it at its default"
_PRIVATE: Final = "private attributes are not sent: make it a field, or leave it at its default"


def dataclass(pair: Pair) -> Parts:
    """Of a dataclass."""
    sent, arrived = pair.sent, pair.arrived
    if type(sent) is not type(arrived) or not _is_dataclass(sent) or not _is_dataclass(arrived):
        return pair.differs()
    nodes = internals.fields_of(internals.content_of(pair.node))
    inside = pair._replace(is_free=False)
    return _named(inside, attributes(sent), attributes(arrived), nodes)


# Values without parts


def are_plainly_the_same(sent: object, arrived: object) -> bool:
    """Whether the two are equal, of one class, and have no parts that have parts."""
    kind = type(sent)
    if kind is not type(arrived):
        return False
    if kind in UNCHANGED:
        return are_equal(sent, arrived)
    if isinstance(sent, BaseModel) and isinstance(arrived, BaseModel):
        return _have_equal_scalars(sent, arrived)
    return False


def are_equal(sent: Any, arrived: Any) -> bool:
    """Whether the two are equal; two NaN are."""
    equal: Any = False
    try:
        equal = sent == arrived
        # Only NaN differs from itself.
        return bool(equal) or bool(sent != sent and arrived != arrived)  # noqa: PLR0124
    except Exception:  # noqa: BLE001
        # Its class is the application's. Of arrays equality is an array, and a signalling NaN has
        # none.
        return _are_equal_arrays(sent, arrived, equal) or (
            isinstance(sent, Decimal) and str(sent) == str(arrived)
        )


def _are_equal_arrays(sent: object, arrived: object, equal: object) -> bool:
    of_all: object = getattr(equal, "all", None)
    try:
        return (
            callable(of_all)
            and bool(of_all())
            and getattr(sent, "dtype", None) == getattr(arrived, "dtype", None)
        )
    except Exception:  # noqa: BLE001
        # As above: of tables that is another table.
        return False


def is_like(sent: object, arrived: object) -> bool:
    """Whether a type checker takes the one for the other, and they are equal."""
    if not isinstance(sent, _SCALARS) or not isinstance(arrived, _SCALARS):
        return False
    is_number = isinstance(sent, (int, float)) and isinstance(arrived, (float, complex))
    # Not every large int is a float.
    return (is_number or isinstance(sent, type(arrived))) and are_equal(sent, arrived)


def is_for(sent: object, converted: object) -> bool:
    """Whether pydantic's strict mode has changed a value, and not its type."""
    kind = type(converted)
    return (
        is_sequence(sent) if kind is list else isinstance(sent, Mapping if kind is dict else kind)
    )


_SCALARS: Final = (str, int, float, complex, bytes, date, time, Decimal, UUID, PurePath)


def _is_row_for(sent: object, arrived: object) -> bool:
    """Whether it is a row of SQLAlchemy, which for type checkers is a tuple.

    For a NamedTuple its columns have to have the names of the fields.
    """
    names: object = getattr(sent, "_fields", None)
    fields: object = getattr(arrived, "_fields", names)
    is_row = isinstance(names, tuple) and callable(getattr(sent, "_asdict", None))
    return is_row and isinstance(arrived, tuple) and names == fields


def _is_mapping(value: object) -> TypeGuard[Mapping[object, object]]:
    return isinstance(value, Mapping)


def is_sequence(value: object) -> TypeGuard[Sequence[object]]:
    """Whether it is a sequence, and no text: for type checkers a str is a Sequence of str."""
    return isinstance(value, (Sequence, deque)) and not isinstance(value, (str, bytes, bytearray))


def _is_set(value: object) -> TypeGuard[AbstractSet[object]]:
    return isinstance(value, AbstractSet)


def _is_dataclass(value: object) -> TypeGuard[Dataclass]:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _origin(model: BaseModel) -> object:
    kind = type(model)
    return kind.__pydantic_generic_metadata__["origin"] or kind
