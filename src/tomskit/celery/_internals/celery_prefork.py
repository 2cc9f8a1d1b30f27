"""Celery and billiard: the jobs of a prefork pool, and a pool that keeps those it has handed to its processes.

`celery.concurrency.prefork.TaskPool.Pool`, of which Celery makes `_pool` with a method ``flush`` that drops
each job that is not accepted
    For: keeping the jobs that a process was given when the connection to the broker is lost, or the worker
    stops.
    When it is missing: such a task runs, and its message is delivered again.

``AsynPool._cache``, of the jobs in it `_write_to`, `_accepted`, `_worker_pid`, `_accept_callback` and `discard`,
and ``_is_alive`` of a process
    For: the same: which jobs these are, and of which messages.
    When it is missing: the worker ends with AttributeError when it loses its connection.

``AsynPool._put_back``, which gives a job to another process, and ``_state``, which is `RUN` until the pool stops
    For: running the job of a process that has died just then.
    When it is missing: the worker ends with AttributeError when it loses its connection.

``AsynPool._flush_writer``, ``_active_writers``, and `_writer` of a job
    For: giving the rest of a job to its process when the worker stops.
    When it is missing: a worker that stops just then never ends.

``AsynPool._worker_active``
    For: not stopping a process that has just been given a job when the pool shrinks.
    When it is missing: the pool may stop such a process, and its task fails or starts again.

``AsynPool.TimeoutHandler``, a class whose `on_soft_timeout` interrupts the process of a job
    For: interrupting a task once. At a warm shutdown billiard looks at all limits anew, and knows of no
    soft limit that it has told.
    When it is missing: a task that cleans up at its soft limit is interrupted again when the worker stops.
    Interrupted while it writes its result, the process leaves a part of that in the pipe, and the worker never ends.

``billiard.pool.Worker`` and ``celery.concurrency.asynpool.Worker``, whose ``after_fork`` handles the signal of soft limits, and
whose ``on_loop_start`` follows, with the function ``wait_for_job`` that reads the next job; of pools as ``Worker``, and
``TaskPool.BlockingPool``
    For: interrupting a process at a soft limit while the code of its task runs, and at no other time.
    When it is missing: a soft limit that passes while a process writes the result leaves a part of that in the
    pipe, and the worker never ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol
from weakref import WeakSet, ref

from billiard import pool as billiard_pool
from celery.concurrency import asynpool
from celery.concurrency.prefork import TaskPool as PreforkPool
from typing_extensions import override

from tomskit.celery._internals.celery_worker import request_of

__all__ = (
    "AsyncProcess",
    "BlockingProcess",
    "KeepingJobs",
    "PoolProcess",
    "PreforkPool",
    "blocking_jobs_class_of",
    "jobs_class_of",
    "tags_of_kept",
)

_pool: Final[Any] = billiard_pool


class _Process(Protocol):
    def _is_alive(self) -> bool: ...


class _Job(Protocol):
    _accepted: bool
    _worker_pid: int | None
    _write_to: _Process | None
    _writer: ref[object]
    _accept_callback: object

    def discard(self) -> None: ...


if TYPE_CHECKING:

    class _Jobs:
        """``celery.concurrency.asynpool.AsynPool``; at run time any class of that kind."""

        _cache: dict[int, _Job]
        _active_writers: set[object]
        _state: object

        def flush(self) -> None: ...
        def _flush_writer(self, proc: _Process, writer: object) -> None: ...
        def _put_back(self, job: _Job) -> None: ...
        def _worker_active(self, worker: _Process) -> bool: ...

    class _Limits:
        """``billiard.pool.TimeoutHandler``."""

        def __init__(self, *args: object) -> None: ...
        def on_soft_timeout(self, job: object) -> None: ...

    class PoolProcess:
        """What a process of the pool runs; at run time any class of that kind."""

        wait_for_job: Callable[[], tuple[object, tuple[Any, ...]] | None]

        def after_fork(self) -> None: ...
        def on_loop_start(self, pid: int) -> None: ...

    class AsyncProcess(PoolProcess):
        """``celery.concurrency.asynpool.Worker``."""

    class BlockingProcess(PoolProcess):
        """``billiard.pool.Worker``."""

else:
    _Jobs = PoolProcess = object
    _Limits = billiard_pool.TimeoutHandler
    AsyncProcess = asynpool.Worker
    BlockingProcess = billiard_pool.Worker


class _InterruptingOnce(_Limits):
    """Interrupts each job once at its soft limit."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self.interrupted = WeakSet[object]()

    @override
    def on_soft_timeout(self, job: object) -> None:
        if job not in self.interrupted:
            self.interrupted.add(job)
            super().on_soft_timeout(job)


class KeepingJobs(_Jobs):
    """Keeps the jobs that a prefork pool has handed to its processes; goes in front of its `AsynPool`.

    Celery drops them when the connection to the broker is lost, and when the worker stops, as the broker
    delivers them again. But they run, since what was written to a process cannot be taken back. So they are
    kept, and their messages are acknowledged and delivered to nobody else.
    """

    TimeoutHandler: ClassVar[Any] = _InterruptingOnce

    def handed_over(self) -> list[_Job]:
        """Jobs that were written to a process, perhaps in part, and that it has not reported as begun."""
        return [
            job
            for job in tuple(self._cache.values())
            if job._write_to is not None and not job._accepted
        ]

    @override
    def flush(self) -> None:
        kept = self.handed_over()
        if not _is_running(self):
            _finish_writing(self, kept)
        for job in kept:
            job._accepted = True
        try:
            super().flush()
        finally:
            for job in kept:
                # One that has been accepted meanwhile has the pid of its process.
                job._accepted = job._worker_pid is not None
        for job in self.handed_over():
            if job._write_to is None or job._write_to._is_alive():
                continue
            # The process has died before it began.
            if _is_running(self):
                self._put_back(job)
            else:
                job.discard()

    @override
    def _worker_active(self, worker: _Process) -> bool:
        return super()._worker_active(worker) or any(
            job._write_to is worker for job in self.handed_over()
        )


def _finish_writing(pool: KeepingJobs, jobs: list[_Job]) -> None:
    # Celery does not when the worker stops. A process would read the order to end as the rest of its job.
    for job in jobs:
        writer, process = job._writer(), job._write_to
        if process is not None and writer in pool._active_writers:
            pool._flush_writer(process, writer)


def _is_running(pool: KeepingJobs) -> bool:
    return bool(pool._state == _pool.RUN)


def jobs_class_of(pool_class: type[PreforkPool]) -> type[object]:
    """What a class of prefork pools runs its processes with."""
    return pool_class.Pool


def blocking_jobs_class_of(pool_class: type[PreforkPool]) -> type[object]:
    """The same where the transport has no event loop."""
    kind: Any = pool_class
    found: type[object] = kind.BlockingPool
    return found


def tags_of_kept(pool: object) -> set[str]:
    """The delivery tags of jobs that a pool has handed to its processes and that these have not begun."""
    jobs: object = getattr(pool, "_pool", None)
    if not isinstance(jobs, KeepingJobs):
        return set()
    requests: list[Any] = [request_of(job._accept_callback) for job in jobs.handed_over()]
    return {one.message.delivery_tag for one in requests if one is not None}
