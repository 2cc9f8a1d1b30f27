"""TaskRequest and BoundTask: what a function with ``bind=True`` sees of its task."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from celery.exceptions import Retry

__all__ = ("BoundTask", "TaskRequest")


@runtime_checkable
class TaskRequest(Protocol):
    """The running call, as ``self.request`` describes it."""

    @property
    def id(self) -> str | None:
        """The task's id."""
        ...

    @property
    def root_id(self) -> str | None:
        """The id of the first task of this workflow."""
        ...

    @property
    def parent_id(self) -> str | None:
        """The id of the task that sent this one."""
        ...

    @property
    def retries(self) -> int:
        """How many times the task has been retried."""
        ...

    @property
    def hostname(self) -> str | None:
        """The name of the worker that runs it."""
        ...

    @property
    def is_eager(self) -> bool:
        """Whether it runs in the process of its caller, without a worker."""
        ...


@runtime_checkable
class BoundTask(Protocol):
    """The ``self`` of a function with ``bind=True``; small, so that a test can fake it."""

    @property
    def name(self) -> str:
        """The registered name."""
        ...

    @property
    def max_retries(self) -> int | None:
        """Retries before giving up; None never gives up."""
        ...

    @property
    def request(self) -> TaskRequest:
        """The running call."""
        ...

    def retry(
        self,
        *,
        args: tuple[object, ...] | None = None,
        kwargs: dict[str, object] | None = None,
        exc: Exception | None = None,
        throw: bool = True,
        countdown: float | None = None,
        max_retries: int | None = None,
    ) -> Retry:
        """Send the task again: ``raise self.retry(countdown=10)`` (seconds).

        Args:
            args: Positional arguments that replace those of this call.
            kwargs: Keyword arguments that replace those of this call.
            exc: The exception to raise once there have been too many retries.
            throw: Raise the exception that tells the worker, rather than return it.
            countdown: How long to wait.
            max_retries: Another limit for this call.
        """
        ...

    def update_state(
        self,
        *,
        task_id: str | None = None,
        state: str | None = None,
        meta: dict[str, object] | None = None,
    ) -> None:
        """Store a state of your own, such as progress."""
