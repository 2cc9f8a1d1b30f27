"""The wire form of values: what JSON has, and the scalars that kombu's json marks.

Every serializer for JSON, kombu's own and orjson, brings the wire form back as it was. What a
value was before, a set or a model, only the annotation of its receiver tells (`codec`).
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import PurePath
from typing import ClassVar, Final, Protocol
from uuid import UUID

from pydantic import BaseModel, RootModel
from pydantic_core import PydanticSerializationError, to_jsonable_python

from tomskit.celery._internals.pydantic_core import dataclass_extra
from tomskit.celery._values.conversion import (
    Converter,
    ConverterTable,
    first_by_base,
    unconverted,
)

__all__ = ("NO_WIRE_FORM", "UNCHANGED", "Dataclass", "attributes", "to_wire")


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


def _convert_key(key: object) -> str:
    if isinstance(key, enum.Enum):
        return _convert_key(key.value)
    if isinstance(key, str):
        return str.__str__(key)
    if isinstance(key, time):
        return _convert_time(key).isoformat()
    if isinstance(key, date):
        return key.isoformat()
    if isinstance(key, (int, float, Decimal, UUID, PurePath)):
        return str(key)
    text = _convert_by_pydantic(key)
    if not isinstance(text, str):
        raise TypeError(
            f"JSON has only text as keys, and the key {key!r} has no text form: use str keys"
        )
    return text


def _convert_time(value: time) -> time:
    if value.tzinfo is not None and value.utcoffset() is None:
        raise TypeError(
            f"{value!r} would lose its time zone, which has no offset without a date: "
            "send a datetime, or the zone's name as another value"
        )
    return value


def _convert_model(value: BaseModel) -> object:
    # By field names: a model's aliases may differ for reading and for writing.
    serializer = type(value).__pydantic_serializer__
    try:
        plain: object = serializer.to_python(
            value, mode="python", by_alias=False, round_trip=True, warnings=False
        )
    except TypeError:
        # It makes dicts of models and dataclasses in sets, too, and these are not hashable.
        whole = {**attributes(value), **(value.__pydantic_extra__ or {})}
        plain = whole["root"] if isinstance(value, RootModel) else whole
    return to_wire(plain)


def _convert_dataclass(value: Dataclass) -> object:
    # Its __init__ has to take them where the value arrives.
    names = (field.name for field in dataclasses.fields(value) if field.init)
    return {name: to_wire(getattr(value, name)) for name in names}


def _convert_member(value: enum.Enum) -> object:
    return to_wire(value.value)


def _convert_by_pydantic(value: object) -> object:
    try:
        return to_jsonable_python(value, inf_nan_mode="constants")
    except (PydanticSerializationError, ValueError) as exc:
        raise TypeError(f"{type(value).__qualname__} has no form in JSON: {exc}") from None


def _find(kind: type) -> Converter:
    converter = first_by_base(kind, _BY_BASE, _convert_by_pydantic)
    return _convert_dataclass if dataclasses.is_dataclass(kind) else converter


UNCHANGED: Final[frozenset[type]] = frozenset(
    {str, int, bool, type(None), float, datetime, date, Decimal, UUID, bytes}
)
"""The classes whose values are their own wire form."""
NO_WIRE_FORM: Final = (TypeError, ValueError, RecursionError)
"""What `to_wire` raises; a value that contains itself is a ValueError of pydantic's."""

_table: Final = ConverterTable({}, unchanged=UNCHANGED, key=_convert_key, find=_find)
_BY_BASE: Final[tuple[tuple[type, Converter], ...]] = (
    (enum.Enum, _convert_member),
    (BaseModel, _convert_model),
    (str, str.__str__),
    (int, int),
    (float, float),
    (bytes, bytes),
    (bytearray, bytes),
    (time, _convert_time),
    # Serializers write these and their subclasses (pendulum's, freezegun's) alike.
    (date, unconverted),
    (Decimal, unconverted),
    (UUID, unconverted),
    (PurePath, str),
    (Mapping, _table.convert_pairs),
    (Sequence, _table.convert_items),
    (AbstractSet, _table.convert_items),
)

to_wire: Final[Callable[[object], object]] = _table.convert
"""The wire form of a value; of what is in wire form already, a copy.

Raises:
    TypeError: It has none. See `NO_WIRE_FORM` for what else.
"""
