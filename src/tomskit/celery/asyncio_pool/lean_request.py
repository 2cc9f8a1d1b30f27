"""LeanRequest: Celery's request of a task, made without what an ordinary message does not need."""

from __future__ import annotations

from typing import Any, Protocol
from weakref import ref

from celery.exceptions import TaskRevokedError

from tomskit.celery._internals.celery_lean import LeanRequestBase, fill_request

__all__ = ("LeanRequest",)


class _Pool(Protocol):
    def apply_lean(self, request: LeanRequest, /) -> object: ...


class LeanRequest(LeanRequestBase):
    """The request of a message whose arguments are decoded already.

    Args:
        **parts: As of `fill_request`.
    """

    __slots__ = ()

    def __init__(self, **parts: Any) -> None:
        fill_request(self, **parts)

    def execute_using_pool(self, pool: _Pool, **_: object) -> object:
        """Have the pool run the task; called by Celery's worker.

        Raises:
            celery.exceptions.TaskRevokedError: The task was revoked.
        """
        if self.revoked():
            raise TaskRevokedError(self.id)
        job = pool.apply_lean(self)
        # Weak, as Celery calls it.
        self._apply_result = ref(job)
        return job
