"""A ``self`` for functions with ``bind=True``, without an app or a worker."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from celery.exceptions import MaxRetriesExceededError, Retry
from celery.utils import uuid

__all__ = ("FakeRequest", "FakeTask", "RetryCall", "StateUpdate")

_DEFAULT: Final = -1
"""Not given; None is a limit of its own, which is none."""


@dataclass
class FakeRequest:
    """What ``self.request`` says of the call."""

    id: str | None = field(default_factory=uuid)
    root_id: str | None = None
    parent_id: str | None = None
    retries: int = 0
    hostname: str | None = None
    is_eager: bool = False

    def __post_init__(self) -> None:
        self.root_id = self.root_id or self.id


@dataclass(frozen=True)
class RetryCall:
    """A call of ``self.retry``."""

    args: tuple[object, ...] | None
    kwargs: dict[str, object] | None
    exc: Exception | None
    countdown: float | None


@dataclass(frozen=True)
class StateUpdate:
    """A call of ``self.update_state``."""

    task_id: str | None
    state: str | None
    meta: dict[str, object] | None


class FakeTask:
    """A `tomskit.celery.BoundTask` that sends and stores nothing, and remembers what it was asked.

    Args:
        name: The task's name.
        max_retries: Retries before giving up; None never gives up.
        request: The running call; else one with a new id.
        retries: How many times the call has been retried, where no `request` is given.

    Attributes:
        retried: The calls of ``retry``.
        updates: The calls of ``update_state``.
    """

    def __init__(
        self,
        *,
        name: str = "fake",
        max_retries: int | None = 3,
        request: FakeRequest | None = None,
        retries: int = 0,
    ) -> None:
        self.name = name
        self.max_retries = max_retries
        self.request: FakeRequest = FakeRequest(retries=retries) if request is None else request
        self.retried: list[RetryCall] = []
        self.updates: list[StateUpdate] = []

    def retry(
        self,
        *,
        args: tuple[object, ...] | None = None,
        kwargs: dict[str, object] | None = None,
        exc: Exception | None = None,
        throw: bool = True,
        countdown: float | None = None,
        max_retries: int | None = _DEFAULT,
    ) -> Retry:
        """Do what a real task's does, except for sending it again.

        Raises:
            celery.exceptions.Retry: Unless `throw` is false.
            celery.exceptions.MaxRetriesExceededError: There have been too many retries, and no `exc`
                was given, which would be raised in its place.
        """
        self.retried.append(RetryCall(args, kwargs, exc, countdown))
        limit = self.max_retries if max_retries in {_DEFAULT, None} else max_retries
        if limit is not None and self.request.retries >= limit:
            if exc is not None:
                raise exc
            raise MaxRetriesExceededError(
                f"Can't retry {self.name}[{self.request.id}] args:{args} kwargs:{kwargs}"
            )
        when: Any = countdown  # celery-types wants a Real, which no float is to type checkers
        retry = Retry(exc=exc, when=when)
        if throw:
            raise retry
        return retry

    def update_state(
        self,
        *,
        task_id: str | None = None,
        state: str | None = None,
        meta: dict[str, object] | None = None,
    ) -> None:
        """Remember the state."""
        self.updates.append(StateUpdate(task_id, state, meta))
