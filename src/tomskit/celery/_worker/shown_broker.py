"""The boot step that hides a password in what ``celery inspect stats`` shows."""

from __future__ import annotations

from typing import Any

from celery import bootsteps
from celery.worker.consumer.connection import Connection
from typing_extensions import override

from tomskit.celery._worker.overview import masked

__all__ = ("ShownBrokerStep",)


class ShownBrokerStep(bootsteps.StartStopStep):
    """Shows the broker as Celery does, which leaves out a password.

    That of a broker that is reached by a Unix socket is in the name of the host, which for kombu is the whole URL.
    """

    # Celery only reads it; its stubs declare a variable.
    requires = ("celery.worker.consumer.connection:Connection",)  # type: ignore[mutable-override]

    @override
    def info(self, obj: Any) -> Any:  # Celery's stubs know of no answer
        step: Any = Connection
        shown: dict[str, Any] = step.info(self, obj)
        broker: Any = shown["broker"]
        if obj.connection is not None:
            broker["hostname"] = masked(str(broker["hostname"]))
        return shown
