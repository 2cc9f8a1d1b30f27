"""Calls with nothing special about them: what most messages are, told by one look at each."""

from __future__ import annotations

from math import isfinite
from operator import itemgetter
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

_others: Final = itemgetter(
    *("eta", "expires", "shadow", "group", "retries", "timelimit"),
    *("stamps", "stamped_headers", "replaced_task_nesting"),
)
"""The headers that most calls have alike: all at once takes a third of asking for one after the other."""
_NOTHING_MORE: Final[tuple[object, ...]] = (None, None, None, None, 0, [None, None], {}, None, 0)


class _Message(Protocol):
    """``kombu.Message``, as far as it is looked at here."""

    headers: Any
    properties: Any
    content_type: Any

    def decode(self) -> object: ...


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
    if _LOOKED_AT in known:
        looked_at: Arguments | None = known[_LOOKED_AT]
        return looked_at
    found: Arguments | None = None
    if message.content_type in _JSON and _are_ordinary(message.headers, message.properties):
        body: Any = message.decode()
        if type(body) in _LIST and len(body) == len(_BODY):
            args, kwargs, embed = body
            if (type(args), type(kwargs)) == _ARGUMENTS and embed == NO_EMBED:
                found = args, kwargs
    known[_LOOKED_AT] = found
    return found


def _are_ordinary(headers: Any, properties: Any) -> bool:
    get = headers.get
    task_id, root, parent = get("id"), get("root_id"), get("parent_id")
    correlation, reply_to = properties.get("correlation_id"), properties.get("reply_to")
    try:
        # False is 0 for Python.
        says_more = _others(headers) != _NOTHING_MORE or type(headers["retries"]) is not int
    except KeyError:
        says_more = True
    return (
        _is_ascii(task_id)
        and _is_ascii(get("task"))
        # Where one says the same as the id, as most do, there is nothing more to look at.
        and (root is None or root == task_id or _is_ascii(root))
        and (parent is None or _is_ascii(parent))
        and (correlation is None or correlation == task_id or _is_ascii(correlation))
        and (reply_to is None or _is_ascii(reply_to))
        and not (says_more and _ask_for_more(headers))
    )


def _ask_for_more(headers: Any) -> bool:
    """Whether headers that are not all as Celery sets them for an ordinary call mean more than these."""
    get = headers.get
    limits, group, retries = get("timelimit"), get("group"), get("retries", 0)
    return not (
        get("eta") is None
        and get("expires") is None
        and get("shadow") is None
        and (group is None or _is_ascii(group))
        and type(retries) is int
        and retries >= 0
        and (limits in _NO_LIMITS or _are_limits(limits))
        and get("stamps") in _NO_STAMPS
        and get("stamped_headers") in _NO_NAMES
        and not get("replaced_task_nesting")
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
