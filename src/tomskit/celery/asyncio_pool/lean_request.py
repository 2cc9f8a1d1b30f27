"""LeanRequest: Celery's request of a task, made without what an ordinary message does not need."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol
from weakref import ref

from celery.exceptions import TaskRevokedError
from typing_extensions import override

from tomskit.celery._internals.celery_lean import (
    LeanRequestBase,
    fill_request,
    is_revoked,
    note_accepted,
    note_success,
)
from tomskit.celery._internals.celery_task_lines import logs_accepted, sends_events

__all__ = ("LeanRequest",)


class _Pool(Protocol):
    def apply_lean(self, request: LeanRequest, /) -> object: ...


class LeanRequest(LeanRequestBase):
    """The request of a message whose arguments are decoded already.

    Args:
        **parts: As of `fill_request`.
    """

    __slots__ = ()

    if TYPE_CHECKING:

        def __init__(self, **parts: Any) -> None: ...

    else:
        # Not a method that calls it: to pass so many arguments on takes 1 us.
        __init__ = fill_request

    @override
    def revoked(self) -> bool:
        # It has no expiry, and no stamps: what Celery looks at besides.
        return (self._already_revoked or is_revoked(self.id)) and super().revoked()

    @override
    def on_accepted(self, pid: int, time_accepted: float) -> object:
        if logs_accepted():
            return super().on_accepted(pid, time_accepted)
        self.worker_pid: int | None = pid
        self.time_start: float | None = time.time() - (time.monotonic() - time_accepted)
        note_accepted(self)
        if not self.task.acks_late:
            self.acknowledge()
        self.send_event("task-started")
        if self._terminate_on_ack is not None:
            self.terminate(*self._terminate_on_ack)
        return None

    @override
    def on_success(self, failed__retval__runtime: Any, **kwargs: object) -> object:
        failed, retval, runtime = failed__retval__runtime
        if failed:
            return super().on_success(failed__retval__runtime, **kwargs)
        late = self.task.acks_late
        note_success(self, late=late)
        if late:
            self.acknowledge()
        self.send_event("task-succeeded", result=retval, runtime=runtime)
        return None

    @override
    def send_event(self, type: str, **fields: object) -> object:
        # Otherwise the dispatcher would be asked for each, and drop it.
        return super().send_event(type, **fields) if sends_events(self.eventer) else None

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
