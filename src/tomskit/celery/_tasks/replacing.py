"""``self.replace()`` in eager mode, which ends the body of an async task as it does in a worker.

Celery runs the other task within the body there and returns its result, so that ``raise self.replace()`` is a
TypeError, and a transaction of the body that is still open is in the way of the other one's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from celery.canvas import Signature
from celery.exceptions import Ignore

from tomskit.celery._internals.celery_tasks import ChainSignature
from tomskit.celery._tasks.contained import ContainedTask

__all__ = ("ReplacingTask", "run_replaced")


P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)


class _ReplacedError(Ignore):
    """The body has given its place to a signature."""

    def __init__(self, signature: Signature[Any]) -> None:
        super().__init__("Replaced by another task")
        self.signature = signature


class ReplacingTask(ContainedTask[P, R_co]):
    """A task whose body ends with ``self.replace()``, wherever it runs."""

    if not TYPE_CHECKING:

        def on_replace(self, sig: Signature[object]) -> object:
            # A class of a user's may have a plain body.
            if self.request.is_eager and hasattr(self, "_tomskit_function"):
                raise _ReplacedError(sig)
            return super().on_replace(sig)


def run_replaced(body: Callable[[], object], dump: Callable[[object], object]) -> object:
    """Run a body, and after its end what it has given its place to."""
    try:
        return body()
    except _ReplacedError as exc:
        signature = exc.signature
    if isinstance(signature, ChainSignature):
        # Celery gives it to each step of a chain that runs eagerly, and to a mark these are one task.
        signature.options.pop("task_id", None)
    return dump(signature.apply().get())
