"""The health file: touched while a worker turns and its broker answers, for probes that cost nothing."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from celery import bootsteps
from celery.utils.nodenames import node_format
from typing_extensions import override

from tomskit.celery._app import AsyncApp
from tomskit.celery._internals.refusals import RefusedSettingsError

if TYPE_CHECKING:
    from celery import Celery

    from tomskit.celery._internals.celery_worker import Worker

__all__ = ("INTERVAL", "HealthStep", "health_file")

logger: Final = logging.getLogger(__name__)

INTERVAL: Final = 5.0
"""Seconds between two touches."""


def health_file(path: str, hostname: str) -> Path:
    """The health file of a worker.

    Args:
        path: As in CELERY_WORKER_HEALTH_FILE.
        hostname: The worker's name, which ``%n`` and its like stand for.

    Raises:
        RefusedSettingsError: Its folder is not there, or not for this process to write to.
    """
    file = Path(node_format(path, hostname))
    if not (file.parent.is_dir() and os.access(file.parent, os.W_OK)):
        raise RefusedSettingsError(
            f"CELERY_WORKER_HEALTH_FILE is {file}, and {file.parent} is not a folder that "
            "this process may write to: make it, or name another file."
        )
    return file


class HealthStep(bootsteps.StartStopStep):
    """Touches the file that CELERY_WORKER_HEALTH_FILE names.

    Two things have to be true since the last touch: a timer of the worker's own loop has gone off, and
    the broker has answered on a new connection. In a soft shutdown only the second has to be, as timers do
    not go off in it. The file appears with the first touch, and is
    removed when the worker stops.
    """

    # Celery only reads it; its stubs declare a variable.
    requires = ("celery.worker.components:Timer", "celery.worker.components:Pool")  # type: ignore[mutable-override]

    def __init__(self, parent: Worker, **kwargs: object) -> None:
        super().__init__(parent, **kwargs)
        app = parent.app
        path = app.config.CELERY_WORKER_HEALTH_FILE if isinstance(app, AsyncApp) else None
        self.enabled = path is not None
        if path is None:
            return
        self._path = health_file(path, parent.hostname)
        self._remove_stale()
        self._app: Celery = app
        self._turned = threading.Event()
        self._in_soft_shutdown = False
        self._stopping = threading.Event()
        self._is_ill = False
        self._thread: threading.Thread | None = None

    def _remove_stale(self) -> None:
        try:
            self._path.unlink(missing_ok=True)  # an earlier worker may have been killed
        except OSError as exc:
            raise RefusedSettingsError(
                f"CELERY_WORKER_HEALTH_FILE is {self._path}, which is there and cannot be replaced "
                f"({exc.strerror}): remove it, or name another file."
            ) from None

    @override
    def start(self, parent: Worker) -> None:
        parent.timer.call_repeatedly(INTERVAL, self._turned.set)
        self._turned.set()
        parent.wait_for_soft_shutdown = partial(self._wait, parent.wait_for_soft_shutdown)
        self._thread = threading.Thread(target=self._touch, name="tomskit-health", daemon=True)
        self._thread.start()

    @override
    def stop(self, parent: Worker) -> None:
        self._stopping.set()
        if self._thread is not None:
            # A connection in the making has its own time-outs; nothing depends on its outcome.
            self._thread.join(1.0)
        with suppress(OSError):  # its folder may be gone
            self._path.unlink(missing_ok=True)

    def _wait(self, wait: Callable[[], object]) -> None:
        self._in_soft_shutdown = True
        wait()

    @override
    def terminate(self, parent: Worker) -> None:
        self.stop(parent)

    def _touch(self) -> None:
        while not self._stopping.is_set():
            fault = self._fault()
            if self._stopping.is_set():
                return
            if fault is None:
                self._turned.clear()
                fault = self._write()
            if fault is not None and not self._is_ill:
                logger.warning(
                    "CELERY_WORKER_HEALTH_FILE is not touched while this lasts: %s", fault
                )
            self._is_ill = fault is not None
            self._stopping.wait(INTERVAL)

    def _write(self) -> str | None:
        try:
            self._path.touch()
        except OSError as exc:
            return f"{self._path} cannot be written ({exc.strerror})"
        return None

    def _fault(self) -> str | None:
        try:
            with self._app.connection_for_read() as connection:
                connection.connect()
                connection.default_channel  # noqa: B018 (kombu's Redis sends a PING for it)
        except Exception as exc:  # noqa: BLE001 (whatever it is, the broker is not to be had)
            return f"the broker does not answer ({exc})"
        # Last, as it may have come while the broker was asked.
        if self._turned.is_set() or self._in_soft_shutdown:
            return None
        return "the worker's loop stands still"
