"""``self.replace()`` in a body that is committed once, in eager mode.

Celery runs the other task within the body there, whose transaction is still open and would be committed with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import Task
from celery.canvas import Signature
from celery.exceptions import Ignore

from tomskit.celery._internals.celery_tasks import ChainSignature
from tomskit.celery._outbox.databases import database_of

__all__ = ("replace_after", "run_replaced")


class _ReplacedError(Ignore):
    """The body has given its place to a signature, and is to be rolled back."""

    def __init__(self, signature: Signature[Any]) -> None:
        super().__init__("Replaced by another task")
        self.signature = signature


def replace_after(task: Task[..., Any], signature: Signature[Any]) -> None:
    """End a body of a task that runs once in eager mode; any other goes on.

    Raises:
        Ignore: It ends here.
    """
    if task.request.is_eager and database_of(task) is not None:
        raise _ReplacedError(signature)


def run_replaced(body: Callable[[], object], dump: Callable[[object], object]) -> object:
    """Run a body that is committed once, and what it gives its place to after it was rolled back."""
    try:
        return body()
    except _ReplacedError as exc:
        signature = exc.signature
    if isinstance(signature, ChainSignature):
        # Celery gives it to each step of a chain that runs eagerly, and to a mark these are one task.
        signature.options.pop("task_id", None)
    return dump(signature.apply().get())
