"""AsyncioPool: a worker pool that runs thousands of tasks in one event loop."""

from __future__ import annotations

import itertools
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from celery import Task, signals
from celery.utils.log import get_logger
from kombu.asynchronous import get_event_loop
from typing_extensions import override

from tomskit.celery._internals.celery import request_stack_of
from tomskit.celery._internals.celery_worker import (
    TaskPool,
    quit_requested,
    request_of,
    sets_limits,
)
from tomskit.celery._internals.kombu import call_in_each_turn
from tomskit.celery._internals.refusals import RefusedPoolError
from tomskit.celery._running.context import keep_by_execution
from tomskit.celery._running.places import set_outer_place
from tomskit.celery._running.steering import NO_LIMITS, Limits
from tomskit.celery._running.stream_lines import write_together
from tomskit.celery._running.turns import Turns
from tomskit.celery._tasks.task import AsyncTask
from tomskit.celery.asyncio_pool.backend import BackendCalls
from tomskit.celery.asyncio_pool.collector import Collector
from tomskit.celery.asyncio_pool.hub import LoopHub
from tomskit.celery.asyncio_pool.job import CoroutineJob, Job, PlainJob, name_in, request_in
from tomskit.celery.asyncio_pool.lean_job import LeanJob
from tomskit.celery.asyncio_pool.report import Callbacks, Report, ignore, log_failure
from tomskit.celery.asyncio_pool.watchdog import Watchdog

if TYPE_CHECKING:
    from billiard.einfo import ExceptionInfo

    from tomskit.celery._app import AsyncApp
    from tomskit.celery._internals.celery_request import LeanRequest
    from tomskit.celery.asyncio_pool.redis_results import RedisResults

__all__ = ("AsyncioPool",)

logger: Final = get_logger(__name__)

_FIRST_PID: Final = 1 << 22
"""Jobs are numbered from here: Linux has no process ids as high as this."""

_FEWEST_AT_ONCE: Final = 40
_MOST_AT_ONCE: Final = 100
"""How many tasks begin in one turn. Those that end in it are acknowledged before the next ones begin: what
has ended and is not acknowledged runs again if the worker is killed. Fewer make the worker slower."""
_TURN_SECONDS: Final = 0.01
"""How long such a turn may take, where it is no matter of the fewest."""


