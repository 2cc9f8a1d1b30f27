"""The wire form of values: what JSON has, and the scalars that kombu's json marks.

Every serializer for JSON, kombu's own and orjson, brings the wire form back as it was. What a
value was before, a set or a model, only the annotation of its receiver tells (`codec`).
"""

from __future__ import annotations

import dataclasses
import enum
import functools
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import PurePath
from typing import Final
from uuid import UUID

from pydantic import BaseModel, TypeAdapter
from pydantic_core import PydanticSerializationError, to_jsonable_python

from tomskit.celery._values.conversion import (
    Converter,
    ConverterTable,
    first_by_base,
    unconverted,
)
from tomskit.celery._values.models import Dataclass, plain_model

__all__ = ("NO_WIRE_FORM", "UNCHANGED", "to_whole_wire", "to_wire")


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
    kind = type(key)
    text = _converter_of(kind)(key)  # type: ignore[arg-type] # classes are hashable
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


def _convert_by_pydantic(value: object) -> object:
    try:
        return to_jsonable_python(value, inf_nan_mode="constants")
    except (PydanticSerializationError, ValueError) as exc:
        raise TypeError(f"{type(value).__qualname__} has no form in JSON: {exc}") from None


@functools.cache
def _converter_of(kind: type) -> Converter:
    """The converter of a class of which nothing else is known: what it tells pydantic, if it does."""
    if not hasattr(kind, "__get_pydantic_core_schema__"):
        return _convert_by_pydantic
    try:
        serializer = TypeAdapter(kind).serializer
    except Exception:  # noqa: BLE001
        # The method is the application's; what is wrong with it shows in the annotation.
        return _convert_by_pydantic

    def convert(value: object) -> object:
        try:
            return serializer.to_python(value, mode="json", warnings="none")
        except (PydanticSerializationError, ValueError) as exc:
            raise TypeError(f"{kind.__qualname__} has no form in JSON: {exc}") from None

    return convert


UNCHANGED: Final[frozenset[type]] = frozenset(
    {str, int, bool, type(None), float, datetime, date, Decimal, UUID, bytes}
)
"""The classes whose values are their own wire form."""
NO_WIRE_FORM: Final = (TypeError, ValueError, RecursionError)
"""What `to_wire` raises; a value that contains itself is a ValueError of pydantic's."""


def _make_table(*, whole: bool) -> ConverterTable:
    def convert_model(value: BaseModel) -> object:
        return table.convert(plain_model(value, whole=whole))

    def convert_dataclass(value: Dataclass) -> object:
        # Its __init__ has to take them where the value arrives.
        names = (field.name for field in dataclasses.fields(value) if field.init)
        return {name: table.convert(getattr(value, name)) for name in names}

    def convert_member(value: enum.Enum) -> object:
        return table.convert(value.value)

    def find(kind: type) -> Converter:
        converter = first_by_base(kind, by_base, _convert_by_pydantic)
        if bool(dataclasses.is_dataclass(kind)):
            return convert_dataclass
        return _converter_of(kind) if converter is _convert_by_pydantic else converter

    table = ConverterTable({}, unchanged=UNCHANGED, key=_convert_key, find=find)
    by_base: tuple[tuple[type, Converter], ...] = (
        (enum.Enum, convert_member),
        (BaseModel, convert_model),
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
        (Mapping, table.convert_pairs),
        (Sequence, table.convert_items),
        (AbstractSet, table.convert_items),
    )
    return table


to_wire: Final[Callable[[object], object]] = _make_table(whole=False).convert
"""The wire form of a value; of what is in wire form already, a copy.

Raises:
    TypeError: It has none. See `NO_WIRE_FORM` for what else.
"""

to_whole_wire: Final[Callable[[object], object]] = _make_table(whole=True).convert
"""The same, with all fields of models: by those that are missing a union may be taken for another.
"""
