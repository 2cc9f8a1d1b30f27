"""The prefork pool.

Its tasks run once even if the connection to the broker is lost as they begin, and a soft limit interrupts their code
and nothing else.
"""

from __future__ import annotations

import signal
from functools import partial
from typing import Any, Final

from typing_extensions import override

from tomskit.celery._internals.celery_prefork import (
    AsyncProcess,
    BlockingProcess,
    KeepingJobs,
    PoolProcess,
    PreforkPool,
    blocking_jobs_class_of,
    jobs_class_of,
)
from tomskit.celery._running.gate import gate
from tomskit.celery.fast_redis.parts import in_front

__all__ = ("keeping_prefork_pool",)


class _Guarded(PoolProcess):
    """Interrupted at soft limits while the code of a task runs."""

    @override
    def after_fork(self) -> None:
        super().after_fork()
        interrupt: Any = signal.getsignal(signal.SIGUSR1)
        if callable(interrupt):
            gate.guard(partial(interrupt, signal.SIGUSR1, None))
            signal.signal(signal.SIGUSR1, _on_signal)

    @override
    def on_loop_start(self, pid: int) -> None:
        receive = self.wait_for_job

        def wait_for_job() -> tuple[object, tuple[Any, ...]] | None:
            received = receive()
            if received:
                _, (_, _, _, args, _) = received
                gate.begin(args[0] if args else None)
            return received

        self.wait_for_job = wait_for_job
        super().on_loop_start(pid)


class _GuardedAsyncProcess(_Guarded, AsyncProcess):
    """As Celery runs them. Processes that are spawned find it by its name."""


class _GuardedBlockingProcess(_Guarded, BlockingProcess):
    """The same for a transport without an event loop."""


_GUARDED: Final[dict[object, type[PoolProcess]]] = {
    AsyncProcess: _GuardedAsyncProcess,
    BlockingProcess: _GuardedBlockingProcess,
}


def _on_signal(*_: object) -> None:
    gate.on_signal()


def keeping_prefork_pool(base: type[PreforkPool]) -> type[PreforkPool]:
    """Return a subclass of `base` that keeps the jobs it has handed to its processes."""
    made: Any = in_front(base)
    made.Pool = _guarded(in_front(jobs_class_of(base), KeepingJobs))
    made.BlockingPool = _guarded(in_front(blocking_jobs_class_of(base)))
    kind: type[PreforkPool] = made
    return kind


def _guarded(jobs: Any) -> type[object]:
    # A class of an application's stays as it is.
    jobs.Worker = _GUARDED.get(jobs.Worker, jobs.Worker)
    kind: type[object] = jobs
    return kind