class _Slots:
    """Slots for tasks of one kind: those that run, as many as `limit`, and those that wait."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.running: dict[int, Job] = {}
        self.waiting: deque[Job] = deque()


class AsyncioPool(TaskPool):
    """Runs tasks in the event loop that the worker itself waits in.

    Async tasks run in the loop, `limit` at once; plain ones in threads, of which there are fewer.
    Slots are taken and given back, and Celery's callbacks called, in the worker's turns only.
    """

    signal_safe = False
    task_join_will_block = True
    body_can_be_buffer = True

    limit: int
    app: AsyncApp

    def __init__(self, limit: int | None = None, **options: Any) -> None:
        super().__init__(limit, **options)
        hub = get_event_loop()
        if not isinstance(hub, LoopHub):
            raise RefusedPoolError(
                "The asyncio pool runs the tasks of an AsyncCelery app, and this is a "
                f"{type(self.app).__name__}: app = AsyncCelery('proj', config=CeleryConfig())"
            )
        self._hub = hub
        self._pids = itertools.count(_FIRST_PID)
        self._async = _Slots(self.limit)
        threads = self.app.config.CELERY_WORKER_SYNC_CONCURRENCY
        self._plain = _Slots(threads)
        self._threads = ThreadPoolExecutor(threads, "tomskit-task")
        self._limits = Limits(options.get("soft_timeout"), options.get("timeout"))
        self._calls: deque[Callable[[], object]] = deque()
        self._backend = BackendCalls(self.app, hub)
        self._results: RedisResults | None = None
        self._context = copy_context()
        self._watchdog = Watchdog(hub, self.app.config.CELERY_WORKER_SLOW_CALLBACK_DURATION)
        self._collector = Collector()
        # Made once, and not for each task.
        self._call_in_turn = self._call_in_next_turn
        self._at_once = self._may_begin = _FEWEST_AT_ONCE
        self._turn_began = 0.0
        self._is_woken = False
        self._closed = False
        self._lean = 0

    # -- the life of the pool

    @override
    def on_start(self) -> None:
        self._context = copy_context()
        for task in self.app.tasks.values():
            keep_by_execution(request_stack_of(task))
        self.app.async_client.given_up.clear()
        self.app.pool_backend = self._backend.wrap
        set_outer_place(self._hub.place)
        self._hub.make_calls = self._make_calls
        call_in_each_turn(self._hub, self._begin_turn)
        write_together(self._hub.asyncio_loop.call_soon)
        self._watchdog.start()
        self._collector.relax()
        signals.worker_process_init.send(sender=None)

    @override
    def on_stop(self) -> None:
        """Let running tasks end; a cold shutdown cancels them."""
        self._drain()
        self._close()

    @override
    def on_terminate(self) -> None:
        """Cancel running tasks and let them clean up."""
        self.app.async_client.given_up.set()
        self._terminate_all()
        self._drain()
        self._close()

    @override
    def flush(self) -> None:
        """Forget tasks that have not started; their messages are delivered again."""
        self._async.waiting.clear()
        self._plain.waiting.clear()

    def _drain(self) -> None:
        self.flush()
        turns = Turns(self._hub)
        terminated = False
        while self._async.running or (self._plain.running and not terminated):
            if quit_requested() and not terminated:
                terminated = True
                self.app.async_client.given_up.set()
                self._terminate_all()
            turns.take()
        # Acknowledges the messages of the last ones.
        turns.take()

    def _terminate_all(self) -> None:
        for job in tuple(self._async.running.values()):
            job.terminate()

    def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        signals.worker_process_shutdown.send(sender=None, pid=os.getpid(), exitcode=0)
        self._watchdog.stop()
        write_together(None)
        self.app.pool_backend = None
        set_outer_place(None)
        self._collector.restore()
        self._backend.close()
        self._threads.shutdown(wait=False)

    # -- tasks

    @override
    def on_apply(  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        target: Callable[..., object],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
        *,
        accept_callback: Callable[[int, float], object] = ignore,
        callback: Callable[[object], object] = ignore,
        error_callback: Callable[[ExceptionInfo], object] = log_failure,
        timeout_callback: Callable[[bool, float], object] = ignore,
        soft_timeout: float | None = None,
        timeout: float | None = None,
        **_: object,
    ) -> Job:
        """Run a task as soon as there is a slot for it.

        Celery gives its tracer and all of the callbacks. Other packages give functions of their own, such
        as celery-batches, whose first argument is the task.
        """
        name = name_in(args)
        in_loop = self._runs_in_loop(name)
        slots = self._async if in_loop else self._plain
        report = Report(
            next(self._pids),
            Callbacks(
                request=request_of(accept_callback),
                on_accepted=accept_callback,
                on_success=callback,
                on_failure=error_callback,
                on_timeout=timeout_callback,
            ),
            self._call_in_turn,
            slots.running.pop,
        )
        tracer = partial(target, **kwargs) if kwargs else target
        if in_loop:
            if not sets_limits(request_in(args)):
                # Celery has read those of the task when the worker started.
                soft_timeout = timeout = None
            job: Job = CoroutineJob(
                tracer,
                args,
                report,
                loop=self._hub.asyncio_loop,
                limits=self._limits_of(self.app.tasks[name], soft_timeout, timeout),
                failures=self._backend.failures,
            )
        else:
            job = PlainJob(tracer, args, report, executor=self._threads)
        slots.waiting.append(job)
        self._start_waiting(slots)
        return job

    @property
    def stores_in_loop(self) -> bool:
        """Whether results can be stored without Celery's tracer around a task."""
        if self._results is None:
            self._results = self._backend.in_loop
        return self._results is not None

    def apply_lean(self, request: LeanRequest) -> Job:
        """Run the task of a request as soon as there is a slot for it."""
        hard, soft = request.time_limits
        report = Report(next(self._pids), request, self._call_in_turn, self._async.running.pop)
        job = LeanJob(
            request,
            report,
            loop=self._hub.asyncio_loop,
            limits=self._limits_of(request.task, soft, hard),
            failures=self._backend.failures,
            results=None if request.ignore_result else self._results,
        )
        self._lean += 1
        self._async.waiting.append(job)
        self._start_waiting(self._async)
        return job

    def _limits_of(self, task: Task[..., object], soft: float | None, hard: float | None) -> Limits:
        """The limits that hold for a call, which may have set some itself."""
        if not (soft or hard):
            # Read for each call: `celery control time_limit` changes them.
            soft, hard = task.soft_time_limit, task.time_limit
        soft, hard = soft or self._limits.soft, hard or self._limits.hard
        return Limits(soft, hard) if soft or hard else NO_LIMITS

    def _runs_in_loop(self, name: str) -> bool:
        return (
            isinstance(self.app.tasks.get(name), AsyncTask)
            and self.app.runtime_host.uses_async_runtime
        )

    def _start_waiting(self, slots: _Slots) -> None:
        waiting, running = slots.waiting, slots.running
        while waiting and len(running) < slots.limit:
            if self._may_begin <= 0:
                self._hub.begin_turn_soon()
                return
            job = waiting.popleft()
            # It may have been revoked while it waited, or have expired. Celery announces that.
            report = job.report
            if not report.told.revoked():
                running[report.pid] = job
                job.start(self._context.copy())
                self._may_begin -= 1

    @override
    def terminate_job(self, pid: int, signal: int | None = None) -> None:
        job = self._async.running.get(pid) or self._plain.running.get(pid)
        if job is not None:
            job.terminate(signal)

    # -- Celery's callbacks

    def _call_in_next_turn(self, callback: Callable[[], object]) -> None:
        self._calls.append(callback)
        if self._hub.owns_this_thread():
            # Once a turn: most of those that end in one come together.
            self._is_woken = self._is_woken or self._hub.wake()
        else:
            self._hub.asyncio_loop.call_soon_threadsafe(self._hub.wake)

    def _begin_turn(self) -> None:
        if self._make_calls():
            # What they acknowledge may have missed the broker's part of this turn.
            self._hub.begin_turn_soon()
        now = time.monotonic()
        if self._may_begin <= 0:
            too_long = now - self._turn_began > _TURN_SECONDS
            at_once = self._at_once * (0.8 if too_long else 1.25)
            self._at_once = int(min(max(at_once, _FEWEST_AT_ONCE), _MOST_AT_ONCE))
        self._turn_began, self._may_begin = now, self._at_once
        self._start_waiting(self._async)
        self._start_waiting(self._plain)

    def _make_calls(self) -> bool:
        """Make the calls that are due; whether there were any."""
        if not self._calls:
            return False
        self._is_woken = False
        while self._calls:
            callback = self._calls.popleft()
            try:
                callback()
            except Exception:
                logger.exception("Celery failed to handle the end of a task")
        self._start_waiting(self._async)
        self._start_waiting(self._plain)
        self._collector.look()
        return True

    # -- its size

    @property
    @override
    def num_processes(self) -> int:
        return self.limit

    def grow(self, n: int = 1) -> None:
        """Run `n` more tasks at once."""
        self.limit += n
        self._async.limit = self.limit
        self._start_waiting(self._async)

    def shrink(self, n: int = 1) -> None:
        """Run `n` fewer tasks at once. Those that run already run on."""
        if n >= self.limit:
            raise ValueError(f"A pool of {self.limit} cannot be made smaller by {n}.")
        self.limit -= n
        self._async.limit = self.limit

    @override
    def _get_info(self) -> dict[str, object]:
        return {
            **super()._get_info(),
            "processes": [os.getpid()],
            "lean": self._lean,
            "running": len(self._async.running),
            "waiting": len(self._async.waiting),
            "threads": self._plain.limit,
            "running-in-threads": len(self._plain.running),
            "waiting-for-threads": len(self._plain.waiting),
        }
