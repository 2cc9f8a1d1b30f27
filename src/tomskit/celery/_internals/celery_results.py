"""Celery: results, and where they are kept once they have been read.

`AsyncResult._cache`
    For: knowing that the outcome of a task has been read.
    When it is missing: awaiting a result raises AttributeError.

`AsyncResult._set_cache`
    For: converting what a task has returned to the type that its function returns. Every reader of a
    result comes by this method.
    When it is missing: ``get()`` and ``await`` return values as JSON has them.

`AsyncResult._get_task_meta`
    For: reading the progress of a task that does not store it in Redis.
    When it is missing: ``result.progress(...)`` raises AttributeError.

`AsyncResult._maybe_set_cache`
    For: keeping an outcome that Redis has announced.
    When it is missing: awaiting a result raises AttributeError.

`Backend.remove_pending_result` and `Backend._cache`
    For: forgetting a result whose key the event loop has deleted.
    When it is missing: ``await result.aforget()`` raises AttributeError.

`AsyncResult._maybe_reraise_parent_error`
    For: raising, while a result is awaited, what an earlier task of its chain has raised.
    When it is missing: awaiting the result of a chain that does not wait in Redis raises
    AttributeError.

`AsyncResult.__copy__` and `__reduce_args__`
    For: copies that know the name of their task.
    When it is missing: a copied or pickled result returns values as JSON has them.

`GroupResult.iter_native`
    For: converting the results of a group, which backends may hand out as they have read them.
    When it is missing: ``get()`` of a group returns values as JSON has them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from celery import result

__all__ = (
    "AsyncResult",
    "drop_outcome",
    "has_outcome",
    "keep_outcome",
    "kept_outcome",
    "meta_of",
    "raise_error_of_parents",
)

R_co = TypeVar("R_co", covariant=True)

if TYPE_CHECKING:

    class AsyncResult(result.AsyncResult[R_co]):
        """``celery.result.AsyncResult``.

        Attributes:
            _cache: What the result backend has of the task, once it has ended and that was read.
        """

        _cache: dict[str, object] | None

else:
    AsyncResult = result.AsyncResult


def keep_outcome(of: Any, meta: dict[str, Any]) -> dict[str, Any]:
    """Keep in a result what the result backend has of its task, if the task has ended.

    Returns:
        What is kept, or `meta` of a task that has not ended.
    """
    kept: dict[str, Any] = of._maybe_set_cache(meta)
    return kept


def has_outcome(of: Any) -> bool:
    """Whether a result has read how its task ended."""
    return of._cache is not None


def meta_of(of: Any) -> dict[str, Any]:
    """What the result backend has of a task; what has ended is kept in its result."""
    meta: dict[str, Any] = of._get_task_meta()
    return meta


def drop_outcome(of: Any) -> None:
    """Let a result forget its outcome, and that it is waited for, as its ``forget()`` does."""
    of._cache = None
    of.backend.remove_pending_result(of)
    of.backend._cache.pop(of.id, None)


def kept_outcome(of: Any, meta: dict[str, Any]) -> dict[str, Any]:
    """Keep an outcome in a result that has none, and return what is kept."""
    kept: dict[str, Any] = of._cache or of._set_cache(meta)
    return kept


def raise_error_of_parents(of: Any) -> None:
    """Raise what an earlier task of the chain has raised, if one has failed."""
    of._maybe_reraise_parent_error()
