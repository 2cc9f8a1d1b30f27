"""Turns of a worker's own event loop while it waits for its tasks to end."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from kombu.asynchronous import Hub

__all__ = ("Turns",)

logger: Final = logging.getLogger(__name__)


class Turns:
    """In a turn the worker hears of tasks that have ended, and acknowledges them.

    Args:
        hub: The worker's loop, in whose thread this is used.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._turns = hub.create_loop()

    def take(self) -> None:
        """Take a turn: wait until something happens, for a second at most."""
        try:
            next(self._turns)
        except StopIteration:
            self._turns = self._hub.create_loop()
        except Exception as exc:  # noqa: BLE001 (the broker is gone; the tasks are not)
            logger.warning("Lost the broker while waiting for tasks to end: %r", exc)
            self._hub.reset()
            self._turns = self._hub.create_loop()
