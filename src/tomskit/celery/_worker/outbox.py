"""The boot step that publishes messages that other processes have left."""

from __future__ import annotations

from importlib import import_module

from celery import bootsteps
from celery.concurrency.prefork import TaskPool as PreforkPool
from celery.worker.components import Pool
from typing_extensions import override

from tomskit.celery._app import AsyncApp
from tomskit.celery._internals.celery_worker import Worker
from tomskit.celery._outbox.relay import OutboxStats, Relay, gauge

__all__ = ("OutboxStep",)


class OutboxStep(bootsteps.StartStopStep):
    """Runs the relay where tasks run in the worker's own process, and shows what any relay has seen.

    The processes of a prefork pool have relays of their own: a thread in their parent would not
    survive the fork.
    """

    # Celery only reads it; its stubs declare a variable.
    requires = ("celery.worker.components:Pool",)  # type: ignore[mutable-override]

    def __init__(self, parent: Worker, **kwargs: object) -> None:
        super().__init__(parent, **kwargs)
        self._in_process = not issubclass(parent.pool_cls, PreforkPool)
        self._relay: Relay | None = None
        # Now, so that no task waits for it, and the processes of a pool share what it brings.
        import_module("tomskit.celery._outbox.once")

    @override
    def include(self, parent: Worker) -> bool:
        # Steps stop in reverse: after the pool. A relay that waits for a silent database is waited for, and
        # the tasks that run would wait for it as well, where they share the worker's thread.
        places = [place for place, step in enumerate(parent.steps) if isinstance(step, Pool)]
        parent.steps.insert(places[0] if places else len(parent.steps), self)
        return True

    @override
    def start(self, parent: Worker) -> None:
        if self._in_process and isinstance(parent.app, AsyncApp):
            self._relay = Relay(parent.app)
            self._relay.start()

    @override
    def stop(self, parent: Worker) -> None:
        relay, self._relay = self._relay, None
        if relay is not None:
            relay.stop()

    @override
    def terminate(self, parent: Worker) -> None:
        self.stop(parent)

    # Its stubs take None for all that any step answers.
    @override
    def info(self, obj: Worker) -> dict[str, OutboxStats | None]:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        return {"outbox": gauge.stats()}
