"""Equality that knows nothing of the library's."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime, time
from decimal import Decimal
from typing import Any, cast

from pydantic import BaseModel


def same(one: object, other: object) -> bool:
    """Equal and of the same type, everywhere inside."""
    if type(one) is not type(other):
        return False
    if not is_composite(one):
        return exact(one) == exact(other)
    parts, other_parts = parts_of(one), parts_of(other)
    if isinstance(one, (dict, set, frozenset)):
        return matched(parts, other_parts, same)
    return len(parts) == len(other_parts) and all(map(same, parts, other_parts))


def exact(value: object) -> object:
    """What equals only what `value` is the same as."""
    if isinstance(value, (float, Decimal)):
        # Tells the zeros apart, and makes NaN itself.
        return repr(value)
    if isinstance(value, (datetime, time)):
        # Zones become offsets, and a moment that a fold repeats equals none of another zone.
        return value.replace(tzinfo=None, fold=0), value.utcoffset()
    return value


def is_composite(value: object) -> bool:
    return is_a((list, tuple, dict, set, frozenset, deque, BaseModel), value) or (
        dataclasses.is_dataclass(value)
    )


def is_a(kinds: type | tuple[type, ...], value: object) -> bool:
    # isinstance(), without what checkers conclude from it.
    return isinstance(value, kinds)


def are(kinds: type | tuple[type, ...], *values: object) -> bool:
    return all(is_a(kinds, value) for value in values)


def parts_of(value: object) -> list[object]:
    if isinstance(value, BaseModel):
        held = {name: value.__dict__.get(name) for name in type(value).model_fields}
        return [held, value.__pydantic_extra__, value.__pydantic_private__]
    if isinstance(value, dict):
        return [*cast("dict[object, object]", value).items()]
    if isinstance(value, deque):
        return [cast("deque[object]", value).maxlen, *cast("deque[object]", value)]
    if isinstance(value, (list, tuple, set, frozenset)):
        return [*cast("Sequence[object]", value)]
    fields = dataclasses.fields(cast("Any", value))
    return [cast("object", getattr(value, field.name)) for field in fields]


def matched(
    parts: list[object], others: list[object], are_same: Callable[[object, object], bool]
) -> bool:
    """Whether they are the same in some order."""
    left = [*others]
    for part in parts:
        place = next((i for i, other in enumerate(left) if are_same(part, other)), None)
        if place is None:
            return False
        del left[place]
    return not left
