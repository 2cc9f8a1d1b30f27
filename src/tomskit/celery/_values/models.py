"""Models on the wire: their fields by name, and which of them were not set.

A field that was not set is left out, as ``model_dump(exclude_unset=True)`` does, if its value is the
default: where it arrives it gets that default, and is not set there either. What is sent although
it was not set, the value of a ``default_factory`` for one, is named in the list `UNSET` beside the
fields.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Final, Literal, NamedTuple, Protocol, get_args, get_origin

from pydantic import BaseModel, RootModel, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import core_schema

from tomskit.celery._internals import pydantic_core as internals
from tomskit.celery._internals.pydantic_core import (
    Node,
    dataclass_extra,
    is_node,
    items_of,
)

__all__ = ("UNSET", "Dataclass", "attributes", "plain_model", "with_unset_kept")

UNSET: Final = "__unset__"
"""The key of the names of fields that are sent although they were not set.

No field can have that name, because pydantic takes names with an underscore for private attributes.
"""


class Dataclass(Protocol):
    """An instance of a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[object]]]


def attributes(value: BaseModel | Dataclass) -> Mapping[str, object]:
    """What a model or dataclass holds: its fields, and what it was given beside them."""
    if isinstance(value, BaseModel):
        # Not what a cached_property has put beside the fields.
        kept, fields = value.__dict__, type(value).__pydantic_fields__
        return kept if kept.keys() == fields.keys() else {name: kept.get(name) for name in fields}
    if dataclass_extra(type(value)) == "allow":
        # Attributes that are not fields are not sent: a comparison has to find out.
        held: dict[str, object] = value.__dict__
        return held
    # A field that __init__ does not take may be in the class only.
    names = (field.name for field in dataclasses.fields(value))
    return {name: getattr(value, name, None) for name in names}


# Writing


def plain_model(value: BaseModel, *, whole: bool) -> object:
    """A model as a dict of its fields, the values of which are not converted.

    Its own serializers are applied. Keys are names of fields, because a model's aliases may differ
    for reading and for writing.

    Args:
        value: The model.
        whole: Leave no field out.
    """
    kind = type(value)
    form = _forms.get(kind) or _form_of(kind)
    held = _held(value)
    if form.by_pydantic:
        try:
            plain: object = kind.__pydantic_serializer__.to_python(
                value, mode="python", by_alias=False, round_trip=True, warnings=False
            )
        except TypeError:
            # It makes dicts of models and dataclasses in sets, too, and these are not hashable.
            pass
        else:
            return _without_unset(value, plain, whole=whole)
    if form.is_root:
        return _root(value, held["root"], form)
    extra = value.__pydantic_extra__
    if not extra and len(value.__pydantic_fields_set__) == len(held) == form.size:
        return held
    fields = {**held, **(extra or {})}
    if len(held) != form.size:
        # A cached_property has put something beside the fields.
        fields = {**attributes(value), **(extra or {})}
    _leave_out(value, fields, form, whole=whole)
    return fields


def _held(model: BaseModel) -> Mapping[str, object]:
    return model.__dict__


def _without_unset(value: object, plain: object, *, whole: bool) -> object:
    """What pydantic has made of a value, without what was not set in the models in it."""
    if isinstance(value, BaseModel):
        form = _form_of(type(value))
        held = _held(value)
        if form.is_root:
            return _root(value, _without_unset(held["root"], plain, whole=whole), form)
        if not is_node(plain):
            return plain
        fields = {
            name: _without_unset(held[name], item, whole=whole) if name in held else item
            for name, item in plain.items()
        }
        _leave_out(value, fields, form, whole=whole)
        return fields
    if is_node(value) and is_node(plain):
        return {
            key: _without_unset(value[key], item, whole=whole) if key in value else item
            for key, item in plain.items()
        }
    items, others = items_of(value), items_of(plain)
    if items and len(items) == len(others):
        pairs = zip(items, others, strict=True)
        return [_without_unset(one, other, whole=whole) for one, other in pairs]
    return plain


def _root(value: BaseModel, plain: object, form: _Form) -> object:
    # What it holds, which has no place for a name.
    is_set = not form.optional or _ROOT in value.__pydantic_fields_set__
    return plain if is_set else {UNSET: [_ROOT], _ROOT: plain}


_ROOT: Final = "root"


def _leave_out(value: BaseModel, plain: dict[str, object], form: _Form, *, whole: bool) -> None:
    are_set: set[str] = value.__pydantic_fields_set__
    held = _held(value)
    sent: list[str] = []
    for name, default in form.optional.items():
        if name in are_set or name not in plain or name not in held:
            continue
        item = held[name]
        # The first half saves a call.
        is_default = item is default or _is_default(item, default)
        if is_default and not whole and name not in form.tags:
            del plain[name]
        else:
            sent.append(name)
    if sent:
        plain[UNSET] = sent


def _is_default(value: object, default: object) -> bool:
    try:
        return type(value) is type(default) and bool(value == default)
    except Exception:  # noqa: BLE001
        # Its class is the application's: numpy's arrays have no truth, for one.
        return False


class _Form(NamedTuple):
    """How models of one class are written."""

    is_root: bool
    """Whether it is a RootModel: on the wire there is what it holds."""
    size: int
    """How many fields it has."""
    optional: Mapping[str, object]
    """The fields that have a default; of a factory's, which may differ each time, `_UNKNOWN`."""
    tags: frozenset[str]
    """Those of one possible value, by which the members of a union are told apart: always sent."""
    by_pydantic: bool
    """Whether it or one of its fields has a serializer of its own."""


