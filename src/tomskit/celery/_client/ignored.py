"""Which of the tasks that are sent have no result: nobody is to wait for one."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from celery.result import AsyncResult, ResultSet

__all__ = ("ignores_result", "is_ignored", "mark_ignored", "note_ignored", "noting_ignored")

_noted: Final[ContextVar[set[str] | None]] = ContextVar("tomskit_ignored", default=None)


@contextmanager
def noting_ignored() -> Generator[set[str]]:
    """Collect the ids of tasks without a result that are sent meanwhile."""
    ids: set[str] = set()
    token = _noted.set(ids)
    try:
        yield ids
    finally:
        _noted.reset(token)


def note_ignored(result: AsyncResult[Any]) -> None:
    """Note the task of this result, which was just sent, if it has none."""
    ids = _noted.get()
    if ids is not None and result.ignored:
        ids.add(result.id)


def mark_ignored(result: object, ids: set[str]) -> None:
    """Let nobody wait for the results of these tasks.

    Celery makes the results of a group before it sends the tasks, and these do not know of it.
    """
    if isinstance(result, ResultSet):
        for member in result.results or ():
            mark_ignored(member, ids)
    elif isinstance(result, AsyncResult) and result.id in ids:
        result.ignored = True


def is_ignored(result: object) -> bool:
    """Whether there is nothing to wait for."""
    return isinstance(result, AsyncResult) and bool(result.ignored)


def ignores_result(signature: Any) -> bool:
    """Whether the task of a signature will have no result, if it is sent as the signature says."""
    ignored = signature.options.get("ignore_result")
    if ignored is None:
        ignored = getattr(signature.app.tasks.get(signature.task), "ignore_result", False)
    return bool(ignored)
