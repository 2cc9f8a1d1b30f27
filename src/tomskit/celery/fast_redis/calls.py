"""Calls with nothing special about them: what most messages are, told by one look at each."""

from __future__ import annotations

from math import isfinite
from typing import Any, Final, Protocol

from tomskit.celery._internals.celery_request import NO_EMBED

__all__ = ("Arguments", "ordinary_call")

Arguments = tuple[list[Any], dict[str, Any]]

_JSON: Final = frozenset({"application/json", "application/x-tomskit-orjson"})
_BODY: Final = ("args", "kwargs", "embed")
_LIST: Final[tuple[type[object], ...]] = (list,)
_ARGUMENTS: Final[tuple[type[object], ...]] = (list, dict)
_LIMITS: Final = ("hard", "soft")
_NO_LIMITS: Final = (None, [None, None])
_NO_STAMPS: Final[tuple[object, ...]] = (None, {})
_NO_NAMES: Final[tuple[object, ...]] = (None, [])

_LOOKED_AT: Final = "_tomskit_call"
_UNKNOWN: Final = object()


class _Message(Protocol):
    """``kombu.Message``, as far as it is looked at here."""

    headers: Any
    properties: Any
    content_type: Any

    @property
    def payload(self) -> object: ...


def ordinary_call(message: _Message) -> Arguments | None:
    """The arguments in a message of Celery's second protocol that says nothing but what to call.

    It has neither a schedule nor an expiry, stamps, links or a workflow around it, and everything in it
    is as Celery writes it. It is looked at once, however often this is asked.

    Args:
        message: The message; it is decoded if it is one.

    Returns:
        Its args and its kwargs; None if there is anything else.

    Raises:
        Exception: Its body cannot be decoded.
    """
    known: dict[str, Any] = message.__dict__
    found = known.get(_LOOKED_AT, _UNKNOWN)
    if found is _UNKNOWN:
        found = known[_LOOKED_AT] = _arguments(message)
    arguments: Arguments | None = found
    return arguments


def _arguments(message: _Message) -> Arguments | None:
    if message.content_type not in _JSON or not _are_ordinary(message.headers, message.properties):
        return None
    body: Any = message.payload
    if type(body) not in _LIST or len(body) != len(_BODY):
        return None
    args, kwargs, embed = body
    if (type(args), type(kwargs)) != _ARGUMENTS or embed != NO_EMBED:
        return None
    return args, kwargs


def _are_ordinary(headers: Any, properties: Any) -> bool:
    get = headers.get
    task_id = get("id")
    limits = get("timelimit")
    retries = get("retries", 0)
    # Where one says the same as the id, as most do, there is nothing more to look at.
    return (
        _is_ascii(task_id)
        and _is_ascii(get("task"))
        and get("eta") is None
        and get("expires") is None
        and get("shadow") is None
        and ((text := get("root_id")) is None or text == task_id or _is_ascii(text))
        and ((text := get("parent_id")) is None or _is_ascii(text))
        and ((text := get("group")) is None or _is_ascii(text))
        and type(retries) is int
        and retries >= 0
        and (limits in _NO_LIMITS or _are_limits(limits))
        and get("stamps") in _NO_STAMPS
        and get("stamped_headers") in _NO_NAMES
        and not get("replaced_task_nesting")
        and (
            (text := properties.get("correlation_id")) is None or text == task_id or _is_ascii(text)
        )
        and ((text := properties.get("reply_to")) is None or _is_ascii(text))
    )


def _is_ascii(value: Any) -> bool:
    """Whether this is a text, and not an empty one, which could be sent in any encoding."""
    return type(value) is str and value != "" and value.isascii()


def _are_limits(limits: Any) -> bool:
    return (
        type(limits) in _LIST
        and len(limits) == len(_LIMITS)
        and all(
            limit is None or (type(limit) in {int, float} and isfinite(limit)) for limit in limits
        )
    )
