"""The tasks of the lean service, whose signals receivers log as they come."""

from __future__ import annotations

import logging
from typing import Any, Final

from celery import current_task, signals

from tests.integration.lean_service import app, echo

__all__ = ("app",)

logger: Final = logging.getLogger("watched")

_SIGNALS: Final = {
    "received": signals.task_received,
    "prerun": signals.task_prerun,
    "success": signals.task_success,
    "postrun": signals.task_postrun,
    "failure": signals.task_failure,
    "retry": signals.task_retry,
    "revoked": signals.task_revoked,
    "rejected": signals.task_rejected,
}
_SHOWN: Final = ("task_id", "args", "kwargs", "retval", "state", "result", "exception", "reason")


def _connect(name: str, signal: Any) -> None:
    def receive(sender: Any, **sent: Any) -> None:
        request = sent.get("request") or getattr(sender, "request", None)
        shown = {key: repr(sent[key]) for key in _SHOWN if key in sent}
        logger.warning(
            "SIGNAL %s of %s for %s: %s with %s, of %s, retries %s, current %s",
            name,
            getattr(sender, "name", type(sender).__name__),
            getattr(request, "id", None),
            shown,
            sorted(sent),
            getattr(request, "parent_id", None),
            getattr(request, "retries", None),
            getattr(current_task, "name", None),
        )

    signal.connect(receive, weak=False)


for _name, _signal in _SIGNALS.items():
    _connect(_name, _signal)


@signals.task_postrun.connect
def follow_up(sender: Any, args: Any, **_: object) -> None:
    """Send a task from a receiver, as plain code does."""
    if sender.name.endswith(".nothing"):
        echo.apply_async(("followed",), queue=sender.request.delivery_info["routing_key"])
