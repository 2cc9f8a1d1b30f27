"""How deeply a value is nested, and whether it is in itself."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias, TypeGuard

from pydantic import BaseModel

from tomskit.celery._values.models import attributes

__all__ = ("DEEPEST", "TOO_DEEP", "Path", "nesting_error", "part_at", "path_text", "too_deep")

DEEPEST: Final = 255
"""Levels. pydantic-core gives up there, and JSON's readers and writers at a depth that depends on
what else is on the stack: a value has to be readable in any worker."""

TOO_DEEP: Final = f"it is nested more than {DEEPEST} levels deep: send a flat list, or identifiers"
IN_ITSELF: Final = "it contains itself, and JSON cannot: send identifiers in place of references"

Path: TypeAlias = tuple[object, ...]
"""Where a part is in a value: indices, keys and names of attributes."""


def path_text(label: str, path: Path) -> str:
    """A part of a value for a message, as pydantic writes it: ``order.lines.0.price``."""
    steps = [*map(str, path)]
    if len(steps) > _SHOWN:
        steps = [*steps[: _SHOWN // 2], "...", *steps[-_SHOWN // 2 :]]
    return ".".join((label, *steps))


def too_deep(label: str, path: Path, part: object) -> str:
    """The error for a value that is nested too deeply."""
    return f"{path_text(label, path)} is a {type(part).__qualname__}: {TOO_DEEP}"


def nesting_error(label: str, value: object) -> str | None:
    """What is wrong with the nesting of a value, if it cannot be sent for that reason."""
    above: set[int] = set()
    done: set[int] = set()
    # Each part twice: to look into it, and when all of it was seen.
    waiting: list[tuple[object, Path, bool]] = [(value, (), False)]
    while waiting:
        part, path, was_seen = waiting.pop()
        if was_seen:
            above.discard(id(part))
            done.add(id(part))
            continue
        inner = [*_parts_of(part)]
        if not inner or id(part) in done:
            continue
        if id(part) in above:
            return f"{path_text(label, path)} is a {type(part).__qualname__}: {IN_ITSELF}"
        if len(path) >= DEEPEST:
            return too_deep(label, path, part)
        above.add(id(part))
        waiting.append((part, path, True))
        waiting.extend((one, (*path, key), False) for key, one in reversed(inner))
    return None


def part_at(value: object, location: Iterable[object]) -> object:
    """The part of a value that an error of pydantic's is about.

    In its location there are the members of unions as well.
    """
    for step in location:
        parts = dict(_parts_of(value))
        value = parts.get(step, value)
    return value


def _parts_of(value: object) -> Iterable[tuple[object, object]]:
    if _is_mapping(value):
        return value.items()
    if _has_items(value):
        return enumerate(value)
    if isinstance(value, BaseModel):
        return {**attributes(value), **(value.__pydantic_extra__ or {})}.items()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return attributes(value).items()
    return ()


def _is_mapping(value: object) -> TypeGuard[Mapping[object, object]]:
    return isinstance(value, Mapping)


def _has_items(value: object) -> TypeGuard[Iterable[object]]:
    return isinstance(value, (list, tuple, set, frozenset, deque))


_SHOWN: Final = 8
"""Steps of a path in a message."""
