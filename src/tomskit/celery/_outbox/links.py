"""The ids of tasks that are called when a task with once=True has ended: the same after each delivery."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import count
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import UUID, uuid5

if TYPE_CHECKING:
    from celery.app.task import Context

__all__ = ("name_links",)

_NAMESPACE: Final = UUID("0f8a2d4e-3f7f-4b53-9b57-6a4d8c0f3f52")
_CHAIN: Final = "chain"
_WITH_THE_ID_OF_THE_LAST: Final = frozenset({"chain", "chord"})
_PARTS: Final = ("tasks", "header", "body")
"""The arguments of a chain, a group or a chord that are signatures, or lists of them."""


def name_links(request: Context) -> None:
    """Give the links and error links of a call ids that are made of its own.

    Celery gives them new ones whenever they are called, and a mark of theirs would be found by no later delivery.
    Links that have ids keep them.
    """
    if not (request.callbacks or request.errbacks):
        return
    numbers = count()

    def new_id() -> str:
        return str(uuid5(_NAMESPACE, f"{request.id} {next(numbers)}"))

    request.callbacks = _named_parts(request.callbacks, new_id)
    request.errbacks = _named_parts(request.errbacks, new_id)


def _named_parts(part: Any, new_id: Callable[[], str]) -> Any:
    if not isinstance(part, (list, tuple)):
        return _named(part, new_id)
    several: Iterable[Any] = cast("Iterable[Any]", part)
    return [_named(one, new_id) for one in several]


def _named(signature: Any, new_id: Callable[[], str]) -> Any:
    """A copy of a signature, as it is in a message, in which each task has an id."""
    if not isinstance(signature, Mapping):
        return signature
    made: dict[str, Any] = {**signature}
    options: dict[str, Any] = {**(made.get("options") or {})}
    kind = made.get("subtask_type")
    if kind is not None:
        kwargs: dict[str, Any] = {**(made.get("kwargs") or {})}
        for name in _PARTS:
            if name in kwargs:
                kwargs[name] = _named_parts(kwargs[name], new_id)
        if kind == _CHAIN and "task_id" in options and kwargs.get("tasks"):
            # It is that of its last task.
            kwargs["tasks"][-1] = made["kwargs"]["tasks"][-1]
        made["kwargs"] = kwargs
    if kind not in _WITH_THE_ID_OF_THE_LAST:
        options.setdefault("task_id", new_id())
    for name in ("link", "link_error"):
        if options.get(name):
            options[name] = _named_parts(options[name], new_id)
    made["options"] = options
    return made
