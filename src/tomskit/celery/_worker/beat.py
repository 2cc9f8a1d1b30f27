"""Beat, alone or in a worker, ends when it is told to.

Celery's ends by an exception that the handler of the signal raises, wherever beat is at that moment. A library
that is being called may make an error of its own of it, as redis-py does when its connection, which the handler
closes as well, is gone: beat logs that a task could not be sent, and goes on for ever.
"""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

from tomskit.celery._app import AsyncApp

if TYPE_CHECKING:
    from celery.beat import Service

__all__ = ("end_when_told",)


def end_when_told(sender: Service) -> None:
    """Let beat end on SIGTERM and SIGINT, at the latest after the tasks that it is sending."""
    if not isinstance(sender.app, AsyncApp):
        return
    if threading.current_thread() is not threading.main_thread():
        return
    scheduler = sender.scheduler
    tick = scheduler.tick
    is_told = False

    def end(*_: object) -> None:
        nonlocal is_told
        is_told = True
        # Cuts what beat waits for. Beat closes its scheduler when it ends.
        raise SystemExit

    def tick_unless_told() -> object:
        interval = tick()
        if is_told:
            raise SystemExit
        return interval

    vars(scheduler)["tick"] = tick_unless_told
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
