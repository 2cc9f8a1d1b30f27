"""AsyncioPool: a worker pool that runs thousands of tasks in one event loop."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from celery import signals
from celery.concurrency.base import BasePool
from celery.utils.log import get_logger
from kombu.asynchronous import get_event_loop
from typing_extensions import override

from tomskit.celery._internals.refusals import RefusedPoolError
from tomskit.celery._running.context import keep_by_execution
from tomskit.celery._running.execution import Limits
from tomskit.celery._tasks.task import AsyncTask
from tomskit.celery.asyncio_pool.blocking import BlockingCalls
from tomskit.celery.asyncio_pool.collector import Collector
from tomskit.celery.asyncio_pool.hub import LoopHub
from tomskit.celery.asyncio_pool.job import CoroutineJob, Job, PlainJob, Report, Revocable
from tomskit.celery.asyncio_pool.signals import quit_requested
from tomskit.celery.asyncio_pool.watchdog import Watchdog

if TYPE_CHECKING:
    from tomskit.celery._app import AsyncApp
    from tomskit.celery._internals.celery import LocalStack

__all__ = ("AsyncioPool",)

logger: Final = get_logger(__name__)

_FIRST_PID: Final = 1 << 22
"""Jobs are numbered from here, where Linux has no process ids any more."""


_NO_LIMITS: Final = Limits(None, None)

_Request = Mapping[str, Sequence[float | None] | None]


class _Lane:
    """The tasks of one kind: those that run, as many as `limit`, and those that wait."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.running: dict[int, Job] = {}
        self.waiting: deque[Job] = deque()

    def next(self) -> Job | None:
        """Take the next one that may run now."""
        if not self.waiting or len(self.running) >= self.limit:
            return None
        job = self.waiting.popleft()
        self.running[job.pid] = job
        return job


