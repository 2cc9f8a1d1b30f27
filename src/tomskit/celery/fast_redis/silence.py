"""A broker that is silent while its worker stops: one wait shows it, and the others are short."""

from __future__ import annotations

import time
from typing import Final

from celery.utils.log import get_logger

__all__ = ("silence",)

logger: Final = get_logger(__name__)

_SECONDS: Final = 2.0
"""How long new connections may take in all to answer, once one was silent."""

_AT_ONCE: Final = 0.01
"""Seconds for what has arrived already."""


class _Silence:
    """What the connections of a worker that stops know of their broker.

    A worker has several connections, and each part of it that stops has something to say on its own:
    without this, each would wait for the whole timeout. Once one has waited in vain, the others that there
    were are given up, and new ones have a few seconds in all: where only connections were lost, messages
    can still be acknowledged and given back on new ones.
    """

    def __init__(self) -> None:
        self._found_at: float | None = None
        self._left = 0.0

    def limit(self, made_at: float) -> float | None:
        """How long a connection may wait, which was made at this time; None is as long as is set."""
        if not self._lasts():
            return None
        return _AT_ONCE if self._outdates(made_at) else max(self._left, _AT_ONCE)

    def ends(self, made_at: float) -> bool:
        """Whether a connection that was made at this time is to be given up."""
        return self._lasts() and self._outdates(made_at)

    def found(self, waited: float) -> None:
        """Note that a connection was waited for in vain, for so many seconds."""
        if not _worker_stops():
            return
        if not self._lasts():
            self._found_at, self._left = time.monotonic(), _SECONDS
            logger.warning(
                "The broker has not answered for %.0f s while the worker stops: it gives up its connections, "
                "and tries new ones for %.0f s",
                waited,
                _SECONDS,
            )
        elif self._left > 0:
            self._left -= waited
            if self._left <= 0:
                logger.warning(
                    "The broker does not answer on new connections either, and the worker stops without it: "
                    "messages that are not acknowledged are delivered again after the visibility timeout"
                )

    def _lasts(self) -> bool:
        if self._found_at is not None and not _worker_stops():
            # Another worker in the same process.
            self._found_at = None
        return self._found_at is not None

    def _outdates(self, made_at: float) -> bool:
        return self._found_at is not None and made_at < self._found_at


def _worker_stops() -> bool:
    # Clients come here as well, which need nothing of the worker.
    from tomskit.celery._internals.celery_worker import quit_requested, stop_requested

    return stop_requested() or quit_requested()


silence: Final = _Silence()