_UNKNOWN: Final = object()

_forms: Final[dict[type[BaseModel], _Form]] = {}


def _form_of(kind: type[BaseModel]) -> _Form:
    form = _forms.get(kind)
    if form is None:
        fields = kind.__pydantic_fields__
        form = _forms[kind] = _Form(
            is_root=issubclass(kind, RootModel),
            size=len(fields),
            optional={
                name: _default_of(field)
                for name, field in fields.items()
                if not field.is_required()
            },
            tags=frozenset(name for name, field in fields.items() if _is_tag(field)),
            by_pydantic=any(_is_written_otherwise(node) for node in _own_nodes(kind)),
        )
    return form


def _default_of(field: FieldInfo) -> object:
    factory = field.default_factory
    if factory is None:
        default: object = field.default
        return default
    empty: Callable[[], object] | None = _EMPTY.get(get_origin(factory) or factory)
    return _UNKNOWN if empty is None else empty()


def _is_tag(field: FieldInfo) -> bool:
    return get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1


_EMPTY: Final[Mapping[object, Callable[[], object]]] = {
    kind: kind
    for kind in (list, dict, set, frozenset, tuple, deque, OrderedDict, str, bytes, int, float)
}
"""Factories that make the same value each time, in every process."""


def _own_nodes(kind: type[BaseModel]) -> Iterator[Node]:
    """The nodes of the schema of a model, without those of other models in it."""
    schema, definitions = internals.unpacked(TypeAdapter(kind).core_schema)
    if schema["type"] == internals.DEFINITION_REF:
        schema = definitions[schema[internals.SCHEMA_REF]]
    parts: list[object] = [schema]
    is_first = True
    while parts:
        part = parts.pop()
        parts.extend(items_of(part))
        if not is_node(part):
            continue
        if internals.is_of_type(part, internals.MODEL):
            if not is_first:
                continue
            is_first = False
        yield part
        parts.extend(internals.children_of(part))


def _is_written_otherwise(node: Node) -> bool:
    if node.get(internals.SERIALIZATION_EXCLUDE) or internals.is_of_type(node, internals.JSON):
        return True
    serialization = node.get(internals.SERIALIZATION)
    if not is_node(serialization):
        return False
    module = getattr(serialization.get(internals.FUNCTION), "__module__", None)
    # Those of pydantic itself do as `wire` does.
    return not str(module).startswith(_OF_PYDANTIC)


_OF_PYDANTIC: Final = ("pydantic._internal.", "pydantic.networks")


# Reading


def with_unset_kept(part: object) -> object:
    """A copy of a part of a schema, in which models take `UNSET` for what it means."""
    if is_node(part):
        is_real = isinstance(part.get(internals.TYPE), str)
        copy: Node = {
            key: value
            if is_real and key in internals.KEYS_WITHOUT_SCHEMAS
            else with_unset_kept(value)
            for key, value in part.items()
        }
        return _model_with_unset(copy) if internals.is_of_type(copy, internals.MODEL) else copy
    items = items_of(part)
    if not items:
        return part
    copies = [with_unset_kept(one) for one in items]
    # The members of a union with labels are tuples.
    return copies if part.__class__ is list else tuple(copies)


def _model_with_unset(node: Node) -> Node:
    kind = node[internals.CLS]
    if not isinstance(kind, type) or not issubclass(kind, BaseModel):
        return node
    # BaseModel itself has no fields.
    if kind is BaseModel or not _form_of(kind).optional:
        return node
    is_root = bool(node.get(internals.ROOT_MODEL))
    if not is_root and not node.get(internals.CUSTOM_INIT):
        # Within it, so that messages name the class.
        return {**node, internals.SCHEMA: _wrapped(_read_fields, node[internals.SCHEMA])}
    ref = node.pop(internals.REF, None)
    return _wrapped(_read_root if is_root else _read_model, node, ref)


def _wrapped(function: Callable[..., object], node: object, ref: object = None) -> Node:
    wrapper = core_schema.no_info_wrap_validator_function(
        function, internals.as_schema(node), ref=None if ref is None else str(ref)
    )
    return {**wrapper}


def _read_fields(data: Any, read: Callable[[object], object]) -> object:
    if data.__class__ is not dict or UNSET not in data:
        return read(data)
    names, rest = _unset_of(data)
    fields, extra, are_set = internals.parts_of_model(read(rest))
    return fields, extra, are_set - names


def _read_model(data: Any, read: Callable[[object], object]) -> object:
    if data.__class__ is not dict or UNSET not in data:
        return read(data)
    names, rest = _unset_of(data)
    return _with_unset(read(rest), names)


def _read_root(data: Any, read: Callable[[object], object]) -> object:
    if data.__class__ is not dict or data.keys() != {UNSET, _ROOT}:
        return read(data)
    names, rest = _unset_of(data)
    return _with_unset(read(rest[_ROOT]), names)


def _with_unset(model: object, names: set[str]) -> object:
    if isinstance(model, BaseModel):
        # Not a copy.
        model.model_fields_set.difference_update(names)
    return model


def _unset_of(data: Mapping[str, object]) -> tuple[set[str], dict[str, object]]:
    names = {name for name in items_of(data[UNSET]) if isinstance(name, str)}
    return names, {key: value for key, value in data.items() if key != UNSET}