class AsyncioPool(BasePool):
    """Runs tasks in the event loop that the worker itself waits in.

    Async tasks run in the loop, `limit` at once; plain ones in threads, of which there are fewer.
    Slots are taken and given back in the worker's turn only, and Celery is told everything there.
    """

    signal_safe = False
    task_join_will_block = True
    body_can_be_buffer = True

    limit: int
    app: AsyncApp
    options: Mapping[str, object]

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
        self._async = _Lane(self.limit)
        threads = self.app.config.CELERY_WORKER_SYNC_CONCURRENCY
        self._plain = _Lane(threads)
        self._threads = ThreadPoolExecutor(threads, "tomskit-task")
        self._news: deque[Callable[[], object]] = deque()
        self._blocking = BlockingCalls(self.app, hub)
        self._context = copy_context()
        self._watchdog = Watchdog(hub, self.app.config.CELERY_WORKER_SLOW_CALLBACK_DURATION)
        self._collector = Collector()
        # Made once, and not for each task.
        self._told = self._tell
        self._free_async = partial(self._free, self._async)
        self._free_plain = partial(self._free, self._plain)
        self._closed = False

    # -- the life of the pool

    @override
    def on_start(self) -> None:
        self._context = copy_context()
        for task in self.app.tasks.values():
            keep_by_execution(cast("LocalStack", task.request_stack))
        self.app.blocking_calls = self._blocking
        cast("set[Callable[[], None]]", self._hub.on_tick).add(self._settle)
        self._watchdog.start()
        self._collector.relax()
        signals.worker_process_init.send(sender=None)

    @override
    def on_stop(self) -> None:
        """Let running tasks end; they are cancelled once a cold shutdown is asked for."""
        self._drain()
        self._close()

    @override
    def on_terminate(self) -> None:
        """Cancel what runs and let it clean up."""
        self._blocking.give_up()
        self._terminate_all()
        self._drain()
        self._close()

    @override
    def flush(self) -> None:
        """Forget what has not started: its messages are not acknowledged and come again."""
        self._async.waiting.clear()
        self._plain.waiting.clear()

    def _drain(self) -> None:
        self.flush()
        turns = self._hub.create_loop()
        terminated = False
        while self._async.running or (self._plain.running and not terminated):
            if quit_requested() and not terminated:
                terminated = True
                self._blocking.give_up()
                self._terminate_all()
            turns = self._turn(turns)
        # What the last ones have left to do: their messages are acknowledged here.
        self._turn(turns)

    def _turn(self, turns: Generator[None]) -> Generator[None]:
        try:
            next(turns)
        except StopIteration:
            return self._hub.create_loop()
        except Exception as exc:  # noqa: BLE001 (the broker is gone; the tasks are not)
            logger.warning("The broker was lost while tasks ended: %r", exc)
            self._hub.reset()
            return self._hub.create_loop()
        return turns

    def _terminate_all(self) -> None:
        for job in tuple(self._async.running.values()):
            job.terminate()

    def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        signals.worker_process_shutdown.send(sender=None, pid=os.getpid(), exitcode=0)
        self._watchdog.stop()
        self.app.blocking_calls = None
        self._collector.restore()
        self._blocking.close()
        self._threads.shutdown(wait=False)

    # -- tasks

    @override
    def on_apply(  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        target: Callable[..., object],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
        *,
        accept_callback: Callable[[int, float], object],
        callback: Callable[[object], object],
        error_callback: Callable[[object], object],
        timeout_callback: Callable[[bool, float], object],
        soft_timeout: float | None = None,
        timeout: float | None = None,
        **_: object,
    ) -> Job:
        """Run a task as soon as there is a slot for it."""
        name = str(args[0])
        in_loop = self._runs_in_loop(name)
        lane = self._async if in_loop else self._plain
        report = Report(
            next(self._pids),
            self._told,
            self._free_async if in_loop else self._free_plain,
            request=cast("Revocable | None", getattr(accept_callback, "__self__", None)),
            accepted=accept_callback,
            returned=callback,
            failed=error_callback,
            timed_out=timeout_callback,
        )
        tracer = partial(target, **kwargs) if kwargs else target
        if in_loop:
            job: Job = CoroutineJob(
                tracer,
                args,
                report,
                loop=self._hub.asyncio_loop,
                resources=self.app.resources,
                limits=self._limits_of(name, args[2], soft_timeout, timeout),
            )
        else:
            job = PlainJob(tracer, args, report, executor=self._threads)
        lane.waiting.append(job)
        self._start_waiting(lane)
        return job

    def _limits_of(
        self, name: str, request: object, soft: float | None, hard: float | None
    ) -> Limits:
        if isinstance(request, dict) and not any(cast("_Request", request).get("timelimit") or ()):
            # Celery has looked at the task when the worker began; `celery control time_limit` may
            # have changed it since.
            task = self.app.tasks[name]
            soft, hard = task.soft_time_limit, task.time_limit
        soft = soft or cast("float | None", self.options.get("soft_timeout"))
        hard = hard or cast("float | None", self.options.get("timeout"))
        return Limits(soft, hard) if soft or hard else _NO_LIMITS

    def _runs_in_loop(self, name: str) -> bool:
        return (
            isinstance(self.app.tasks[name], AsyncTask) and self.app.runtime_host.uses_async_runtime
        )

    def _free(self, lane: _Lane, pid: int) -> None:
        lane.running.pop(pid, None)
        self._start_waiting(lane)

    def _start_waiting(self, lane: _Lane) -> None:
        while (job := lane.next()) is not None:
            if job.report.is_revoked():
                # Since it waits: revoked, or too late by now. Celery has announced that.
                del lane.running[job.pid]
            else:
                job.start(self._context.copy())

    @override
    def terminate_job(self, pid: int, signal: int | None = None) -> None:
        job = self._async.running.get(pid) or self._plain.running.get(pid)
        if job is not None:
            job.terminate(signal)

    # -- what happened

    def _tell(self, news: Callable[[], object]) -> None:
        self._news.append(news)
        if self._hub.owns_this_thread():
            self._hub.wake()
        else:
            self._hub.asyncio_loop.call_soon_threadsafe(self._hub.wake)

    def _settle(self) -> None:
        """In the worker's turn: tell Celery what has happened."""
        while self._news:
            news = self._news.popleft()
            try:
                news()
            except Exception:
                logger.exception("Celery failed to handle the end of a task")

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

    def _get_info(self) -> dict[str, object]:
        base = cast("Callable[[], dict[str, object]]", super()._get_info)  # type: ignore[misc]
        return {
            **base(),
            "processes": [os.getpid()],
            "running": len(self._async.running),
            "waiting": len(self._async.waiting),
            "threads": self._plain.limit,
            "running-in-threads": len(self._plain.running),
            "waiting-for-threads": len(self._plain.waiting),
        }
