"""What a task reports while it runs: a model, a dataclass or a TypedDict of the user's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from functools import lru_cache
from typing import Final, TypeVar, cast

from pydantic import BaseModel

from tomskit.celery._values.results import Result
from tomskit.celery._values.slots import shown
from tomskit.celery._values.wire import NO_WIRE_FORM, to_wire
from tomskit.errors import ConfigurationError, TaskResultError

__all__ = ("dump_progress", "progress_loader")

T = TypeVar("T")

_KINDS: Final = 1000
"""How many types of progress are kept ready."""


def progress_loader(name: str, kind: type[T]) -> Callable[[object], T]:
    """Makes of the wire form of progress what the task has reported.

    Args:
        name: The task's name, for messages.
        kind: The type of what the task reports.

    Raises:
        ConfigurationError: It is a type that cannot be sent.
    """
    annotation: object = kind
    if _is_value(annotation):
        raise ConfigurationError(
            f"progress() takes the type of what {name} reports, not {shown(annotation)}: "
            "result.progress(Progress)."
        )
    return cast("Callable[[object], T]", _type(name, annotation).load)


def _is_value(found: object) -> bool:
    """Whether somebody has given what is reported, or its name, in the place of its type."""
    if isinstance(found, type):
        return False
    return isinstance(found, (str, BaseModel, Mapping)) or is_dataclass(found)


@lru_cache(_KINDS)
def _type(name: str, kind: object) -> Result:
    return Result(name, kind, "progress")


def dump_progress(name: str, value: object) -> dict[str, object]:
    """The wire form of what a task reports.

    Raises:
        ConfigurationError: It is of a type that cannot be sent.
        TaskResultError: It has no fields, or would arrive as something else.
    """
    wire = _wire_of(name, value)
    if not isinstance(wire, dict):
        raise TaskResultError(
            f"{name}: its progress is {shown(value)}, which has no fields: "
            "report a model, a dataclass or a TypedDict."
        )
    return cast("dict[str, object]", wire)


def _wire_of(name: str, value: object) -> object:
    if isinstance(value, Mapping):
        # Nothing says any more of which TypedDict it is; its reader finds that out.
        plain = {**cast("Mapping[object, object]", value)}
        try:
            return to_wire(plain)
        except NO_WIRE_FORM as exc:
            raise TaskResultError(
                f"{name}: its progress is {shown(plain)}, which cannot be sent: {exc}"
            ) from None
    kind: object = type(value)
    has_fields = isinstance(value, BaseModel) or is_dataclass(kind)
    return _type(name, kind).dump(value) if has_fields else None
